"""Blocking work on a worker thread, for the path of every pod: anyio's `to_thread.run_sync` at half of its cost.

A pod goes to a thread and back a dozen times. anyio's way takes two turns of the event loop more for each (its own
checkpoint, and its limiter's), copies the context and wakes the thread by way of a queue.Queue: 55 µs of processor
time around nothing, where this takes 25. What is given up for it: the function has none of the caller's context
variables, and cannot use `anyio.from_thread`; whoever needs those, or to abandon a thread, takes anyio's.

The threads come along when the event loop's is kept on one CPU (podlite.linux.affinity), and what a function starts
then, a thread or a program, would begin there too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from podlite.linux import affinity

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# As many as anyio has: what waits (for a lock of another process, a slow disk) must not hold up everything else.
_MOST = 40
# So often it is looked at which threads have not been needed meanwhile; they end then.
_IDLE_SECONDS = 10.0
# What the threads are called.
NAME = "podlite worker"


async def run(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Calls `function` on a worker thread and returns, or raises, what it does.

    A caller that is cancelled already does not begin. What has begun is always waited for, as by anyio: the
    cancellation is delivered afterwards, at the caller's next checkpoint.
    """
    await checkpoint_if_cancelled()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    _workers.put((function, arguments, loop, future))
    with CancelScope(shield=True):
        await future
    return future.result()


def calls() -> int:
    """How many calls are under way, in the whole process: for a test that lets everything come to rest."""
    return _workers.calls


_Job = tuple[Callable[..., Any], tuple[Any, ...], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class _Workers:
    """The threads of the process, whichever event loop they work for: started as they are needed, ended when they
    have not been needed for a while. They wait without a timeout, which would cost more than all the rest of a call."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self.calls = 0
        # Those for whom there is no job yet, and the jobs for which there is nobody.
        self._idle = 0
        self._waiting = 0
        # The fewest that have been idle since the last look.
        self._spare = 0
        self._look_at = time.monotonic() + _IDLE_SECONDS

    def put(self, job: _Job) -> None:
        start = False
        with self._lock:
            self.calls += 1
            if self._idle:
                self._idle -= 1
                if self._idle < self._spare:
                    self._spare = self._idle
            elif self._threads < _MOST:
                self._threads += 1
                start = True
            else:
                self._waiting += 1
            if self._threads > 1 and time.monotonic() > self._look_at:
                self._end_spare()
        if start:
            self._start()
        self._jobs.put(job)

    def _end_spare(self) -> None:
        """With the lock."""
        for _ in range(self._spare):
            self._jobs.put(None)
        self._threads -= self._spare
        self._idle -= self._spare
        self._spare = self._idle
        self._look_at = time.monotonic() + _IDLE_SECONDS

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, name=NAME, daemon=True).start()
        except BaseException:
            with self._lock:
                self._threads -= 1
                self.calls -= 1
            raise

    def _serve(self) -> None:
        cpu = -1
        while (job := self._jobs.get()) is not None:
            cpu = affinity.follow(cpu)
            function, arguments, loop, future = job
            result: Any = None
            failure: BaseException | None = None
            try:
                result = function(*arguments)
            except StopIteration as error:
                # No future takes it (PEP 479).
                failure = RuntimeError("a function on a worker thread raised StopIteration")
                failure.__cause__ = error
            except BaseException as error:
                failure = error
            with self._lock:
                # Before the result is known, so that whoever waits for it finds this thread for what comes next.
                if self._waiting:
                    self._waiting -= 1
                else:
                    self._idle += 1
            try:
                loop.call_soon_threadsafe(self._settle, future, result, failure)
            except RuntimeError:
                # The loop is closed: the program is ending, and nobody waits for this any more.
                with self._lock:
                    self.calls -= 1
            # Not to keep the last job's objects alive while waiting for the next.
            del job, function, arguments, loop, future, result, failure

    def _settle(self, future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
        """On the event loop's thread."""
        with self._lock:
            self.calls -= 1
        if future.done():
            return  # cancelled by asyncio's own means, which no shield holds up
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


_workers = _Workers()
