"""Where a pod that another process runs can be asked: its shim's socket, or its door on another runtime."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.errors import PodliteError
from podlite.kubelet.written_pods import DOOR

if TYPE_CHECKING:
    import socket

    from podlite.kubelet.written_pods import WrittenPod


class NoShimError(PodliteError):
    """The pod has no shim that could be asked: it has no sandbox yet, or it has ended."""


def sandbox_directories(found: WrittenPod) -> list[str]:
    """The directories of a pod's sandboxes, the newest first: `<uid>`, later attempts `<uid>.<attempt>`. Blocking."""
    parent, uid = os.path.split(found.directory)
    try:
        names = [name for name in os.listdir(parent) if name.partition(".")[0] == uid]
    except FileNotFoundError:
        return []
    return [f"{parent}/{name}" for name in sorted(names, key=_attempt, reverse=True)]


def _attempt(name: str) -> int:
    attempt = name.partition(".")[2]
    return int(attempt) if attempt.isdecimal() else 0


def connect(found: WrittenPod) -> socket.socket:
    """A connection to the pod's live shim, or its door (podlite.agent.pod_doors). Blocking. Raises NoShimError."""
    from podlite.runtime import shim_client

    meta = found.pod.metadata
    if found.holder.runtime_endpoint:
        try:
            return shim_client.connect(found.directory, DOOR)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NoShimError(
                f"the process that runs pod {meta.namespace}/{meta.name}, {found.holder.pid}, does not listen"
            ) from None
    for directory in sandbox_directories(found):
        try:
            return shim_client.connect(directory)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            continue
    raise NoShimError(f"nothing of pod {meta.namespace}/{meta.name} is running: it has no sandbox now")
