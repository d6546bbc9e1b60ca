"""Two ends of a byte stream within one process, with the buffer of a socket."""

from __future__ import annotations

import socket

import anyio
from anyio.abc import ByteStream

from podlite.runtime.streams import FileReceiveStream, FileSendStream


class _End(ByteStream):
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._receive = FileReceiveStream(sock.fileno())
        self._send = FileSendStream(sock.fileno())

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._receive.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._send.send(item)

    async def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        anyio.notify_closing(self._socket)
        self._socket.close()


def byte_stream_pair() -> tuple[ByteStream, ByteStream]:
    """Each end is the caller's to close."""
    ours, theirs = socket.socketpair()
    return _End(ours), _End(theirs)
