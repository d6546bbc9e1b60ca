"""What a cgroup is limited to, and what has to be written into which file for it: all pure.

Fields and units are those of CRI's LinuxContainerResources, zero meaning "not specified" and -1 "no limit".

Sources: api.proto of CRI v1; Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst; runc's and the kubelet's
conversions between the two versions (opencontainers/cgroups).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec


class Resources(msgspec.Struct, kw_only=True, frozen=True):
    """Limits. `hugepage_limits` maps a page size such as 2MB to bytes; `unified` a v2 file to its content."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory_limit_in_bytes: int = 0
    memory_swap_limit_in_bytes: int = 0
    pids_max: int = 0
    hugepage_limits: dict[str, int] = {}
    unified: dict[str, str] = {}


class Write(NamedTuple):
    """One file to write. `optional`: a kernel without the file is limited enough already."""

    file: str
    value: str
    optional: bool = False


# Controller → groups of writes. Within a group the kernel may ask for the reverse order (EINVAL), depending on
# the values that are there; between groups it makes no difference.
Plan = dict[str, list[list[Write]]]

MIN_SHARES, MAX_SHARES = 2, 262144
DEFAULT_PERIOD = 100_000
NO_LIMIT = -1


def shares_to_weight(shares: int) -> int:
    """v1's cpu.shares (2 to 262144, default 1024) as v2's cpu.weight (1 to 10000, default 100); 0 stays 0.

    The curve through minimum, default and maximum that runc has had since 1.3.2 and the kubelet shares; the
    straight line before it gave 1024 shares, a whole CPU, a weight of 39.
    """
    if shares <= 0:
        return 0
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10_000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def swap_to_v2(memory: int, memory_and_swap: int) -> int | None:
    """v1's limit of memory and swap together as v2's of swap alone; None for "do not touch".

    Raises ValueError if the sum is smaller than the memory limit, or cannot be split for lack of one.
    """
    if memory == NO_LIMIT and memory_and_swap == 0:
        return NO_LIMIT
    if memory_and_swap == 0:
        return None
    if memory_and_swap == NO_LIMIT or memory == NO_LIMIT:
        return memory_and_swap
    if memory == 0:
        raise ValueError("a limit of memory and swap needs a memory limit beside it")
    if memory_and_swap < memory:
        raise ValueError(
            f"the limit of memory and swap together ({memory_and_swap}) is smaller than that of memory ({memory})"
        )
    return memory_and_swap - memory


def v1_plan(resources: Resources) -> Plan:
    """What cgroup v1's controllers need. `unified` has no meaning there and is left out."""
    plan: Plan = {}
    if resources.cpu_shares:
        plan.setdefault("cpu", []).append([Write("cpu.shares", str(max(resources.cpu_shares, MIN_SHARES)))])
    bandwidth = []
    if resources.cpu_period:
        bandwidth.append(Write("cpu.cfs_period_us", str(resources.cpu_period)))
    if resources.cpu_quota:
        bandwidth.append(Write("cpu.cfs_quota_us", str(resources.cpu_quota)))
    if bandwidth:
        plan.setdefault("cpu", []).append(bandwidth)
    memory = []
    if resources.memory_limit_in_bytes:
        memory.append(Write("memory.limit_in_bytes", str(resources.memory_limit_in_bytes)))
    swap = resources.memory_swap_limit_in_bytes
    if swap == 0 and resources.memory_limit_in_bytes == NO_LIMIT:
        swap = NO_LIMIT
    if swap:
        # The file is missing with swapaccount=0: there is no limit then, and where there is no swap no need for one.
        memory.append(Write("memory.memsw.limit_in_bytes", str(swap), optional=True))
    if memory:
        plan["memory"] = [memory]
    plan.update(_common(resources))
    for size, limit in resources.hugepage_limits.items():
        plan.setdefault("hugetlb", []).extend(
            (
                [Write(f"hugetlb.{size}.limit_in_bytes", str(limit))],
                [Write(f"hugetlb.{size}.rsvd.limit_in_bytes", str(limit), optional=True)],
            )
        )
    return plan


def v2_plan(resources: Resources) -> Plan:
    """What cgroup v2's controllers need, `unified` last, so that it decides. Raises ValueError for a bad value."""
    plan: Plan = {}
    if resources.cpu_shares:
        plan.setdefault("cpu", []).append([Write("cpu.weight", str(shares_to_weight(resources.cpu_shares)))])
    if resources.cpu_quota or resources.cpu_period:
        quota = str(resources.cpu_quota) if resources.cpu_quota > 0 else "max"
        plan.setdefault("cpu", []).append([Write("cpu.max", f"{quota} {resources.cpu_period or DEFAULT_PERIOD}")])
    memory = []
    swap = swap_to_v2(resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes)
    if swap is not None:
        memory.append(Write("memory.swap.max", _or_max(swap), optional=swap in (0, NO_LIMIT)))
    if resources.memory_limit_in_bytes:
        memory.append(Write("memory.max", _or_max(resources.memory_limit_in_bytes)))
    if memory:
        plan["memory"] = [memory]
    plan.update(_common(resources))
    for size, limit in resources.hugepage_limits.items():
        plan.setdefault("hugetlb", []).extend(
            (
                [Write(f"hugetlb.{size}.max", str(limit))],
                [Write(f"hugetlb.{size}.rsvd.max", str(limit), optional=True)],
            )
        )
    for file, value in resources.unified.items():
        controller = file.partition(".")[0]
        if "/" in file or "." not in file or controller in ("", "cgroup"):
            raise ValueError(f"unified: {file!r} is not the name of a controller's file, such as memory.high")
        plan.setdefault(controller, []).append([Write(file, value)])
    return plan


def _common(resources: Resources) -> Plan:
    plan: Plan = {}
    if resources.pids_max:
        plan["pids"] = [[Write("pids.max", _or_max(resources.pids_max))]]
    if resources.cpuset_cpus:
        plan.setdefault("cpuset", []).append([Write("cpuset.cpus", resources.cpuset_cpus)])
    if resources.cpuset_mems:
        plan.setdefault("cpuset", []).append([Write("cpuset.mems", resources.cpuset_mems)])
    return plan


def _or_max(limit: int) -> str:
    return "max" if limit < 0 else str(limit)
