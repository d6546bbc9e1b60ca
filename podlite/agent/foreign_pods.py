"""Pods that another podlite on this machine runs: what can be done with them goes through their shims, as its guest."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from podlite.agent.pod_socket import NoShimError, connect
from podlite.errors import PodliteError, only_error
from podlite.runtime import channel
from podlite.runtime.shim import protocol
from podlite.runtime.shim_client import ShimClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from podlite.kubelet.written_pods import WrittenPod

__all__ = ["NoShimError", "ask_to_delete", "open_shim"]

# A shim answers at once, if it answers at all.
ANSWER_SECONDS = 10.0


def ask_to_delete(written: WrittenPod, grace: int) -> None:
    """Has the pod's own podlite end and remove it; `grace` is seconds, -1 for the pod's own. Blocking.

    Raises PodliteError.
    """
    name = f"{written.pod.metadata.namespace}/{written.pod.metadata.name}"
    with connect(written) as sock:
        sock.settimeout(ANSWER_SECONDS)
        try:
            protocol.send(sock, {"m": "delete", "grace": grace, "id": 1})
            received = protocol.receive(sock)
        except (OSError, protocol.ProtocolError) as error:
            raise PodliteError(f"the shim of pod {name} does not answer: {error}") from error
    if received is not None and received[0]["m"] == "failed":
        raise PodliteError(f"pod {name}: {channel.failure_text(received[0])}")


@asynccontextmanager
async def open_shim(written: WrittenPod) -> AsyncIterator[ShimClient]:
    """The pod's shim, as its guest. Raises NoShimError."""
    sock = await anyio.to_thread.run_sync(connect, written)
    meta = written.pod.metadata
    try:
        async with anyio.create_task_group() as tasks:
            shim = ShimClient(sock, ids={"pod": f"{meta.namespace}/{meta.name}"})
            shim.start_serving(tasks)
            try:
                yield shim
            finally:
                shim.close()
    except BaseExceptionGroup as group:
        raise only_error(group) from None
