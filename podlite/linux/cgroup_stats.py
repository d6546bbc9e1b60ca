"""What a cgroup has used.

Sources: Documentation/admin-guide/cgroup-v1/{memory,cpuacct}.rst, cgroup-v2.rst, accounting/psi.rst; the choice of
fields is that of CRI's ContainerStats.
"""

from __future__ import annotations

import msgspec

from podlite.linux.cgroup_files import read, read_numbers


class Stall(msgspec.Struct, frozen=True):
    """Percent of the last 10, 60 and 300 s in which tasks waited, and microseconds in all."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_us: int = 0


class Pressure(msgspec.Struct, frozen=True):
    """One resource's stall information: while some task waited for it, and while all of them did."""

    some: Stall
    full: Stall


class Stats(msgspec.Struct, kw_only=True):
    """None means that this machine does not say.

    `memory_working_set` is usage without the page cache that has not been used lately, which the kernel gives
    back first; `memory_limit` is None where there is no limit. Faults are counted over the cgroup's life.
    """

    cpu_usage_ns: int | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled_ns: int | None = None
    memory_usage: int | None = None
    memory_working_set: int | None = None
    memory_rss: int | None = None
    memory_limit: int | None = None
    memory_swap: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    pids: int | None = None
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


# v1 says "no limit" with the largest page-aligned number (PAGE_COUNTER_MAX), which depends on the page size.
_V1_NO_LIMIT = 1 << 62


def add_v1_cpu(stats: Stats, directory: str) -> None:
    throttling = _numbers(f"{directory}/cpu.stat")
    stats.cpu_throttled_periods = throttling.get("nr_throttled")
    stats.cpu_throttled_ns = throttling.get("throttled_time")


def add_v1_cpuacct(stats: Stats, directory: str) -> None:
    stats.cpu_usage_ns = read_number(f"{directory}/cpuacct.usage")


def add_v1_memory(stats: Stats, directory: str) -> None:
    details = _numbers(f"{directory}/memory.stat")
    usage = read_number(f"{directory}/memory.usage_in_bytes")
    limit = read_number(f"{directory}/memory.limit_in_bytes")
    stats.memory_usage = usage
    if usage is not None:
        stats.memory_working_set = max(0, usage - details.get("total_inactive_file", 0))
    stats.memory_rss = details.get("total_rss")
    stats.memory_swap = details.get("total_swap")
    stats.memory_limit = None if limit is None or limit >= _V1_NO_LIMIT else limit
    stats.page_faults = details.get("total_pgfault")
    stats.major_page_faults = details.get("total_pgmajfault")


def add_v2_cpu(stats: Stats, directory: str) -> None:
    """cpu.stat has the usage even where the cpu controller is not enabled, or belongs to v1."""
    details = _numbers(f"{directory}/cpu.stat")
    if "usage_usec" in details:
        stats.cpu_usage_ns = details["usage_usec"] * 1000
    if "nr_throttled" in details:
        stats.cpu_throttled_periods = details["nr_throttled"]
        stats.cpu_throttled_ns = details.get("throttled_usec", 0) * 1000


def add_v2_memory(stats: Stats, directory: str) -> None:
    details = _numbers(f"{directory}/memory.stat")
    usage = read_number(f"{directory}/memory.current")
    stats.memory_usage = usage
    if usage is not None:
        stats.memory_working_set = max(0, usage - details.get("inactive_file", 0))
    stats.memory_rss = details.get("anon")
    stats.memory_limit = read_number(f"{directory}/memory.max")
    stats.memory_swap = read_number(f"{directory}/memory.swap.current")
    stats.page_faults = details.get("pgfault")
    stats.major_page_faults = details.get("pgmajfault")


def add_pids(stats: Stats, directory: str) -> None:
    stats.pids = read_number(f"{directory}/pids.current")


def add_pressure(stats: Stats, directory: str) -> None:
    stats.cpu_pressure = _pressure(f"{directory}/cpu.pressure")
    stats.memory_pressure = _pressure(f"{directory}/memory.pressure")
    stats.io_pressure = _pressure(f"{directory}/io.pressure")


def parse_pressure(text: str) -> Pressure:
    """`some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`. Pure."""
    stalls = {"some": Stall(), "full": Stall()}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields)
        stalls[kind] = Stall(
            float(values["avg10"]), float(values["avg60"]), float(values["avg300"]), int(values["total"])
        )
    return Pressure(**stalls)


def _pressure(path: str) -> Pressure | None:
    try:
        return parse_pressure(read(path))
    except OSError:
        # No such file, or EOPNOTSUPP where the kernel was started with psi=0.
        return None


def _numbers(path: str) -> dict[str, int]:
    try:
        return read_numbers(path)
    except OSError:
        return {}


def read_number(path: str) -> int | None:
    """The number in a file; None where there is no such file, or it says `max`. Blocking."""
    try:
        text = read(path).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
