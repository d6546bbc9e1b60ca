"""Which hierarchies are used, and which paths are refused; cgroup v2's files are stood in for by ordinary ones where
this machine's controllers are on v1."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlite.linux.cgroup_mounts import Hierarchy
from podlite.linux.cgroup_stats import Stall, parse_pressure
from podlite.linux.cgroups import CgroupError, Cgroups, CgroupUnavailable, Resources


def v1(controllers: str, *, writable: bool = True) -> Hierarchy:
    return Hierarchy(1, frozenset(controllers.split(",")), f"/sys/fs/cgroup/{controllers}", "/", writable)


def v2(controllers: str = "", *, mount: str = "/sys/fs/cgroup/unified", writable: bool = True) -> Hierarchy:
    return Hierarchy(2, frozenset(controllers.split()), mount, "/", writable)


EVERY_V1 = tuple(
    v1(each) for each in ("cpu,cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "name=systemd")
)


def attach(cgroups: Cgroups) -> list[str]:
    return [path.removeprefix("/sys/fs/cgroup/") for path in cgroups.attach_paths("/podlite-unit-test/a")]


def test_hybrid_joins_what_has_a_duty() -> None:
    cgroups = Cgroups((*EVERY_V1, v2()), "/podlite-unit-test")
    assert attach(cgroups) == [
        "cpu,cpuacct/podlite-unit-test/a/tasks",
        "memory/podlite-unit-test/a/tasks",
        "pids/podlite-unit-test/a/tasks",
        "unified/podlite-unit-test/a/cgroup.procs",
    ]
    assert cgroups.describe() == "hybrid"
    assert cgroups.missing == {}
    assert cgroups.oom_file("/podlite-unit-test/a") == "/sys/fs/cgroup/memory/podlite-unit-test/a/memory.oom_control"


def test_devices_by_bpf_need_no_hierarchy() -> None:
    assert Cgroups((*EVERY_V1, v2()), "/podlite-unit-test").version_of("devices") == "v1"
    assert Cgroups((*EVERY_V1, v2()), "/podlite-unit-test", devices_by_bpf=True).version_of("devices") == ""


def test_v1_alone_needs_more() -> None:
    cgroups = Cgroups(EVERY_V1, "/podlite-unit-test", devices_by_bpf=True)
    assert [path.split("/")[0] for path in attach(cgroups)] == ["cpu,cpuacct", "memory", "pids", "freezer"]
    assert cgroups.version_of("devices") == "v1"
    assert cgroups.describe() == "v1"


def test_where_pods_have_no_duty_there_is_one_level() -> None:
    path = "/podlite-unit-test/kubepods/besteffort/pod1/abc"
    hybrid = Cgroups((*EVERY_V1, v2()), "/podlite-unit-test")
    assert dict(hybrid.view(path)) == {
        "cpu,cpuacct": f"/sys/fs/cgroup/cpu,cpuacct{path}",
        "memory": f"/sys/fs/cgroup/memory{path}",
        "pids": f"/sys/fs/cgroup/pids{path}",
        "devices": "/sys/fs/cgroup/devices/podlite-unit-test/abc",
    }
    assert hybrid.freezer(path) == "/sys/fs/cgroup/freezer/podlite-unit-test/abc"
    # It freezes whole pods where nothing else does.
    assert Cgroups(EVERY_V1, "/podlite-unit-test").freezer(path) == f"/sys/fs/cgroup/freezer{path}"
    assert Cgroups((*EVERY_V1, v2()), "/").freezer("/kubepods/pod1/abc") == "/sys/fs/cgroup/freezer/podlite/abc"


def test_v2_alone() -> None:
    cgroups = Cgroups((v2("cpuset cpu io memory hugetlb pids", mount="/sys/fs/cgroup"),), "/podlite-unit-test")
    assert attach(cgroups) == ["podlite-unit-test/a/cgroup.procs"]
    assert cgroups.describe() == "v2"
    assert cgroups.oom_file("/podlite-unit-test/a") == "/sys/fs/cgroup/podlite-unit-test/a/memory.events"
    assert cgroups.version_of("memory") == "v2"


def test_missing_and_read_only_controllers_are_told() -> None:
    cgroups = Cgroups((v1("cpu,cpuacct"), v1("memory", writable=False), v2()), "/podlite-unit-test")
    assert cgroups.missing == {
        "memory": "/sys/fs/cgroup/memory is mounted read-only",
        "pids": "this machine has no pids cgroup controller",
    }
    assert attach(cgroups) == ["cpu,cpuacct/podlite-unit-test/a/tasks", "unified/podlite-unit-test/a/cgroup.procs"]
    with pytest.raises(CgroupUnavailable, match="read-only"):
        cgroups.watch_oom("/podlite-unit-test/a")


@pytest.mark.parametrize("mounted", [(), (v1("cpu", writable=False), v2(writable=False))])
def test_nothing_to_write_to(mounted: tuple[Hierarchy, ...]) -> None:
    with pytest.raises(CgroupUnavailable, match="no cgroup hierarchy can be written to") as caught:
        Cgroups(mounted, "/podlite-unit-test").create("/podlite-unit-test/a")
    assert "privileged" in caught.value.hint


@pytest.mark.parametrize("path", ["/other", "/podlite-unit-testing", "/podlite-unit-test/../other", "relative", "/"])
def test_paths_outside_the_root_are_refused(path: str) -> None:
    cgroups = Cgroups((v2(),), "/podlite-unit-test")
    for operation in (cgroups.create, cgroups.remove, cgroups.kill, cgroups.attach_paths, cgroups.stats):
        with pytest.raises(ValueError, match="does not lie below /podlite-unit-test"):
            operation(path)


def test_the_root_of_a_kubelets_runtime() -> None:
    cgroups = Cgroups((v2(),), "/")
    assert cgroups.v2_directory("/kubepods/pod1/a") == "/sys/fs/cgroup/unified/kubepods/pod1/a"
    with pytest.raises(ValueError, match="does not lie below"):
        cgroups.remove("/")
    with pytest.raises(ValueError, match="absolute"):
        Cgroups((), "podlite")


@pytest.mark.parametrize(
    ("qos", "path"),
    # kubelet, pkg/kubelet/cm: the QoS classes' containers, cgroupfs driver
    [
        ("Guaranteed", "/podlite/kubepods/pod1234"),
        ("Burstable", "/podlite/kubepods/burstable/pod1234"),
        ("BestEffort", "/podlite/kubepods/besteffort/pod1234"),
    ],
)
def test_pod_path(qos: str, path: str) -> None:
    assert Cgroups((), "/podlite").pod_path(qos, "1234") == path


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A v2 tree of ordinary files, with every controller there already."""
    directory = tmp_path / "podlite" / "a"
    directory.mkdir(parents=True)
    names = ("cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "memory.high", "pids.max", "cpuset.cpus")
    for name in (*names, "cgroup.procs"):
        (directory / name).touch()
    (directory / "cgroup.controllers").write_text("cpu memory pids cpuset\n")
    return tmp_path


def test_v2_limits_are_written(stand_in: Path) -> None:
    cgroups = Cgroups((v2("cpu memory pids cpuset", mount=str(stand_in)),), "/podlite")
    limits = Resources(
        cpu_shares=1024,
        cpu_quota=25_000,
        memory_limit_in_bytes=64 << 20,
        memory_swap_limit_in_bytes=64 << 20,
        pids_max=100,
        cpuset_cpus="0",
        unified={"memory.high": "60M"},
        hugepage_limits={"2MB": 0},
    )
    assert cgroups.create("/podlite/a", limits).warnings == [
        "no hugetlb limit can be set for /podlite/a: this machine has no hugetlb cgroup controller"
    ]
    written = {path.name: path.read_text() for path in (stand_in / "podlite" / "a").iterdir()}
    assert written == {
        "cgroup.controllers": "cpu memory pids cpuset\n",
        "cgroup.procs": "",
        "cpu.weight": "100",
        "cpu.max": "25000 100000",
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.high": "60M",
        "pids.max": "100",
        "cpuset.cpus": "0",
    }


def test_v2_without_swap_accounting(stand_in: Path) -> None:
    (stand_in / "podlite" / "a" / "memory.swap.max").unlink()
    cgroups = Cgroups((v2("cpu memory pids cpuset", mount=str(stand_in)),), "/podlite")
    cgroups.set_resources("/podlite/a", Resources(memory_limit_in_bytes=100, memory_swap_limit_in_bytes=100))
    assert (stand_in / "podlite" / "a" / "memory.max").read_text() == "100"
    with pytest.raises(CgroupError, match=r"memory\.swap\.max: it does not exist"):
        cgroups.set_resources("/podlite/a", Resources(memory_limit_in_bytes=100, memory_swap_limit_in_bytes=150))


def test_contradicting_limits_are_a_sentence(stand_in: Path) -> None:
    cgroups = Cgroups((v2("cpu memory pids cpuset", mount=str(stand_in)),), "/podlite")
    with pytest.raises(CgroupError, match="the limits of the cgroup /podlite/a contradict each other"):
        cgroups.set_resources("/podlite/a", Resources(memory_limit_in_bytes=100, memory_swap_limit_in_bytes=50))


def test_v2_usage(stand_in: Path) -> None:
    directory = stand_in / "podlite" / "a"
    for name, content in {
        "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_throttled 3\nthrottled_usec 7\n",
        "memory.current": "1000\n",
        "memory.max": "max\n",
        "memory.stat": "anon 600\nfile 400\ninactive_file 300\npgfault 12\npgmajfault 2\n",
        "memory.swap.current": "8\n",
        "memory.events": "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\noom_group_kill 0\n",
        "pids.current": "5\n",
        "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n",
    }.items():
        (directory / name).write_text(content)
    cgroups = Cgroups((v2("cpu memory pids", mount=str(stand_in)),), "/podlite")
    stats = cgroups.stats("/podlite/a")
    assert stats.cpu_usage_ns == 1_500_000
    assert (stats.cpu_throttled_periods, stats.cpu_throttled_ns) == (3, 7000)
    assert (stats.memory_usage, stats.memory_working_set, stats.memory_rss) == (1000, 700, 600)
    assert (stats.memory_limit, stats.memory_swap) == (None, 8)
    assert (stats.page_faults, stats.major_page_faults, stats.pids) == (12, 2, 5)
    assert stats.cpu_pressure is not None
    assert stats.cpu_pressure.some == Stall(1.5, 0.0, 0.0, 9)
    assert stats.memory_pressure is None
    assert cgroups.oom_kills("/podlite/a") == 1


def test_pressure() -> None:
    pressure = parse_pressure("some avg10=0.12 avg60=3.00 avg300=99.99 total=123456\n")
    assert pressure.some == Stall(0.12, 3.0, 99.99, 123456)
    assert pressure.full == Stall()
