"""Port-forward for one client: connections into the pod, each on streams of its own.

Over SPDY (also through a WebSocket) a pair of streams for each connection, data and error, with a request id in
common; over a plain WebSocket a pair of channels for each port, fixed from the start.
Source: k8s.io/cri-streaming/pkg/streaming/portforward.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteReceiveStream, ByteStream, TaskGroup

from podlite.cri.errors import CRIError
from podlite.rpc.streaming.channels import CREATION_SECONDS, STREAM_TYPE
from podlite.rpc.streaming.inbox import Inbox
from podlite.rpc.streaming.spdy import SpdyConnection, SpdyStream
from podlite.rpc.streaming.websocket import WebSocket

SPDY_PROTOCOL = "portforward.k8s.io"
# SPDY/3.1 through a WebSocket (KEP-4006): the prefix, and the protocol inside.
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
WEBSOCKET_PROTOCOL = "v4.channel.k8s.io"

Connect = Callable[[int], Awaitable[ByteStream]]


def port_number(text: str) -> int | None:
    """The port that a client names; None if it is none. Pure."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    return number if 0 < (number := int(text)) < 65536 else None


class SpdyPortForward:
    """Streams are `opened` by the client in pairs; `run` must be waiting in a task group for them to be served."""

    def __init__(self, connect: Connect, tasks: TaskGroup) -> None:
        self.connection: SpdyConnection
        self._connect = connect
        self._tasks = tasks
        # By request id, until both are there.
        self._halves: dict[str, SpdyStream] = {}

    async def opened(self, stream: SpdyStream) -> bool:
        """A stream of the client's; False refuses one that makes no sense."""
        kind = stream.headers.get(STREAM_TYPE)
        port = port_number(stream.headers.get("port", ""))
        if kind not in ("data", "error") or port is None:
            return False
        # Old clients send no id: they open the error stream just before the data stream.
        request = stream.headers.get("requestid") or str(stream.id if kind == "error" else stream.id - 2)
        other = self._halves.pop(request, None)
        if other is None:
            self._halves[request] = stream
            self._tasks.start_soon(self._expire, request, stream)
            return True
        if other.headers[STREAM_TYPE] == kind:
            return False
        data, error = (stream, other) if kind == "data" else (other, stream)
        self._tasks.start_soon(self._forward, port, data, error)
        return True

    async def _expire(self, request: str, stream: SpdyStream) -> None:
        await anyio.sleep(CREATION_SECONDS)
        if self._halves.get(request) is stream:
            del self._halves[request]
            await stream.aclose()

    async def _forward(self, port: int, data: SpdyStream, error: SpdyStream) -> None:
        try:
            async with data:
                try:
                    async with await self._connect(port) as inside:
                        await _both_ways(data, data, inside)
                    await data.send_eof()
                except CRIError as problem:
                    await error.send(str(problem).encode())
            await error.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            await error.aclose()


class _Sender:
    """The sending half of a channel, as `_both_ways` needs it."""

    def __init__(self, socket: WebSocket, channel: int) -> None:
        self._socket = socket
        self._channel = channel

    async def send(self, data: bytes) -> None:
        await self._socket.send(bytes([self._channel]) + data)

    async def send_eof(self) -> None:
        """A channel cannot end before its WebSocket does."""


async def serve_websocket(socket: WebSocket, ports: list[int], connect: Connect) -> None:
    """Serves fixed ports over the WebSocket's channels: 2n for the data of port n, 2n + 1 for its error."""
    inboxes = [Inbox() for _ in ports]
    for index, port in enumerate(ports):
        number = port.to_bytes(2, "little")
        await socket.send(bytes([2 * index]) + number)
        await socket.send(bytes([2 * index + 1]) + number)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_receive, socket, inboxes, tasks.cancel_scope)
        async with anyio.create_task_group() as forwarding:
            for index, port in enumerate(ports):
                forwarding.start_soon(_forward_channel, socket, index, port, inboxes[index], connect)
        tasks.cancel_scope.cancel()
    await socket.close()


async def _receive(socket: WebSocket, inboxes: list[Inbox], scope: anyio.CancelScope) -> None:
    inbox: Inbox | None = None
    while (pieces := await socket.receive()) is not None:
        for piece in pieces:
            data = piece.data
            if piece.first:
                channel, data = (data[0], data[1:]) if data else (1, b"")
                inbox = inboxes[channel // 2] if channel % 2 == 0 and channel // 2 < len(inboxes) else None
            if inbox is not None:
                await inbox.feed(data)
    scope.cancel()


async def _forward_channel(socket: WebSocket, index: int, port: int, inbox: Inbox, connect: Connect) -> None:
    sender = _Sender(socket, 2 * index)
    try:
        try:
            async with await connect(port) as inside:
                await _both_ways(inbox, sender, inside)
        except CRIError as problem:
            await socket.send(bytes([2 * index + 1]) + str(problem).encode())
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


async def _both_ways(receive: ByteReceiveStream, send: SpdyStream | _Sender, inside: ByteStream) -> None:
    """Copies until both directions have ended, or either side is gone."""

    async def into() -> None:
        try:
            async for chunk in receive:
                await inside.send(chunk)
            await inside.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            # The pod does not take any more, or the client is gone: what the pod says may still be on its way.
            await receive.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(into)
        try:
            async for chunk in inside:
                await send.send(chunk)
            await send.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            tasks.cancel_scope.cancel()
            return
        if not isinstance(send, SpdyStream):
            # Neither side could say that its half has ended.
            tasks.cancel_scope.cancel()
        # Over SPDY most clients close now too; one that goes on sending gets a reset from the pod.
