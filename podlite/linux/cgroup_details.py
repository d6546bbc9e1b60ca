"""What cAdvisor's metrics say of a cgroup beyond `cgroup_stats`, and of the processes in it.

Sources: Documentation/admin-guide/cgroup-v1/{memory,cpuacct}.rst, cgroup-v2.rst, proc_pid_stat(5), proc_pid_fd(5).
"""

from __future__ import annotations

import os

import msgspec

from podlite.linux.cgroup_files import read, read_numbers
from podlite.linux.cgroup_stats import read_number

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Details(msgspec.Struct, kw_only=True):
    """None means that this machine does not say. CPU times are nanoseconds."""

    cpu_user: int | None = None
    cpu_system: int | None = None
    cpu_periods: int | None = None
    memory_cache: int | None = None
    memory_mapped_file: int | None = None
    memory_kernel: int | None = None
    memory_peak: int | None = None
    memory_failures: int | None = None
    oom_kills: int | None = None
    pids_max: int | None = None
    devices: list[BlockDevice] = []


class BlockDevice(msgspec.Struct, frozen=True):
    """What has been read from and written to one device, by its number."""

    major: int
    minor: int
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Processes(msgspec.Struct, kw_only=True):
    """The processes of a cgroup, counted; `open_files_soft` is the limit of the first of them."""

    processes: int = 0
    threads: int = 0
    descriptors: int = 0
    sockets: int = 0
    open_files_soft: int | None = None


def add_v1(details: Details, controller: str, directory: str) -> None:
    """Adds what a v1 hierarchy's directory says."""
    if controller == "cpu":
        details.cpu_periods = _numbers(f"{directory}/cpu.stat").get("nr_periods")
    elif controller == "cpuacct":
        ticks = _numbers(f"{directory}/cpuacct.stat")
        if "user" in ticks:
            details.cpu_user, details.cpu_system = ticks["user"] * _TICK_NS, ticks["system"] * _TICK_NS
    elif controller == "memory":
        numbers = _numbers(f"{directory}/memory.stat")
        details.memory_cache = numbers.get("total_cache")
        details.memory_mapped_file = numbers.get("total_mapped_file")
        details.memory_kernel = read_number(f"{directory}/memory.kmem.usage_in_bytes")
        details.memory_peak = read_number(f"{directory}/memory.max_usage_in_bytes")
        details.memory_failures = read_number(f"{directory}/memory.failcnt")
        details.oom_kills = _numbers(f"{directory}/memory.oom_control").get("oom_kill")
    elif controller == "pids":
        details.pids_max = read_number(f"{directory}/pids.max")


def add_v2(details: Details, directory: str) -> None:
    """Adds what the v2 directory says; files of controllers that are elsewhere are not there."""
    cpu = _numbers(f"{directory}/cpu.stat")
    if "user_usec" in cpu:
        details.cpu_user, details.cpu_system = cpu["user_usec"] * 1000, cpu["system_usec"] * 1000
    if "nr_periods" in cpu:
        details.cpu_periods = cpu["nr_periods"]
    numbers = _numbers(f"{directory}/memory.stat")
    if numbers:
        details.memory_cache = numbers.get("file")
        details.memory_mapped_file = numbers.get("file_mapped")
        details.memory_kernel = numbers.get("kernel")
        details.memory_peak = read_number(f"{directory}/memory.peak")
        events = _numbers(f"{directory}/memory.events")
        details.memory_failures = events.get("max")
        details.oom_kills = events.get("oom_kill")
    pids = read_number(f"{directory}/pids.max")
    if pids is not None:
        details.pids_max = pids
    try:
        details.devices = parse_io(read(f"{directory}/io.stat"))
    except OSError:
        pass  # the io controller is on v1, where containers do not join it, or not enabled


def parse_io(text: str) -> list[BlockDevice]:
    """io.stat: `8:16 rbytes=1459200 wbytes=0 rios=192 wios=0 dbytes=0 dios=0` per device. Pure."""
    found = []
    for line in text.splitlines():
        device, *fields = line.split()
        major, _, minor = device.partition(":")
        values = {name: int(value) for name, _, value in (each.partition("=") for each in fields) if value.isdigit()}
        if values and major.isdigit() and minor.isdigit():
            counts = [values.get(name, 0) for name in ("rbytes", "wbytes", "rios", "wios")]
            found.append(BlockDevice(int(major), int(minor), *counts))
    return found


def count_processes(pids: list[int]) -> Processes:
    """Looks at each process; one that ends meanwhile is left out. Blocking."""
    found = Processes()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name may have anything in it; field 20, num_threads, is the 18th after its parenthesis.
                threads = int(file.read().rpartition(b")")[2].split()[17])
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except (OSError, IndexError, ValueError):
            continue
        found.processes += 1
        found.threads += threads
        found.descriptors += len(descriptors)
        found.sockets += sum(_is_socket(pid, fd) for fd in descriptors)
        if found.open_files_soft is None:
            found.open_files_soft = _open_files_limit(pid)
    return found


def _is_socket(pid: int, fd: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    except OSError:
        return False


def _open_files_limit(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/limits", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("Max open files"):
                    soft = line.split()[3]
                    return int(soft) if soft.isdigit() else None
    except (OSError, IndexError):
        pass
    return None


def _numbers(path: str) -> dict[str, int]:
    try:
        return read_numbers(path)
    except (OSError, ValueError):
        return {}
