"""Dedicated threads for work that changes a thread's namespaces: containerd's LockOSThread, in Python.

A thread of a shared pool must never do this: whoever got it next would be somewhere else without knowing. These
threads serve namespace jobs and nothing else, one job at a time, and one that could not return to its own
namespaces is retired and replaced.

The way there and back is most of what Python adds to the kernel's time for a namespace, so it is short:

    event loop ──inbox──▶ the thread that became idle last (its caches are warm), or the backlog if none is idle
    thread ──finished, eventfd──▶ event loop; whoever finds that the loop has been told already does not tell it again,
                                  so that many results come in one wake-up
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from anyio import CancelScope, current_effective_deadline

from podlite.cri.errors import CRIError
from podlite.linux import affinity
from podlite.linux.netns import THREAD_NETNS, PoisonedThreadError
from podlite.linux.syscalls import set_name

T = TypeVar("T")
# own_netns → result: a job gets the descriptor with which it returns.
Job = Callable[[int], T]


class _Order:
    """A job that has been handed over; `over` when its outcome is there, which is set on the event loop."""

    __slots__ = ("error", "future", "job", "over", "result")

    def __init__(self, job: Job[Any], future: asyncio.Future[None]) -> None:
        self.job = job
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False


# What an idle thread waits for; None ends it.
_Inbox = SimpleQueue["_Order | None"]


class NamespaceThreads:
    """A fixed number of namespace threads of one event loop; started on first use, ended by `close`."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        # Guards the three below, for moments only.
        self._lock = threading.Lock()
        self._backlog: deque[_Order] = deque()
        self._idle: list[_Inbox] = []
        self._closed = False
        self._threads: set[threading.Thread] = set()
        self._finished: deque[_Order] = deque()
        self._told = False
        self._bell = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, job: Job[T], *, interrupt: Callable[[], None] | None = None) -> T:
        """Runs `job(own_netns)` on one of the threads and returns its result.

        A job that has been handed over is always waited for, cancelled or not: half a namespace is nobody's.
        The cancellation is delivered afterwards, at the caller's next checkpoint. With `interrupt`, which is called
        at once when the caller is cancelled and is to make the job fail soon, it is raised when the job has ended.
        """
        order = _Order(job, asyncio.get_running_loop().create_future())
        self._hand_over(order)
        try:
            # Not shielded: a scope would cost more than the rest of the way, and hardly anybody is cancelled.
            await order.future
        except asyncio.CancelledError:
            # anyio delivers a cancellation again and again, asyncio only once.
            once = current_effective_deadline() != -math.inf
            if interrupt is not None:
                interrupt()
            await self._wait(order)
            if once or interrupt is not None:
                raise
        if order.error is not None:
            try:
                raise order.error
            finally:
                order.error = None  # its traceback has this frame: not a cycle for the collector
        result: T = order.result
        return result

    async def _wait(self, order: _Order) -> None:
        with CancelScope(shield=True):
            while not order.over:
                order.future = asyncio.get_running_loop().create_future()
                try:
                    await order.future
                except asyncio.CancelledError:
                    continue  # by asyncio's own means, which no scope keeps off; the first one is raised in the end

    def close(self) -> None:
        """Ends the threads after their jobs, and waits for them. Idempotent. Blocks for as long as a job takes."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)
        for thread in list(self._threads):
            thread.join()
        self._threads.clear()
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._unwatch, loop)
        except RuntimeError:
            # The loop is closed: the program is ending.
            os.close(self._bell)

    # --- on the event loop --------------------------------------------------------------------

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.add_reader(self._bell, self._settle)
        for _ in range(self._count):
            self._start()

    def _unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._bell)
        os.close(self._bell)
        self._take_finished()

    def _start(self) -> None:
        """A thread begins in the namespaces of the one that starts it: the event loop's."""
        thread = threading.Thread(target=self._serve, name="podlite-netns", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _hand_over(self, order: _Order) -> None:
        if self._loop is None and not self._closed:
            self._open()
        with self._lock:
            if self._closed:
                raise RuntimeError("the namespace threads have been closed")
            if not self._idle:
                self._backlog.append(order)
                return
            inbox = self._idle.pop()
        inbox.put(order)

    def _settle(self) -> None:
        os.eventfd_read(self._bell)
        # Before looking: what is finished from here on tells again.
        self._told = False
        self._take_finished()

    def _take_finished(self) -> None:
        while self._finished:
            order = self._finished.popleft()
            order.over = True
            if isinstance(order.error, PoisonedThreadError):
                order.error = CRIError(str(order.error))
                if not self._closed:
                    # Its thread has ended. Before the caller hears of it, so that the next job finds a thread.
                    self._start()
            if not order.future.done():
                order.future.set_result(None)

    # --- on the threads -----------------------------------------------------------------------

    def _serve(self) -> None:
        set_name("podlite-netns")
        cpu = -1
        inbox: _Inbox = SimpleQueue()
        finished: _Order | None = None
        own_netns = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                order, closed = self._next(inbox)
                # Idle before it tells: whoever hears of it and has another job finds this thread, not a cold one.
                if finished is not None:
                    self._tell(finished)
                    finished = None
                if order is None and (closed or (order := inbox.get()) is None):
                    return
                cpu = affinity.follow(cpu)
                try:
                    order.result = order.job(own_netns)
                except PoisonedThreadError as error:
                    order.error = error
                    self._threads.discard(threading.current_thread())
                    self._tell(order)
                    return
                except BaseException as error:
                    order.error = error
                finished, order = order, None
        finally:
            os.close(own_netns)

    def _next(self, inbox: _Inbox) -> tuple[_Order | None, bool]:
        """The next of the backlog, and whether there will be none; without either the thread is idle from now on."""
        with self._lock:
            if self._backlog:
                return self._backlog.popleft(), False
            if not self._closed:
                self._idle.append(inbox)
            return None, self._closed

    def _tell(self, order: _Order) -> None:
        self._finished.append(order)
        if not self._told:
            self._told = True
            os.eventfd_write(self._bell, 1)
