"""Dedicated threads for work that changes a thread's namespaces: containerd's LockOSThread, in Python.

A thread of a shared pool must never do this: whoever got it next would be somewhere else without knowing. These
threads serve namespace jobs and nothing else, one job at a time, and one that could not return to its own
namespaces is retired and replaced.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from anyio import CancelScope

from podlite.cri.errors import CRIError
from podlite.linux.netns import THREAD_NETNS, PoisonedThreadError
from podlite.linux.syscalls import set_name

T = TypeVar("T")
# own_netns → result: a job gets the descriptor with which it returns.
Job = Callable[[int], T]


class NamespaceThreads:
    """A fixed number of namespace threads; started on first use, ended by `close`."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._jobs: SimpleQueue[tuple[Job[Any], asyncio.AbstractEventLoop, asyncio.Future[Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def run(self, job: Job[T], *, interrupt: Callable[[], None] | None = None) -> T:
        """Runs `job(own_netns)` on one of the threads and returns its result.

        A job that has been handed over is always waited for, cancelled or not: half a namespace is nobody's.
        The cancellation is delivered afterwards, at the caller's next checkpoint. With `interrupt`, which is called
        at once when the caller is cancelled and is to make the job fail soon, it is raised when the job has ended.
        """
        if self._closed:
            raise RuntimeError("the namespace threads have been closed")
        if not self._threads:
            self._threads = [self._start() for _ in range(self._count)]
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((job, loop, future))
        if interrupt is not None:
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError:
                interrupt()
                with CancelScope(shield=True):
                    await asyncio.wait((future,))
                future.exception()  # looked at: the cancellation is what the caller hears of
                raise
        with CancelScope(shield=True):
            # Not asyncio.wait, which takes another turn of the event loop.
            await future
        return future.result()

    def close(self) -> None:
        """Ends the threads after their jobs, and waits for them. Idempotent. Blocks for as long as a job takes."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._serve, name="podlite-netns", daemon=True)
        thread.start()
        return thread

    def _replace(self, poisoned: threading.Thread, future: asyncio.Future[Any], error: BaseException) -> None:
        """On the event loop's thread: a thread begins in the namespaces of the one that starts it."""
        if not self._closed:
            self._threads = [self._start() if each is poisoned else each for each in self._threads]
        # Afterwards, so that the next job finds a thread.
        if not future.done():
            future.set_exception(CRIError(str(error)))

    def _serve(self) -> None:
        set_name("podlite-netns")
        own_netns = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (item := self._jobs.get()) is not None:
                job, loop, future = item
                try:
                    result = job(own_netns)
                except PoisonedThreadError as error:
                    poisoned = threading.current_thread()
                    _call(loop, partial(self._replace, poisoned, future, error))
                    return
                except BaseException as error:
                    _deliver(loop, future, None, error)
                else:
                    _deliver(loop, future, result, None)
                # Not to keep the last job's objects alive while waiting for the next.
                item = job = future = result = None  # type: ignore[assignment]
        finally:
            os.close(own_netns)


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    _call(loop, settle)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        # The loop is closed: the program is ending and nobody waits for this any more.
        pass
