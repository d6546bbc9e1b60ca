"""Pipes and terminals as byte streams on the event loop."""

from __future__ import annotations

import errno
import os

import anyio
import anyio.lowlevel
from anyio.abc import ByteReceiveStream, ByteSendStream

from podlite.readiness import notify_closing, wait_readable, wait_writable


class FileReceiveStream(ByteReceiveStream):
    """Reads from a descriptor that can be polled; owns it.

    With `terminal`, the error that a terminal's master reports when nobody has the terminal open any more is
    the end of the stream.
    """

    def __init__(self, fd: int, *, terminal: bool = False) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._terminal = terminal

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while True:
            if self._fd < 0:
                raise anyio.ClosedResourceError
            try:
                data = os.read(self._fd, max_bytes)
            except BlockingIOError:
                await wait_readable(self._fd)
                continue
            except OSError as error:
                if self._terminal and error.errno == errno.EIO:
                    raise anyio.EndOfStream from None
                raise anyio.BrokenResourceError from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def aclose(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            await _close(fd)


class FileSendStream(ByteSendStream):
    """Writes to a descriptor that can be polled; owns it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def send(self, item: bytes) -> None:
        view = memoryview(item)
        while view:
            if self._fd < 0:
                raise anyio.ClosedResourceError
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await wait_writable(self._fd)
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            await _close(fd)


async def _close(fd: int) -> None:
    """Closes a descriptor once whoever waits for it has been told: its number may be another's a moment later."""
    notify_closing(fd)
    try:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
    finally:
        os.close(fd)
