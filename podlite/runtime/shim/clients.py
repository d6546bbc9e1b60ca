"""The connections of a shim: its owner, the controller, and guests such as `podlite exec`.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os
from collections import deque

from podlite.runtime.shim import protocol
from podlite.runtime.shim.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from podlite.runtime.shim.loop import Loop
    from podlite.runtime.shim.protocol import Message

# What may wait for a peer that does not read; one further behind than this is cut off.
_QUEUE = 1000
_QUEUED_FDS = 100


class Client:
    """One connection. `on_message(client, message, fds)` owns the descriptors; `on_closed(client)` comes once."""

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        on_message: Callable[[Client, Message, list[int]], None],
        on_closed: Callable[[Client], None],
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.loop = loop
        self.open = True
        self._on_message = on_message
        self._on_closed = on_closed
        self._queue: deque[tuple[Message, list[int]]] = deque()
        loop.watch(sock.fileno(), self._ready)

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends, now or as soon as the peer reads; the descriptors are duplicated if it has to wait."""
        if not self.open:
            return
        if not self._queue:
            try:
                protocol.send(self.sock, message, fds)
                return
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if len(self._queue) >= _QUEUE or (fds and sum(len(each) for _, each in self._queue) >= _QUEUED_FDS):
            self.close()
            return
        try:
            self._queue.append((message, [os.dup(fd) for fd in fds or []]))
        except OSError:
            self.close()
            return
        self.loop.change(self.sock.fileno(), READ | WRITE)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.open and events & ~WRITE:
            self._receive()

    def _flush(self) -> None:
        while self._queue:
            message, fds = self._queue[0]
            try:
                protocol.send(self.sock, message, fds)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._queue.popleft()
            for fd in fds:
                os.close(fd)
        self.loop.change(self.sock.fileno(), READ)

    def _receive(self) -> None:
        try:
            received = protocol.receive(self.sock)
        except BlockingIOError:
            return
        except (OSError, protocol.ProtocolError):
            received = None
        if received is None:
            self.close()
            return
        self._on_message(self, *received)

    def close(self) -> None:
        """Idempotent."""
        if not self.open:
            return
        self.open = False
        self.loop.forget(self.sock.fileno())
        self.sock.close()
        for _, fds in self._queue:
            for fd in fds:
                os.close(fd)
        self._queue.clear()
        self._on_closed(self)
