"""The server's side of a WebSocket (RFC 6455, by wsproto) on a byte stream, message by message."""

from __future__ import annotations

from typing import Any

import anyio
import h11
from anyio.abc import ByteStream
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    TextMessage,
)
from wsproto.events import Request as UpgradeRequest
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from podlite.rpc.streaming.http import BadRequestError, Request


class Piece:
    """Some of a message's bytes; `first` and `last` say where in it."""

    __slots__ = ("data", "first", "last")

    def __init__(self, data: bytes, first: bool, last: bool) -> None:
        self.data = data
        self.first = first
        self.last = last


class WebSocket:
    """An accepted WebSocket. One task receives, any may send."""

    def __init__(self, stream: ByteStream, connection: WSConnection, protocol: str) -> None:
        self.protocol = protocol
        self._stream = stream
        self._connection = connection
        self._lock = anyio.Lock()
        self._broken = False
        self._begun = False

    async def receive(self) -> list[Piece] | None:
        """What has come, messages in pieces as they come; None at the end. Pings are answered."""
        while True:
            pieces: list[Piece] = []
            try:
                for event in self._connection.events():
                    if isinstance(event, Ping):
                        await self._send(event.response())
                    elif isinstance(event, CloseConnection):
                        await self._say_goodbye(event)
                        return pieces or None
                    elif isinstance(event, Message):
                        pieces.append(self._piece(event))
                    else:
                        assert isinstance(event, Pong)
                if pieces:
                    return pieces
                self._connection.receive_data(await self._stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return None
            except RemoteProtocolError as error:
                if error.event_hint is not None:
                    await self._say_goodbye(error.event_hint)
                return None

    def _piece(self, event: Message[Any]) -> Piece:
        data = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        piece = Piece(data, not self._begun, event.message_finished)
        self._begun = not event.message_finished
        return piece

    async def _say_goodbye(self, event: object) -> None:
        try:
            await self._send(event.response() if isinstance(event, CloseConnection) else event)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def send(self, data: bytes) -> None:
        """One binary message. Raises BrokenResourceError when the peer is gone."""
        await self._send(BytesMessage(data=data))

    async def close(self) -> None:
        """Says goodbye (1000); a peer that is gone is ignored. Idempotent."""
        await self._say_goodbye(CloseConnection(code=1000))

    async def _send(self, event: object) -> None:
        async with self._lock:
            if self._broken:
                raise anyio.BrokenResourceError
            try:
                data = self._connection.send(event)  # type: ignore[arg-type]
            except LocalProtocolError:
                raise anyio.BrokenResourceError from None  # closed already
            self._broken = True
            await self._stream.send(data)
            self._broken = False


async def accept(stream: ByteStream, request: Request, protocols: tuple[str, ...]) -> WebSocket:
    """Answers the upgrade with the first of our `protocols` that the client offers.

    Raises BadRequestError, after a 400 or 403, for a handshake that is none, or offers none of them.
    """
    connection = WSConnection(ConnectionType.SERVER)
    # wsproto reads the handshake itself.
    plain = h11.Request(method=b"GET", target=request.raw.target, headers=request.raw.headers)
    try:
        connection.receive_data(h11.Connection(h11.CLIENT).send(plain))
        (event,) = connection.events()
    except (RemoteProtocolError, h11.LocalProtocolError) as error:
        await stream.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        raise BadRequestError(str(error)) from None
    assert isinstance(event, UpgradeRequest)
    protocol = next((each for each in protocols if each in event.subprotocols), None)
    if protocol is None:
        await stream.send(connection.send(RejectConnection(status_code=403)))
        raise BadRequestError(f"the client speaks {', '.join(event.subprotocols) or 'no subprotocol'}")
    await stream.send(connection.send(AcceptConnection(subprotocol=protocol)))
    connection.receive_data(request.rest) if request.rest else None
    return WebSocket(stream, connection, protocol)


class WebSocketByteStream(ByteStream):
    """The messages of a WebSocket as one stream of bytes: another protocol goes through it as through a tunnel."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._pieces: list[Piece] = []

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while True:
            while self._pieces:
                piece = self._pieces.pop(0)
                if piece.data:
                    return piece.data
            received = await self._socket.receive()
            if received is None:
                raise anyio.EndOfStream
            self._pieces = received

    async def send(self, item: bytes) -> None:
        await self._socket.send(item)

    async def send_eof(self) -> None:
        await self._socket.close()

    async def aclose(self) -> None:
        await self._socket.close()
