"""Waiting for a moment to the microsecond: asyncio's own timers are epoll's, which are whole milliseconds late."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

import anyio.lowlevel

_CLOCK_MONOTONIC = 1
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_TIMER_ABSTIME = 1
# Closer than this there is no point in waiting.
_NEAR_NS = 20_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("it_interval", _Timespec), ("it_value", _Timespec)]


_libc.timerfd_create.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.timerfd_settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Itimerspec), ctypes.c_void_p]


class Timer:
    """A timerfd_create(2) timer for one task, as a context manager. (os.timerfd_create comes with Python 3.13.)

    What it takes to wake up is in the latency of an open loop, so the descriptor is watched all the time:
    anyio.wait_readable takes three turns of the event loop for a wait.
    """

    def __enter__(self) -> Timer:
        self._fd = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_CLOEXEC | _TFD_NONBLOCK))
        self._loop = asyncio.get_running_loop()
        self._rung: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._fd, self._ring)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew meanwhile, by somebody who came after one that was cancelled
        if not self._rung.done():
            self._rung.set_result(None)

    async def wait_until(self, monotonic_ns: int) -> None:
        """Returns at a CLOCK_MONOTONIC time, at once if that has passed."""
        await anyio.lowlevel.checkpoint()
        while monotonic_ns - time.monotonic_ns() > _NEAR_NS:
            seconds, nanoseconds = divmod(monotonic_ns, 1_000_000_000)
            spec = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
            self._rung = self._loop.create_future()
            _checked(_libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None))
            await self._rung


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "timerfd")
    return result
