"""Time, as everything in the kubelet sees it: one object that tests replace with a controllable one.

Wall-clock nanoseconds are for what a status shows and what a runtime stamps; seconds of the monotonic clock
are for waiting. Nothing in this package calls `time` or `anyio.sleep` itself.
"""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some point in the past; never goes backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; after one pass of the event loop for zero or less."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Returns when `monotonic()` has reached `when`."""
        ...

    def timeout(self, seconds: float) -> anyio.CancelScope:
        """A scope, to be entered at once, that is cancelled after `seconds`; `cancelled_caught` says that it was."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(seconds, 0))

    async def sleep_until(self, when: float) -> None:
        await anyio.sleep(max(when - time.monotonic(), 0))

    def timeout(self, seconds: float) -> anyio.CancelScope:
        return anyio.move_on_after(max(seconds, 0))


class Wake:
    """Tells one waiting task that there is something to do, however often it was told meanwhile."""

    __slots__ = ("_event", "_told")

    def __init__(self) -> None:
        self._told = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        self._told = True
        if self._event is not None:
            self._event.set()

    def is_set(self) -> bool:
        return self._told

    async def wait(self) -> None:
        """Returns at once if `set` was called since the last return. A cancelled wait forgets nothing."""
        if not self._told:
            self._event = anyio.Event()
            try:
                await self._event.wait()
            finally:
                self._event = None
        self._told = False
