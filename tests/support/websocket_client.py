"""A WebSocket client by wsproto, for the streaming server: one message at a time."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
)


class Refused(Exception):
    """The server answered with this status instead."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class WebSocketClient:
    def __init__(self, stream: ByteStream, connection: WSConnection, protocol: str) -> None:
        self.protocol = protocol
        self._stream = stream
        self._connection = connection

    async def send(self, data: bytes) -> None:
        await self._stream.send(self._connection.send(BytesMessage(data=data)))

    async def receive(self) -> bytes | None:
        """A whole message; None at the end."""
        message = b""
        while True:
            for event in self._connection.events():
                if isinstance(event, BytesMessage):
                    message += bytes(event.data)
                    if event.message_finished:
                        return message
                elif isinstance(event, CloseConnection):
                    return None
                elif isinstance(event, Ping):
                    await self._stream.send(self._connection.send(event.response()))
            try:
                self._connection.receive_data(await self._stream.receive())
            except anyio.EndOfStream:
                return None

    async def collect(self) -> dict[int, bytes]:
        """What comes on each channel, until the end."""
        found: dict[int, bytes] = {}
        while (message := await self.receive()) is not None:
            found[message[0]] = found.get(message[0], b"") + message[1:]
        return found


@asynccontextmanager
async def websocket(url: str, *protocols: str, trust: ssl.SSLContext | None = None) -> AsyncIterator[WebSocketClient]:
    """Fetches a stream. Raises Refused."""
    target = urlsplit(url)
    plain = await anyio.connect_tcp(target.hostname or "", target.port or 80)
    stream: ByteStream = plain
    async with plain:
        if trust is not None:
            stream = await TLSStream.wrap(plain, hostname=target.hostname, ssl_context=trust)
        connection = WSConnection(ConnectionType.CLIENT)
        path = f"{target.path}?{target.query}" if target.query else target.path
        request = Request(host=target.netloc, target=path, subprotocols=list(protocols))
        await stream.send(connection.send(request))
        while True:
            connection.receive_data(await stream.receive())
            for event in connection.events():
                if isinstance(event, AcceptConnection):
                    yield WebSocketClient(stream, connection, event.subprotocol or "")
                    return
                if isinstance(event, RejectConnection | RejectData):
                    raise Refused(getattr(event, "status_code", 0))
