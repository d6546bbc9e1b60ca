"""Attach: the output of a container's first process from now on, and its standard input."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from podlite.cri.errors import FailedPreconditionError
from podlite.runtime.shim_client import ShimClient
from podlite.runtime.streams import FileReceiveStream, FileSendStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from podlite.runtime.service import Runtime


class Attached:
    """An attachment; see podlite.cri.services.ExecStream. The container goes on when it is closed."""

    def __init__(self, shim: ShimClient, container_id: str, wait: Callable[[], Awaitable[int]]) -> None:
        self.stdin: ByteSendStream | None = None
        self.stdout: ByteReceiveStream | None = None
        self.stderr: ByteReceiveStream | None = None
        self._shim = shim
        self._container_id = container_id
        self._wait = wait

    async def resize(self, width: int, height: int) -> None:
        await self._shim.request({"m": "resize", "container": self._container_id, "width": width, "height": height})

    async def wait(self) -> int:
        return await self._wait()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()
            self.stdin = self.stdout = self.stderr = None

    async def __aenter__(self) -> Attached:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


async def attach_to(
    shim: ShimClient,
    container_id: str,
    wait: Callable[[], Awaitable[int]],
    *,
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
) -> Attached:
    """Attaches to a running container through its shim. Raises FailedPreconditionError, UnavailableError."""
    ours: dict[str, int] = {}
    theirs: list[int] = []
    stdio: dict[str, int] = {}
    try:
        for name, wanted in (("stdout", stdout), ("stderr", stderr and not tty)):
            if wanted:
                ours[name], write = os.pipe2(os.O_CLOEXEC)
                stdio[name] = len(theirs)
                theirs.append(write)
        message = {"m": "attach", "container": container_id, "stdin": stdin, "stdio": stdio}
        _, received = await shim.request(message, theirs)
    except BaseException:
        for fd in ours.values():
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    result = Attached(shim, container_id, wait)
    if received:
        result.stdin = FileSendStream(received[0])
    if "stdout" in ours:
        result.stdout = FileReceiveStream(ours["stdout"])
    if "stderr" in ours:
        result.stderr = FileReceiveStream(ours["stderr"])
    return result


async def attach_container(
    runtime: Runtime, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
) -> Attached:
    """See RuntimeService.attach."""
    container = runtime.store.running_container(container_id)
    shim = container.sandbox.shim
    if shim is None:
        raise FailedPreconditionError(f"the shim of container {container.id} is gone")

    async def wait() -> int:
        await container.exited.wait()
        return container.exit_code

    return await attach_to(shim, container.id, wait, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
