"""Creating, filling, killing, freezing and removing cgroups: on all hierarchies of this machine, and on v1's alone."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_fixtures import ROOT, cgroups_below, running, wait_for
from linux_children import in_child

from podlite.linux import syscalls
from podlite.linux.cgroup_mounts import hierarchies
from podlite.linux.cgroups import CgroupError, Cgroups, CgroupUnavailable, Resources
from podlite.linux.devices import DEFAULT_RULES

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(params=["all", "v1 alone"])
def cgroups(request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    mounted = hierarchies()
    if request.param == "v1 alone":
        mounted = tuple(each for each in mounted if each.version == 1)
        if not any("freezer" in each.controllers for each in mounted):
            pytest.skip("this machine has no v1 hierarchies")
    with cgroups_below(mounted=mounted) as found:
        yield found


@pytest.fixture
def unified() -> Iterator[Cgroups]:
    with cgroups_below() as found:
        if found.unified is None:
            pytest.skip("this machine has no cgroup v2 tree")
        yield found


def test_create_and_remove_are_idempotent(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a/b/c"
    assert not cgroups.exists(path)
    created = cgroups.create(path)
    assert cgroups.create(path).attach == created.attach
    assert all(os.path.exists(each) for each in created.attach)
    assert cgroups.exists(path)
    cgroups.remove(f"{ROOT}/a")
    cgroups.remove(f"{ROOT}/a")
    assert not cgroups.exists(path)
    assert not cgroups.exists(f"{ROOT}/a")


def test_a_container_has_one_in_every_hierarchy_of_v1(cgroups: Cgroups) -> None:
    """name=systemd included; else what it mounts of them anew would begin with the host's (cgroup_namespaces(7))."""
    path = f"{ROOT}/deeper/a"
    mounts = [each.mount for each in hierarchies() if each.version == 1 and each.writable]
    created = cgroups.create(path, rules=DEFAULT_RULES, confine=True)
    assert created.warnings == []
    directories = {each.removesuffix("/tasks") for each in created.attach if each.endswith("/tasks")}
    assert len(directories) == len(mounts)
    assert {each.rpartition("/")[2] for each in directories} == {"a"}

    def own() -> list[str]:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
        return [found for _, controllers, found in lines if controllers]

    assert {found.startswith(f"{ROOT}/") and found.endswith("/a") for found in in_child(own, join=created.attach)} == {
        True
    }
    # Joined only by who asks for it: a pod's own cgroup is in fewer.
    assert len(cgroups.create(f"{ROOT}/b").attach) <= len(created.attach)
    cgroups.remove(path)
    assert [each for each in directories if os.path.exists(each)] == []


def test_what_a_container_has_frozen_dies(cgroups: Cgroups) -> None:
    """SIGKILL does not reach what v1's freezer holds (cgroup-v1/freezer-subsystem.rst)."""
    path = f"{ROOT}/frozen"
    created = cgroups.create(path, confine=True)
    freezer = cgroups.freezer(path)
    if not freezer:
        pytest.skip("this machine has no freezer on v1")
    os.makedirs(f"{freezer}/a/b")
    with running([*created.attach, f"{freezer}/a/b/tasks"], "sleep 600 & sleep 600"):
        wait_for(lambda: len(cgroups.processes(path)) == 3, "three processes")
        for each in (f"{freezer}/a/b", freezer):
            with open(f"{each}/freezer.state", "w") as file:
                file.write("FROZEN")
        cgroups.kill(path)
        assert cgroups.wait_empty(path, 30)
    cgroups.remove(path)
    assert not os.path.exists(freezer)


