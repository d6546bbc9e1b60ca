"""The streams of one exec or attach, over SPDY or over a WebSocket: input, outputs, terminal sizes, final status.

Sources: k8s.io/apimachinery/pkg/util/remotecommand/constants.go (the protocols' versions), and
k8s.io/cri-streaming and k8s.io/client-go/tools/remotecommand for the channels' numbers and the headers of streams.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

import anyio

from podlite.rpc.streaming.inbox import Inbox
from podlite.rpc.streaming.spdy import SpdyConnection, SpdyStream
from podlite.rpc.streaming.websocket import WebSocket

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
SPDY_PROTOCOLS = (V4,)
WEBSOCKET_PROTOCOLS = (V5, V4)

# How long a client may take to open the streams that it has asked for (DefaultStreamCreationTimeout).
CREATION_SECONDS = 30.0
STREAM_TYPE = "streamtype"

# A WebSocket's channels; the first byte of each message names one. CLOSE, of v5, ends the one that follows.
_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
_CLOSE = 255
_MAX_RESIZE = 1024


class Channels(ABC):
    """One client's end of an exec or attach. `receive` must run; it ends when the client is gone."""

    def __init__(self) -> None:
        self.stdin = Inbox()
        self._size: tuple[int, int] | None = None
        self._resized = anyio.Event()

    @abstractmethod
    async def receive(self) -> None: ...

    @abstractmethod
    async def write(self, name: str, data: bytes) -> None:
        """Sends some of `stdout` or `stderr`. Raises BrokenResourceError when the client is gone."""

    @abstractmethod
    async def end(self, name: str) -> None:
        """Ends an output, where the protocol can say that. Raises BrokenResourceError."""

    @abstractmethod
    async def finish(self, status: dict[str, Any]) -> None:
        """Sends the final status, and says goodbye. A client that is gone is ignored."""

    def resized(self, text: bytes) -> None:
        """A terminal's size as clients write it: {"Width": 80, "Height": 24}. Nonsense is ignored."""
        try:
            size = json.loads(text)
            width, height = int(size["Width"]), int(size["Height"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return
        if 0 < width < 65536 and 0 < height < 65536:
            self._size = (width, height)
            self._resized.set()

    async def next_size(self) -> tuple[int, int]:
        """The terminal's newest size, once it has changed."""
        while self._size is None:
            await self._resized.wait()
            self._resized = anyio.Event()
        size, self._size = self._size, None
        return size


class WebSocketChannels(Channels):
    """Over a WebSocket, v5 or v4: they differ in that v4 cannot end the input without ending everything."""

    def __init__(self, socket: WebSocket, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self._socket = socket
        self._outputs = outputs
        self._channel = -1
        self._control = bytearray()

    async def start(self) -> None:
        """An empty message tells the client that the connection is established, as kubelets have it."""
        await self._socket.send(bytes([_NUMBERS[self._outputs[0] if self._outputs else "error"]]))

    async def receive(self) -> None:
        while (pieces := await self._socket.receive()) is not None:
            for piece in pieces:
                data = piece.data
                if piece.first:
                    self._control.clear()
                    if not data:
                        self._channel = -1
                        continue
                    self._channel, data = data[0], data[1:]
                await self._received(data, last=piece.last)
        self.stdin.finish(anyio.BrokenResourceError())

    async def _received(self, data: bytes, *, last: bool) -> None:
        if self._channel == _NUMBERS["stdin"]:
            await self.stdin.feed(data)
        elif self._channel in (_NUMBERS["resize"], _CLOSE):
            self._control += data[: _MAX_RESIZE - len(self._control)]
            if not last:
                return
            if self._channel == _NUMBERS["resize"]:
                self.resized(bytes(self._control))
            elif self._socket.protocol == V5 and self._control[:1] == bytes([_NUMBERS["stdin"]]):
                self.stdin.finish()

    async def write(self, name: str, data: bytes) -> None:
        await self._socket.send(bytes([_NUMBERS[name]]) + data)

    async def end(self, name: str) -> None:
        """Clients take an output for ended when the connection is."""

    async def finish(self, status: dict[str, Any]) -> None:
        try:
            await self._socket.send(bytes([_NUMBERS["error"]]) + json.dumps(status).encode())
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        await self._socket.close()


class SpdyChannels(Channels):
    """Over SPDY, v4: a stream each, opened by the client."""

    def __init__(self, wanted: frozenset[str]) -> None:
        super().__init__()
        self.connection: SpdyConnection
        self._wanted = wanted
        self._streams: dict[str, SpdyStream] = {}
        self._complete = anyio.Event()

    async def opened(self, stream: SpdyStream) -> bool:
        """A stream of the client's; False refuses one that was not asked for."""
        kind = stream.headers.get(STREAM_TYPE, "")
        if kind not in self._wanted or kind in self._streams:
            return False
        self._streams[kind] = stream
        if kind == "stdin":
            self.stdin = stream.inbox
        if self._wanted <= self._streams.keys():
            self._complete.set()
        return True

    async def wait_complete(self) -> bool:
        """Waits until the client has opened its streams; False if it takes too long."""
        with anyio.move_on_after(CREATION_SECONDS):
            await self._complete.wait()
        return self._complete.is_set()

    async def receive(self) -> None:
        if "resize" in self._streams:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._resizes)
                await self.connection.closed.wait()
                tasks.cancel_scope.cancel()
        else:
            await self.connection.closed.wait()

    async def _resizes(self) -> None:
        """One JSON object after the other, each a line as Go's encoder writes it."""
        text = b""
        try:
            async for chunk in self._streams["resize"]:
                text += chunk
                *lines, text = text[-_MAX_RESIZE:].split(b"\n")
                for line in lines:
                    self.resized(line)
        except anyio.BrokenResourceError:
            pass

    async def write(self, name: str, data: bytes) -> None:
        await self._streams[name].send(data)

    async def end(self, name: str) -> None:
        await self._streams[name].send_eof()

    async def finish(self, status: dict[str, Any]) -> None:
        try:
            await self._streams["error"].send(json.dumps(status).encode())
            for stream in self._streams.values():
                await stream.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        await self.connection.goaway()
