"""UpdateContainerResources: what is not specified stays as it is, also where the kernel takes two values at once."""

from __future__ import annotations

import pytest

from podlite.cri.types import LinuxContainerResources
from podlite.linux.cgroup_resources import v2_plan
from podlite.runtime.container.create import as_limits
from podlite.runtime.container.update import completed

MEBI = 1 << 20


@pytest.mark.parametrize(
    ("old", "new", "written"),
    [
        # Documentation/admin-guide/cgroup-v2.rst, cpu.max: "$MAX $PERIOD".
        ({"cpu_quota": 50000, "cpu_period": 100000}, {"cpu_period": 200000}, {"cpu.max": "50000 200000"}),
        ({"cpu_quota": 50000, "cpu_period": 200000}, {"cpu_quota": 25000}, {"cpu.max": "25000 200000"}),
        ({"cpu_quota": 50000, "cpu_period": 200000}, {"cpu_quota": -1}, {"cpu.max": "max 200000"}),
        ({}, {"cpu_period": 200000}, {"cpu.max": "max 200000"}),
        # memory.swap.max is of swap alone.
        (
            {"memory_limit_in_bytes": 64 * MEBI},
            {"memory_swap_limit_in_bytes": 96 * MEBI},
            {"memory.max": str(64 * MEBI), "memory.swap.max": str(32 * MEBI)},
        ),
        (
            {"memory_limit_in_bytes": 64 * MEBI, "memory_swap_limit_in_bytes": 64 * MEBI},
            {"memory_limit_in_bytes": 128 * MEBI},
            {"memory.max": str(128 * MEBI)},
        ),
        ({"cpu_quota": 50000, "cpu_period": 100000}, {"cpuset_cpus": "0"}, {"cpuset.cpus": "0"}),
    ],
)
def test_one_of_two_that_go_together(old: dict[str, int], new: dict[str, int], written: dict[str, str]) -> None:
    limits = completed(LinuxContainerResources(**old), LinuxContainerResources(**new))  # type: ignore[arg-type]
    plan = v2_plan(as_limits(limits))
    assert {write.file: write.value for groups in plan.values() for group in groups for write in group} == written
