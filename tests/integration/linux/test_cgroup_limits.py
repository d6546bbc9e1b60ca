"""Limits that really limit, on whatever version of cgroups controls them here."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_fixtures import ROOT, cgroups_below, running, wait_for
from linux_children import Died, in_child, status_field

from podlite.linux.cgroups import CgroupError, Cgroups, Resources

MIB = 1 << 20

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    with cgroups_below() as found:
        yield found


def needs(cgroups: Cgroups, controller: str) -> None:
    if not cgroups.version_of(controller):
        pytest.skip(f"this machine has no {controller} cgroup controller")


def test_cpu_is_throttled(cgroups: Cgroups) -> None:
    needs(cgroups, "cpu")
    path = f"{ROOT}/throttled"
    created = cgroups.create(path, Resources(cpu_quota=5_000, cpu_period=100_000, cpu_shares=2))
    assert created.warnings == []
    with running(created.attach, "while :; do :; done"):
        wait_for(lambda: (cgroups.stats(path).cpu_throttled_periods or 0) >= 2, "throttling")
        stats = cgroups.stats(path)
    assert stats.cpu_throttled_ns is not None
    assert stats.cpu_throttled_ns > 0
    assert stats.cpu_usage_ns is not None
    assert stats.cpu_usage_ns > 0


def test_too_much_memory_is_killed_and_counted(cgroups: Cgroups) -> None:
    needs(cgroups, "memory")
    path = f"{ROOT}/small"
    limits = Resources(memory_limit_in_bytes=32 * MIB, memory_swap_limit_in_bytes=32 * MIB)
    created = cgroups.create(path, limits)
    assert cgroups.oom_kills(path) == 0
    watch = cgroups.watch_oom(path)
    try:
        poller = select.poll()
        poller.register(watch.fd, select.POLLIN)
        assert poller.poll(0) == []

        def fill() -> int:
            os.execv(sys.executable, [sys.executable, "-I", "-c", "bytearray(256 << 20)"])

        with pytest.raises(Died) as caught:
            in_child(fill, join=created.attach)
        assert caught.value.signal.name == "SIGKILL"
        assert poller.poll(30_000)
        assert cgroups.oom_kills(path) == 1
        watch.drain()
        assert poller.poll(0) == []
    finally:
        watch.close()
        watch.close()
    with open(cgroups.oom_file(path)) as file:
        assert "oom_kill 1\n" in file.readlines()


def test_memory_usage(cgroups: Cgroups) -> None:
    needs(cgroups, "memory")
    path = f"{ROOT}/memory"
    created = cgroups.create(path, Resources(memory_limit_in_bytes=256 * MIB))
    fill = "import time; x = bytearray(b'x') * (40 << 20); print('full', flush=True); time.sleep(600)"
    with running(created.attach, f'exec {sys.executable} -I -c "{fill}"') as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "full\n"
        stats = cgroups.stats(path)
    assert stats.memory_limit == 256 * MIB
    assert stats.memory_usage is not None
    assert stats.memory_usage > 40 * MIB
    assert stats.memory_rss is not None
    assert stats.memory_rss > 38 * MIB
    assert stats.memory_working_set is not None
    assert 38 * MIB < stats.memory_working_set <= stats.memory_usage
    assert stats.page_faults is not None
    assert stats.page_faults > 0


def test_the_number_of_processes_is_limited(cgroups: Cgroups) -> None:
    needs(cgroups, "pids")
    path = f"{ROOT}/few"
    created = cgroups.create(path, Resources(pids_max=3))

    def fork_until_refused() -> list[int | None]:
        children = []
        try:
            while True:
                child = os.fork()
                if child == 0:
                    signal.pause()
                children.append(child)
        except BlockingIOError:
            return [len(children), cgroups.stats(path).pids]
        finally:
            for each in children:
                os.kill(each, signal.SIGKILL)
                os.waitpid(each, 0)

    assert in_child(fork_until_refused, join=created.attach) == [2, 3]


def test_cpuset(cgroups: Cgroups) -> None:
    needs(cgroups, "cpuset")
    path = f"{ROOT}/deeper/pinned"
    created = cgroups.create(path, Resources(cpuset_cpus="0", cpuset_mems="0"))
    assert in_child(lambda: status_field("Cpus_allowed_list"), join=created.attach) == "0"
    cgroups.remove(path)
    assert not cgroups.exists(path)


def test_cpuset_of_a_running_container(cgroups: Cgroups) -> None:
    """The cpuset hierarchy of v1 is joined only when it is needed, by then with everything that runs."""
    needs(cgroups, "cpuset")
    path = f"{ROOT}/late"
    created = cgroups.create(path)
    with running(created.attach, "sleep 600 & sleep 600") as process:
        wait_for(lambda: len(cgroups.processes(path)) == 3, "three processes")
        assert status_field("Cpus_allowed_list", process.pid) != "0" or os.cpu_count() == 1
        assert cgroups.set_resources(path, Resources(cpuset_cpus="0")) == []
        assert {status_field("Cpus_allowed_list", pid) for pid in cgroups.processes(path)} == {"0"}
        assert len(cgroups.attach_paths(path)) >= len(created.attach)
        cgroups.kill(path)
        assert cgroups.wait_empty(path, 30)


def test_limits_are_changed_in_either_direction(cgroups: Cgroups) -> None:
    """Each pair needs another order of writing when it grows than when it shrinks."""
    needs(cgroups, "memory")
    path = f"{ROOT}/resized"
    cgroups.create(path)
    for size in (64, 256, 32, 512):
        limits = Resources(
            memory_limit_in_bytes=size * MIB,
            memory_swap_limit_in_bytes=size * MIB,
            cpu_quota=size * 1000,
            cpu_period=100_000 if size > 100 else 50_000,
        )
        assert cgroups.set_resources(path, limits) == []
        assert cgroups.stats(path).memory_limit == size * MIB
    cgroups.set_resources(path, Resources(memory_limit_in_bytes=-1))
    assert cgroups.stats(path).memory_limit is None


def test_a_memory_limit_below_usage(cgroups: Cgroups) -> None:
    if cgroups.version_of("memory") != "v1":
        pytest.skip("v2 reclaims and kills instead")
    path = f"{ROOT}/full"
    created = cgroups.create(path)
    script = f"exec {sys.executable} -I -c \"x = bytearray(b'x') * (40 << 20); print('full', flush=True); input()\""
    command = [*(f"echo 0 > {each};" for each in created.attach), script]
    with subprocess.Popen(
        ["/bin/sh", "-ec", " ".join(command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "full\n"
        with pytest.raises(
            CgroupError, match=r"the memory limit 8388608 cannot be set: the processes in .* use \d+ bytes"
        ):
            cgroups.set_resources(path, Resources(memory_limit_in_bytes=8 * MIB))
        process.communicate("\n")


def test_what_the_kernel_refuses_names_value_and_file(cgroups: Cgroups) -> None:
    needs(cgroups, "cpu")
    path = f"{ROOT}/refused"
    with pytest.raises(
        CgroupError, match=rf"the kernel refuses '.*' for .*{path}/cpu\..*; it may not exceed what"
    ) as caught:
        cgroups.create(path, Resources(cpu_period=1))
    assert caught.value.errno == errno.EINVAL


def test_a_child_may_not_have_more_than_its_pod(cgroups: Cgroups) -> None:
    if cgroups.version_of("cpu") != "v1":
        pytest.skip("v2 takes the value and applies the smaller one")
    cgroups.create(f"{ROOT}/pod", Resources(cpu_quota=10_000, cpu_period=100_000))
    with pytest.raises(CgroupError, match=r"it may not exceed what .*/pod has"):
        cgroups.create(f"{ROOT}/pod/container", Resources(cpu_quota=50_000, cpu_period=100_000))


def test_pods_in_their_classes(cgroups: Cgroups) -> None:
    needs(cgroups, "cpu")
    path = cgroups.create_pod("BestEffort", "1234", Resources(cpu_shares=2))
    assert path == f"{ROOT}/kubepods/besteffort/pod1234"
    assert cgroups.create_pod("BestEffort", "1234") == path
    directory = Path(cgroups.attach_paths(f"{ROOT}/kubepods/besteffort")[0]).parent
    v1, v2 = directory / "cpu.shares", directory / "cpu.weight"
    assert (v1.read_text() if v1.exists() else v2.read_text()) in ("2\n", "1\n")
    guaranteed = cgroups.create_pod("Guaranteed", "5678")
    cgroups.remove(path)
    cgroups.remove_empty_parents(path)
    assert not cgroups.exists(os.path.dirname(path))
    assert cgroups.exists(guaranteed)
    cgroups.remove(guaranteed)
    cgroups.remove_empty_parents(guaranteed)
    assert not cgroups.exists(ROOT)


def test_unified_settings_need_v2(cgroups: Cgroups) -> None:
    if cgroups.version_of("memory") != "v1":
        pytest.skip("the memory controller is on v2")
    with pytest.raises(
        CgroupError, match=r"memory\.high is a setting of cgroup v2, and here the memory controller is on v1"
    ):
        cgroups.create(f"{ROOT}/a", Resources(unified={"memory.high": "1M"}))
