"""A clock that stands still until a test moves it.

`advance` goes from timer to timer: each due one is fired at its own time, and everything that can run then runs
before the clock goes on. So what happens at 10 s is seen at 10 s, however far a test advances at once.
"""

from __future__ import annotations

import heapq
import itertools

import anyio
import anyio.lowlevel
import anyio.to_thread

from podlite import blocking

START_NS = 1_795_464_000 * 1_000_000_000  # 2026-11-23T20:00:00Z


class FakeClock:
    """See podlite.kubelet.clock.Clock."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self._start_ns = start_ns
        self._elapsed_ns = 0
        self._timers: list[tuple[int, int, anyio.CancelScope]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        return self._start_ns + self._elapsed_ns

    def monotonic(self) -> float:
        return self._elapsed_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        with self.timeout(seconds):
            await anyio.sleep_forever()

    async def sleep_until(self, when: float) -> None:
        await self.sleep(when - self.monotonic())

    def timeout(self, seconds: float) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        if seconds <= 0:
            scope.cancel()
        else:
            due = self._elapsed_ns + round(seconds * 1e9)
            heapq.heappush(self._timers, (due, next(self._order), scope))
        return scope

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock: no time passes, and timers, which are the monotonic clock's, do not fire."""
        self._start_ns += round(seconds * 1e9)

    def tick(self, seconds: float = 0.001) -> None:
        """Moves the clock on without firing anything: time passes between two things that happen."""
        self._elapsed_ns += round(seconds * 1e9)

    async def advance(self, seconds: float) -> None:
        """Moves the clock on by `seconds`, firing timers on the way."""
        end = self._elapsed_ns + round(seconds * 1e9)
        await settle()
        while self._timers and self._timers[0][0] <= end:
            due, _, scope = heapq.heappop(self._timers)
            self._elapsed_ns = max(self._elapsed_ns, due)
            scope.cancel()
            await settle()
        self._elapsed_ns = max(self._elapsed_ns, end)
        await settle()


async def settle() -> None:
    """Lets every task run until all wait for something: for time, for each other, or for a test.

    Work on other threads is waited for too. For one task at a time: two would wait for each other.
    """
    global _settling
    assert not _settling, "only one task can let the others settle"
    _settling = True
    try:
        await _settle()
    finally:
        _settling = False


_settling = False


async def _settle() -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    quiet = 0
    while quiet < 3:
        await anyio.lowlevel.checkpoint()
        threads = limiter.borrowed_tokens + blocking.calls()
        quiet = 0 if threads or _runnable() else quiet + 1
        if threads:
            await anyio.sleep(0.0005)


def _runnable() -> bool:
    """Whether any task of the loop could go on right now."""
    import asyncio

    loop = asyncio.get_running_loop()
    return bool(getattr(loop, "_ready", ()))