def test_a_process_is_in_all_of_them(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = cgroups.create(path)

    def own() -> list[str]:
        with open("/proc/self/cgroup") as file:
            return [line.rstrip("\n").split(":", 2)[2] for line in file]

    assert in_child(own, join=created.attach).count(path) == len(created.attach)


def test_the_directory_of_the_v2_tree(cgroups: Cgroups) -> None:
    created = cgroups.create(f"{ROOT}/a")
    directory = cgroups.v2_directory(f"{ROOT}/a")
    assert bool(directory) == (cgroups.unified is not None)
    assert not directory or created.attach[-1] == f"{directory}/cgroup.procs"


def test_processes_below_count(cgroups: Cgroups) -> None:
    outer, inner = f"{ROOT}/a", f"{ROOT}/a/b"
    cgroups.create(outer)
    created = cgroups.create(inner)
    assert cgroups.processes(outer) == []
    with running(created.attach, "exec sleep 600") as process:
        assert cgroups.processes(inner) == cgroups.processes(outer) == [process.pid]
        assert not cgroups.wait_empty(outer, 0.01)
        cgroups.kill(outer)
        assert process.wait() == -signal.SIGKILL
        assert cgroups.wait_empty(outer, 30)
    assert cgroups.processes(f"{ROOT}/gone") == []


def test_kill_reaches_what_has_run_away(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = cgroups.create(path)
    daemons = "for i in 1 2 3 4 5; do setsid sh -c 'trap \"\" TERM HUP; sleep 600 & sleep 600' & done; wait"
    with running(created.attach, daemons):
        wait_for(lambda: len(cgroups.processes(path)) == 16, "all processes")
        cgroups.kill(path)
        assert cgroups.wait_empty(path, 30)
    cgroups.kill(path)
    cgroups.remove(path)
    cgroups.kill(path)
    assert cgroups.wait_empty(path, 0)


def test_kill_outruns_forking(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = cgroups.create(path, Resources(pids_max=60))
    forking = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (while :; do /bin/true & wait; done) & done; wait"
    with running(created.attach, forking):
        wait_for(lambda: len(cgroups.processes(path)) > 12, "the forking")
        cgroups.kill(path)
        assert cgroups.wait_empty(path, 30)


def test_frozen_processes_can_be_killed(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = cgroups.create(path)
    with running(created.attach, "exec sleep 600") as process:
        cgroups.freeze(path, True)
        cgroups.kill(path)
        assert process.wait() == -signal.SIGKILL
    with pytest.raises(CgroupUnavailable, match=r"cannot freeze .*: it does not exist"):
        cgroups.freeze(f"{ROOT}/gone", True)


def test_freeze_and_thaw(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = cgroups.create(path)
    script = "trap 'echo awake' USR1; echo set; while :; do sleep 600 & wait; done"
    with running(created.attach, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "set\n"
        cgroups.freeze(path, True)
        directory = cgroups.v2_directory(path)
        if directory:
            wait_for(lambda: "frozen 1" in Path(f"{directory}/cgroup.events").read_text(), "freezing")
        process.send_signal(signal.SIGUSR1)
        poller = select.poll()
        poller.register(process.stdout, select.POLLIN)
        assert poller.poll(50) == []
        cgroups.freeze(path, False)
        assert process.stdout.readline() == "awake\n"
        cgroups.kill(path)


def test_removal_waits_for_the_dead(cgroups: Cgroups) -> None:
    """A killed process keeps its cgroup busy until the kernel has let go of it."""
    path = f"{ROOT}/a"
    created = cgroups.create(path)
    with running(created.attach, "sleep 600 & sleep 600 & exec sleep 600"):
        wait_for(lambda: len(cgroups.processes(path)) == 3, "three processes")
        cgroups.kill(path)
        cgroups.remove(path, timeout=30)
    assert not cgroups.exists(path)


def test_removal_names_what_still_runs(cgroups: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = cgroups.create(path)
    with running(created.attach, "exec sleep 600") as process:
        with pytest.raises(
            CgroupError, match=rf"the cgroup .*{path} cannot be removed: process {process.pid} still in it"
        ):
            cgroups.remove(path, timeout=0.05)
        process.kill()
        process.wait()
        cgroups.remove(path, timeout=30)


def test_a_read_only_mount(cgroups: Cgroups) -> None:
    """As in a container: the mounts are there, but nothing can be made in them."""
    points = [each.mount for each in hierarchies()]

    def try_it() -> list[str]:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        for point in points:
            syscalls.mount(None, point, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
        answers = []
        for found in (
            Cgroups.detect(ROOT),
            Cgroups(tuple(each._replace(writable=True) for each in hierarchies()), ROOT),
        ):
            try:
                found.create(f"{ROOT}/a")
            except CgroupUnavailable as error:
                answers.append(f"{error.message} | {error.hint}")
            found.remove(f"{ROOT}/a")
        return answers

    known, found_out = in_child(try_it)
    assert known.startswith("no cgroup hierarchy can be written to here | mount cgroup2")
    assert found_out.split(": ")[1].startswith("it is mounted read-only | in a container")


def test_in_a_cgroup_namespace(unified: Cgroups) -> None:
    """Where the visible root is some cgroup of the machine, ours lie below that."""
    created = unified.create(f"{ROOT}/container")

    def inside() -> list[str]:
        syscalls.unshare(syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("none", "/sys/fs/cgroup", "tmpfs")
        os.mkdir("/sys/fs/cgroup/unified")
        syscalls.mount("none", "/sys/fs/cgroup/unified", "cgroup2")
        found = Cgroups.detect("/podlite")
        assert found.unified is not None
        assert found.unified.own == "/"
        made = found.create("/podlite/kubepods/pod1")
        found.remove("/podlite")
        return made.attach

    assert in_child(inside, join=created.attach) == ["/sys/fs/cgroup/unified/podlite/kubepods/pod1/cgroup.procs"]


def test_v2_controllers_are_passed_on(unified: Cgroups) -> None:
    if unified.version_of("hugetlb") != "v2" or not os.path.exists("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        pytest.skip("needs the hugetlb controller in the v2 tree, and 2 MB pages")
    assert unified.unified is not None
    if (
        os.path.exists(f"{unified.unified.mount}/cgroup.type")
        and Path(f"{unified.unified.mount}/cgroup.procs").read_text()
    ):
        pytest.skip("processes run in the cgroup that the v2 tree begins with here, and not even the root's")
    path = f"{ROOT}/pod/container"
    assert unified.create(path, Resources(hugepage_limits={"2MB": 4 << 20})).warnings == []
    with open(f"{unified.v2_directory(path)}/hugetlb.2MB.max") as file:
        assert file.read() == f"{4 << 20}\n"


def test_v2_cgroups_with_processes_pass_nothing_on(unified: Cgroups) -> None:
    if unified.version_of("hugetlb") != "v2":
        pytest.skip("needs the hugetlb controller in the v2 tree")
    pod = unified.create(f"{ROOT}/pod")
    with running([pod.attach[-1]], "exec sleep 600"):
        created = unified.create(f"{ROOT}/pod/container", Resources(hugepage_limits={"2MB": 0}))
    (warning,) = created.warnings
    assert warning.startswith(f"no hugetlb limit can be set for {ROOT}/pod/container: the hugetlb controller cannot be")
    assert "processes run in that cgroup itself" in warning


def test_kill_file(unified: Cgroups) -> None:
    path = f"{ROOT}/a"
    created = unified.create(path)
    if os.uname().release < "5.14":
        pytest.skip("cgroup.kill came with Linux 5.14")
    with running(created.attach, "exec sleep 600") as process:
        with open(unified.kill_file(path), "w") as file:
            file.write("1")
        assert process.wait() == -signal.SIGKILL
    unified.remove(path)
    assert unified.kill_file(path) == ""


def test_what_is_named_is_removed_with_what_is_not(cgroups: Cgroups) -> None:
    for name in ("named", "named/nested", "other", "other/nested"):
        cgroups.create(f"{ROOT}/pod/{name}")
    cgroups.remove(f"{ROOT}/pod", below=("named", "never there"))
    assert not cgroups.exists(f"{ROOT}/pod")


def test_a_cgroup_is_populated_by_what_is_below_it(cgroups: Cgroups) -> None:
    assert not cgroups.is_populated(f"{ROOT}/pod")
    created = cgroups.create(f"{ROOT}/pod/container")
    assert not cgroups.is_populated(f"{ROOT}/pod")
    with running(created.attach, "exec sleep 600"):
        assert cgroups.is_populated(f"{ROOT}/pod")
        cgroups.kill(f"{ROOT}/pod")
        assert cgroups.wait_empty(f"{ROOT}/pod", 30)
    assert not cgroups.is_populated(f"{ROOT}/pod")
