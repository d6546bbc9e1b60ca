"""The processor time that a measurement costs, of the whole machine.

Of the whole machine, because much of it is spent where no process of ours is: by daemons of the peers, by processes
that live for a millisecond, by the kernel's own threads that free namespaces later. So a busy neighbour is in the
figure too: measure on a quiet machine.

    user      /proc/stat: user, nice
    system    /proc/stat: system, irq, softirq, without what the kernel's own threads take
    kernel    /proc/<pid>/schedstat of every kernel thread: cleanup_net, RCU, softirqs on ksoftirqd
"""

from __future__ import annotations

import os

import msgspec

_TICK = os.sysconf("SC_CLK_TCK")
# PF_KTHREAD of /proc/<pid>/stat's flags (include/linux/sched.h).
_PF_KTHREAD = 0x00200000


class CpuTime(msgspec.Struct):
    """Seconds."""

    user: float = 0.0
    system: float = 0.0
    kernel: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system + self.kernel

    def add(self, other: CpuTime) -> None:
        self.user += other.user
        self.system += other.system
        self.kernel += other.kernel


class CpuMeter:
    """The processor time since it was made. Blocking, for a few milliseconds."""

    def __init__(self) -> None:
        self._kernel = _kernel_threads()
        self._user, self._system = _machine()

    def read(self) -> CpuTime:
        user, system = _machine()
        now = _kernel_threads()
        # A kernel thread that has ended takes its time with it; one that is new has spent all of it since.
        kernel = sum(spent - self._kernel.get(pid, 0) for pid, spent in now.items()) / 1e9
        return CpuTime(user=user - self._user, system=max(0.0, system - self._system - kernel), kernel=max(0.0, kernel))


def _machine() -> tuple[float, float]:
    with open("/proc/stat", encoding="utf-8") as file:
        words = file.readline().split()
    user, nice, system, _, _, irq, softirq = (int(word) for word in words[1:8])
    return (user + nice) / _TICK, (system + irq + softirq) / _TICK


def _kernel_threads() -> dict[int, int]:
    """pid → nanoseconds on a processor."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                flags = int(file.read().rpartition(b")")[2].split()[6])
            if flags & _PF_KTHREAD:
                with open(f"/proc/{name}/schedstat", "rb") as file:
                    found[int(name)] = int(file.read().split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return found
