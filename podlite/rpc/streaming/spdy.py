"""A SPDY/3.1 connection over any byte stream, from either side.

Kubernetes' implementation (moby/spdystream) has no flow control: it neither obeys windows nor opens them. So
nothing here waits for a window either; what holds a peer back is that the connection is not read. Windows are
opened for those who obey them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream

from podlite.rpc.streaming import spdy_frames as frames
from podlite.rpc.streaming.inbox import Inbox
from podlite.rpc.streaming.spdy_frames import Frame, FrameReader, FrameWriter, Headers, SpdyError

# Streams that a peer may have open at a time.
MAX_STREAMS = 1000
# Windows begin with 64 KiB; what has been read is told in pieces of this size.
_TELL = 16 << 10


class SpdyStream(ByteStream):
    """One stream; both directions end separately. Closing one that has not ended resets it."""

    def __init__(self, connection: SpdyConnection, id: int, headers: Headers) -> None:
        self.id = id
        self.headers = headers
        self.inbox = Inbox()
        self.replied = anyio.Event()
        self.reset = False
        self.sent_end = False
        self.received_end = False
        self.consumed = 0
        self._connection = connection

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self.inbox.receive(max_bytes)
        await self._connection.opened_window(self, len(data))
        return data

    async def send(self, item: bytes) -> None:
        """Raises BrokenResourceError when the peer has reset the stream or is gone."""
        view = memoryview(item)
        while view:
            if self.reset:
                raise anyio.BrokenResourceError
            if self.sent_end:
                raise anyio.ClosedResourceError
            piece, view = view[: frames.MAX_DATA], view[frames.MAX_DATA :]
            await self._connection.write(frames.data_frame(self.id, bytes(piece)))

    async def send_eof(self) -> None:
        """Idempotent."""
        if self.sent_end or self.reset:
            return
        self.sent_end = True
        await self._connection.write(frames.data_frame(self.id, b"", fin=True))
        self._connection.forget_ended(self)

    async def cancel(self) -> None:
        """Ends both directions at once: RST_STREAM. Idempotent."""
        if not self.reset and not (self.sent_end and self.received_end):
            self.reset = True
            self._connection.forget(self)
            await self._connection.write(frames.rst_stream(self.id, frames.CANCEL))
        await self.inbox.aclose()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            try:
                await self.cancel()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass


class SpdyConnection:
    """`serve` must run for anything to be received. `on_stream` is called for each stream of the peer's, in the
    reader's task: it must not wait for long; it returns False to refuse."""

    def __init__(
        self, stream: ByteStream, *, server: bool, on_stream: Callable[[SpdyStream], Awaitable[bool]] | None = None
    ) -> None:
        self._stream = stream
        self._on_stream = on_stream
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self._lock = anyio.Lock()
        self._streams: dict[int, SpdyStream] = {}
        self._next_id = 2 if server else 1
        self._parity = 1 if server else 0
        self._last_received = 0
        self._broken = False
        # Read, and not told to the peer yet.
        self._consumed = 0
        self.closed = anyio.Event()

    async def serve(self, initial: bytes = b"") -> None:
        """Receives until the peer closes; `initial` has been read already. Raises SpdyError, after telling the peer."""
        try:
            data = initial
            while True:
                for frame in self._reader.feed(data):
                    if not await self._received(frame):
                        return
                data = await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        except SpdyError:
            try:
                await self.write(frames.goaway(self._last_received))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            raise
        finally:
            self.closed.set()
            for stream in list(self._streams.values()):
                stream.reset = True
                stream.replied.set()
                stream.inbox.finish(anyio.BrokenResourceError())
            self._streams.clear()

    async def _received(self, frame: Frame) -> bool:
        """False if the peer says goodbye."""
        kind = frame.type
        if kind == frames.DATA:
            await self._data(frame)
        elif kind == frames.SYN_STREAM:
            await self._opened(frame)
        elif kind == frames.PING:
            # Ours are answered with our parity; those of the peer's are sent back (2.6.5).
            if frame.value % 2 == self._parity:
                await self.write(frames.ping(frame.value))
        elif kind == frames.GOAWAY:
            return False
        elif (stream := self._streams.get(frame.stream)) is not None:
            if kind in (frames.SYN_REPLY, frames.HEADERS):
                stream.headers = {**stream.headers, **frame.headers}
                stream.replied.set()
                if frame.fin:
                    self._ended(stream)
            elif kind == frames.RST_STREAM:
                stream.reset = True
                stream.replied.set()
                self.forget(stream)
                stream.inbox.finish(anyio.BrokenResourceError())
        return True

    async def _data(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # closed here a moment ago
        await stream.inbox.feed(frame.data)
        if frame.fin:
            self._ended(stream)

    def _ended(self, stream: SpdyStream) -> None:
        stream.received_end = True
        stream.inbox.finish()
        self.forget_ended(stream)

    async def _opened(self, frame: Frame) -> None:
        if frame.stream % 2 != self._parity or frame.stream <= self._last_received:
            raise SpdyError(f"a stream with the number {frame.stream} after {self._last_received}")
        self._last_received = frame.stream
        if self._on_stream is None or len(self._streams) >= MAX_STREAMS:
            await self.write(frames.rst_stream(frame.stream, frames.REFUSED_STREAM))
            return
        stream = SpdyStream(self, frame.stream, frame.headers)
        self._streams[stream.id] = stream
        if frame.fin:
            self._ended(stream)
        if await self._on_stream(stream):
            await self.write(lambda: self._writer.syn_reply(stream.id, {}))
        else:
            self.forget(stream)
            stream.reset = True
            await self.write(frames.rst_stream(stream.id, frames.REFUSED_STREAM))

    async def open(self, headers: Headers) -> SpdyStream:
        """A stream of our own; returns when the peer has accepted it. Raises BrokenResourceError if it refused."""
        stream: SpdyStream | None = None

        def syn() -> bytes:
            nonlocal stream
            stream = SpdyStream(self, self._next_id, headers)
            self._streams[stream.id] = stream
            self._next_id += 2
            return self._writer.syn_stream(stream.id, headers)

        await self.write(syn)
        assert stream is not None
        await stream.replied.wait()
        if stream.reset:
            raise anyio.BrokenResourceError
        return stream

    async def opened_window(self, stream: SpdyStream, size: int) -> None:
        """What has been read makes room, for the stream and for the session (2.6.8)."""
        stream.consumed += size
        self._consumed += size
        update = b""
        if stream.consumed >= _TELL and not (stream.received_end or stream.reset):
            update += frames.window_update(stream.id, stream.consumed)
            stream.consumed = 0
        if self._consumed >= _TELL:
            update += frames.window_update(0, self._consumed)
            self._consumed = 0
        if update and not self.closed.is_set():
            try:
                await self.write(update)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    def forget_ended(self, stream: SpdyStream) -> None:
        if stream.sent_end and stream.received_end:
            self.forget(stream)

    def forget(self, stream: SpdyStream) -> None:
        self._streams.pop(stream.id, None)

    async def write(self, data: bytes | Callable[[], bytes]) -> None:
        """Sends whole frames, one task at a time; a frame with headers is made when its turn comes.

        Raises BrokenResourceError, ClosedResourceError.
        """
        async with self._lock:
            if self._broken:
                raise anyio.BrokenResourceError
            # Until it is sent whole: after half a frame the peer would take the next one for the rest of it.
            self._broken = True
            await self._stream.send(data() if callable(data) else data)
            self._broken = False

    async def goaway(self) -> None:
        """Says goodbye; what is under way may end. Ignores a peer that is gone."""
        try:
            await self.write(frames.goaway(self._last_received))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
