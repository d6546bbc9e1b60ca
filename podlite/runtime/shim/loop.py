"""The shim's event loop: epoll with callbacks and a few deadlines, nothing more.

asyncio would more than double what an idle shim costs (DESIGN 4: 1.5 MB against 3.0).
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[int], None]

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
# Always reported by the kernel, whether asked for or not.
HANGUP = select.EPOLLHUP | select.EPOLLERR


class Loop:
    """Calls `callback(events)` for ready descriptors, and `callback()` for passed deadlines, until stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._deadlines: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.running = True

    def watch(self, fd: int, callback: Callback, events: int = READ) -> None:
        """Watches `fd` until `forget`; the caller keeps the descriptor open meanwhile."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Changes what `fd` is watched for."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stops watching; must come before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> int:
        """Calls `callback` once, `seconds` from now; returns a key for `cancel`."""
        self._count += 1
        self._deadlines.append((time.monotonic() + seconds, self._count, callback))
        self._deadlines.sort(key=lambda entry: entry[0])
        return self._count

    def cancel(self, key: int) -> None:
        """Forgets a deadline; one that has passed already is no error."""
        self._deadlines = [entry for entry in self._deadlines if entry[1] != key]

    def run(self) -> None:
        """Runs until `running` is False."""
        while self.running:
            wait = -1.0
            if self._deadlines:
                wait = max(0.0, self._deadlines[0][0] - time.monotonic())
            for fd, events in self._epoll.poll(wait):
                callback = self._callbacks.get(fd)
                if callback is not None:  # forgotten by an earlier callback of the same round
                    callback(events)
            while self._deadlines and self._deadlines[0][0] <= time.monotonic():
                self._deadlines.pop(0)[2]()
