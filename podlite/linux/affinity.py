"""Keeping the threads of a process that pass Python's lock to and fro on one CPU while they have much to do.

Only one of them runs Python at a time, and each gives the lock up around every system call. Where the kernel spreads
them over CPUs each time is a wake-up of another CPU: a third of the processor time that a pod costs its controller.

    gathered ── for a crowd of work: the event loop's thread stays where it was, and threads that `follow` come along
    scattered ── everybody runs where the process may

A thread or a program that a thread starts begins on that one's CPUs (sched_setaffinity(2)): what does not belong to it
calls `spread` first thing, or is started within `elsewhere`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# sched_getcpu(3); not by way of CDLL, which would give the lock up for it.
_getcpu = ctypes.PyDLL(None)["sched_getcpu"]

# Where who follows is to go; -1 is anywhere. Both are changed by the event loop's thread only.
home = -1
gathered = False
# The CPUs that the process had before it was gathered; empty when it is not.
_everywhere: set[int] = set()
_gatherer = 0


def gather() -> None:
    """Keeps the calling thread, the event loop's, on the CPU that it is on; one at a time, and idempotent.

    Where that cannot be it is no error: everybody runs where he did.
    """
    global home, gathered, _everywhere, _gatherer
    if gathered:
        return
    # Known before, and until after, this thread has one CPU only: other threads ask at any time.
    _everywhere = os.sched_getaffinity(0)
    try:
        cpu = _getcpu()
        os.sched_setaffinity(0, (cpu,))
    except OSError:
        _everywhere = set()
        return
    _gatherer = threading.get_ident()
    home, gathered = cpu, True


def scatter() -> None:
    """Lets the calling thread run everywhere again, if it is the one that gathered; idempotent."""
    global home, gathered, _everywhere
    if gathered and threading.get_ident() == _gatherer:
        home, gathered = -1, False
        _set(_everywhere)
        _everywhere = set()


def follow(at: int) -> int:
    """For a thread that comes along, before each piece of work: `at` is what this returned last, at first -1."""
    cpu = home
    if cpu == at:
        return at
    if cpu < 0:
        spread()
    else:
        _set((cpu,))
    return cpu


def spread() -> None:
    """The calling thread runs where the process may, whichever thread started it."""
    _set(_process())


@contextmanager
def elsewhere() -> Iterator[None]:
    """What the calling thread starts within runs where the process may."""
    here = os.sched_getaffinity(0)
    _set(_process())
    try:
        yield
    finally:
        _set(here)


def keep_off(pid: int) -> None:
    """Keeps process `pid`, a sleeping one that the calling thread is about to wake, off the CPU of this thread.

    For when both have to do at once. The kernel wakes it on this CPU if it was there last, or if the message says that
    its sender is about to sleep, as that of a Unix socket does (WF_SYNC); and as a guest it does not see that another
    CPU is idle, for one that has halted looks as one that the host has taken away (vcpu_is_preempted). It would wait
    for a millisecond. With one CPU only, or a process that is gone, nothing happens.
    """
    others = _process() - {_getcpu()}
    if others and pid:
        _set(others, pid)


def _process() -> set[int]:
    # Its first thread is the event loop's, or one that nobody keeps anywhere.
    return _everywhere or os.sched_getaffinity(os.getpid())


def _set(cpus: set[int] | tuple[int, ...], pid: int = 0) -> None:
    try:
        os.sched_setaffinity(pid, cpus)
    except OSError:
        pass  # CPUs that the process may not use any more, or it is gone
