"""What one stream of a multiplexed connection has received and nobody has read yet."""

from __future__ import annotations

from collections import deque

import anyio
from anyio.abc import ByteReceiveStream

# What may wait. Beyond it the connection is not read any further, so that its peer has to wait too.
LIMIT = 1 << 20


class Inbox(ByteReceiveStream):
    """Bytes from the connection's reader to whoever reads this stream. Event loop only."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._closed = False
        self._error: Exception | None = None
        self._changed = anyio.Event()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def feed(self, data: bytes) -> None:
        """Hands over; returns when there is room again. What comes after the end, or after `aclose`, is dropped."""
        if self._ended or self._closed or not data:
            return
        self._chunks.append(data)
        self._size += len(data)
        self._change()
        while self._size > LIMIT and not self._closed:
            await self._changed.wait()

    def finish(self, error: Exception | None = None) -> None:
        """Nothing more comes; with `error`, the reader gets that once it has read the rest. Idempotent."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._change()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Raises EndOfStream at the end, BrokenResourceError if the connection broke before it."""
        while not self._chunks:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._ended:
                raise self._error or anyio.EndOfStream
            await self._changed.wait()
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._size -= len(chunk)
        self._change()
        return chunk

    @property
    def pending(self) -> bool:
        """Whether there is something to read at once."""
        return bool(self._chunks)

    async def aclose(self) -> None:
        """Nobody reads any more: what is there and what comes is dropped. Idempotent."""
        self._closed = True
        self._chunks.clear()
        self._size = 0
        self._change()
