"""hostPath: a file or directory of the machine's own, checked or made as its type says.

Source: pkg/volume/hostpath/host_path.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.kubelet.volumes.context import Context

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def set_up(context: Context) -> str:
    """The host's path. Blocking; idempotent. Raises KubeletError with the kubelet's text."""
    source = context.volume.host_path
    assert source is not None
    path, kind = source.path, source.type or ""
    if ".." in path.split("/"):
        raise KubeletError(f"invalid HostPath `{path}`: must not contain '..'")
    if not kind:
        return path
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0
    if kind.endswith("OrCreate") and not mode:
        _make(path, kind)
        return path
    name = kind.removesuffix("OrCreate")
    if name not in _CHECKS:
        raise KubeletError(f"{kind} is an invalid volume type")
    check, noun = _CHECKS[name]
    if not check(mode):
        raise KubeletError(f"hostPath type check failed: {path} is not {noun}")
    return path


def _make(path: str, kind: str) -> None:
    try:
        if kind == "DirectoryOrCreate":
            os.makedirs(path, mode=0o755, exist_ok=True)
        elif kind == "FileOrCreate":
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        else:
            raise KubeletError(f"{kind} is an invalid volume type")
    except OSError as error:
        call = "mkdir" if kind == "DirectoryOrCreate" else "open"
        raise KubeletError(f"{call} {error.filename or path}: {(error.strerror or '').lower()}") from error
