"""Attaching to a container of a pod that another process runs, whichever runtime has it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from podlite.agent.foreign_pods import open_shim
from podlite.runtime.container.attach import attach_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from podlite.cli.exec_streams import Execution
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.container.attach import Attached
    from podlite.runtime.shim_client import ShimClient


@asynccontextmanager
async def open_attachment(
    found: WrittenPod, container_id: str, ended: Callable[[], Awaitable[int]], *, tty: bool, stdin: bool
) -> AsyncIterator[Execution]:
    """The container's streams, standard input with `stdin`; `ended` gives its exit code once it has ended.

    Signals go to the container's first process; on another runtime, which cannot be asked for that, they end the
    attachment. Raises NoShimError, CRIError.
    """
    if found.holder.runtime_endpoint:
        from podlite.cli import remote_pod

        async with remote_pod.open_attachment(found, container_id, ended, tty=tty, stdin=stdin) as remote:
            yield remote
        return
    async with open_shim(found) as shim:
        attached = await attach_to(shim, container_id, ended, tty=tty, stdin=stdin, stdout=True, stderr=not tty)
        async with attached:
            yield _Signalled(attached, shim, container_id)


class _Signalled:
    """An attachment that signals can be sent through, as an exec's; see podlite.cli.exec_streams.Session."""

    def __init__(self, attached: Attached, shim: ShimClient, container_id: str) -> None:
        self.stdin = attached.stdin
        self.stdout = attached.stdout
        self.stderr = attached.stderr
        self.resize = attached.resize
        self.wait = attached.wait
        self._shim = shim
        self._container_id = container_id

    async def signal(self, number: int) -> None:
        await self._shim.signal(number, container=self._container_id)
