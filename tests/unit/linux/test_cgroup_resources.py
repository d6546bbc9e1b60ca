from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.linux.cgroup_resources import (
    NO_LIMIT,
    Resources,
    Write,
    shares_to_weight,
    swap_to_v2,
    v1_plan,
    v2_plan,
)


@pytest.mark.parametrize(
    ("shares", "weight"),
    # runc 1.3.2: 2, 1024 and 262144 are the minimum, the default and the maximum, as are 1, 100 and 10000.
    [(0, 0), (1, 1), (2, 1), (1024, 100), (262144, 10000), (1 << 30, 10000)],
)
def test_shares_to_weight(shares: int, weight: int) -> None:
    assert shares_to_weight(shares) == weight


@given(st.integers(2, 262143))
def test_more_shares_never_weigh_less(shares: int) -> None:
    assert 1 <= shares_to_weight(shares) <= shares_to_weight(shares + 1) <= 10000


@pytest.mark.parametrize(
    ("memory", "both", "swap"),
    [
        (100, 100, 0),
        (100, 150, 50),
        (100, NO_LIMIT, NO_LIMIT),
        (NO_LIMIT, 0, NO_LIMIT),
        (NO_LIMIT, 200, 200),
        (100, 0, None),
        (0, 0, None),
    ],
)
def test_swap(memory: int, both: int, swap: int | None) -> None:
    assert swap_to_v2(memory, both) == swap


@pytest.mark.parametrize(("memory", "both"), [(100, 99), (0, 100)])
def test_contradicting_swap(memory: int, both: int) -> None:
    with pytest.raises(ValueError, match="memory"):
        swap_to_v2(memory, both)


POD = Resources(
    cpu_shares=512,
    cpu_quota=50_000,
    cpu_period=100_000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    memory_limit_in_bytes=1 << 20,
    memory_swap_limit_in_bytes=1 << 20,
    pids_max=10,
    hugepage_limits={"2MB": 0},
)


def test_v1() -> None:
    assert v1_plan(POD) == {
        "cpu": [
            [Write("cpu.shares", "512")],
            [Write("cpu.cfs_period_us", "100000"), Write("cpu.cfs_quota_us", "50000")],
        ],
        "memory": [
            [
                Write("memory.limit_in_bytes", "1048576"),
                Write("memory.memsw.limit_in_bytes", "1048576", optional=True),
            ]
        ],
        "pids": [[Write("pids.max", "10")]],
        "cpuset": [[Write("cpuset.cpus", "0-1")], [Write("cpuset.mems", "0")]],
        "hugetlb": [
            [Write("hugetlb.2MB.limit_in_bytes", "0")],
            [Write("hugetlb.2MB.rsvd.limit_in_bytes", "0", optional=True)],
        ],
    }


def test_v2() -> None:
    assert v2_plan(POD) == {
        "cpu": [[Write("cpu.weight", "59")], [Write("cpu.max", "50000 100000")]],
        "memory": [[Write("memory.swap.max", "0", optional=True), Write("memory.max", "1048576")]],
        "pids": [[Write("pids.max", "10")]],
        "cpuset": [[Write("cpuset.cpus", "0-1")], [Write("cpuset.mems", "0")]],
        "hugetlb": [
            [Write("hugetlb.2MB.max", "0")],
            [Write("hugetlb.2MB.rsvd.max", "0", optional=True)],
        ],
    }


def test_nothing_specified_changes_nothing() -> None:
    assert v1_plan(Resources()) == {}
    assert v2_plan(Resources()) == {}


def test_no_limit() -> None:
    free = Resources(cpu_quota=-1, memory_limit_in_bytes=-1, pids_max=-1)
    assert v1_plan(free) == {
        "cpu": [[Write("cpu.cfs_quota_us", "-1")]],
        "memory": [[Write("memory.limit_in_bytes", "-1"), Write("memory.memsw.limit_in_bytes", "-1", optional=True)]],
        "pids": [[Write("pids.max", "max")]],
    }
    assert v2_plan(free) == {
        "cpu": [[Write("cpu.max", "max 100000")]],
        "memory": [[Write("memory.swap.max", "max", optional=True), Write("memory.max", "max")]],
        "pids": [[Write("pids.max", "max")]],
    }


def test_unified_settings_come_last() -> None:
    plan = v2_plan(Resources(memory_limit_in_bytes=100, unified={"memory.max": "200", "io.max": "8:0 rbps=1"}))
    assert plan == {
        "memory": [[Write("memory.max", "100")], [Write("memory.max", "200")]],
        "io": [[Write("io.max", "8:0 rbps=1")]],
    }


@pytest.mark.parametrize("file", ["cgroup.procs", "../memory.max", "memory", ".max", "a/b.c", "cgroup.subtree_control"])
def test_unified_settings_are_those_of_controllers(file: str) -> None:
    with pytest.raises(ValueError, match="unified"):
        v2_plan(Resources(unified={file: "1"}))
