"""The standard streams of a container that its starter holds himself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from podlite.runtime.streams import FileReceiveStream, FileSendStream

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime


class ContainerStreams:
    """See podlite.cri.services.ExecStream; leaving its context kills the container and removes it."""

    def __init__(self, runtime: Runtime, container_id: str, fds: dict[str, int]) -> None:
        self.stdin: ByteSendStream | None = FileSendStream(fds["stdin"]) if "stdin" in fds else None
        self.stdout: ByteReceiveStream | None = FileReceiveStream(fds["stdout"])
        self.stderr: ByteReceiveStream | None = FileReceiveStream(fds["stderr"])
        self._runtime = runtime
        self._container = runtime.store.container(container_id)

    async def resize(self, width: int, height: int) -> None:
        """There is no terminal."""

    async def wait(self) -> int:
        await self._container.exited.wait()
        return self._container.exit_code

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._runtime.remove_container(self._container.id)
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()
            self.stdin = self.stdout = self.stderr = None

    async def __aenter__(self) -> ContainerStreams:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()
