"""What a process does to itself, with and without the right to."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from cgroup_fixtures import ROOT, cgroups_below
from linux_children import in_child, status_field

from podlite.linux import capabilities, process
from podlite.linux.cgroups import Cgroups
from podlite.linux.syscalls import CLONE_NEWPID, capset
from tests.support.leaks import children

HAS_SYS_RESOURCE = bool(capabilities.held() & capabilities.bit("SYS_RESOURCE"))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def without_privilege() -> None:
    capset(0, 0, 0)


def test_oom_score_adj_can_be_raised() -> None:
    assert in_child(lambda: [process.set_oom_score_adj(997), process.oom_score_adj()]) == [997, 997]


def test_oom_score_adj_without_the_right_to_lower_it() -> None:
    def lower() -> list[int]:
        without_privilege()
        before = process.oom_score_adj()
        process.set_oom_score_adj(before + 1)
        return [before, process.set_oom_score_adj(-1000), process.oom_score_adj()]

    before, answered, found = in_child(lower)
    assert answered == found
    # proc(5): down to where it once was is allowed; below that is not.
    assert found in (before, before + 1)


@pytest.mark.skipif(not HAS_SYS_RESOURCE, reason="needs CAP_SYS_RESOURCE")
def test_oom_score_adj_with_the_right_to_lower_it() -> None:
    assert in_child(lambda: process.set_oom_score_adj(-998)) == -998


def test_a_bad_oom_score_adj() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        in_child(lambda: process.set_oom_score_adj(1001))


def test_limits_are_as_high_as_they_may_be() -> None:
    def ask() -> list[object]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 100))
        without_privilege()
        lowered = process.set_rlimits(
            [
                (resource.RLIMIT_NOFILE, 200, 1000),
                (resource.RLIMIT_CORE, 0, 0),
                (resource.RLIMIT_NOFILE, 60, resource.RLIM_INFINITY),
                (resource.RLIMIT_NOFILE, 30, 90),
            ]
        )
        return [lowered, resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)]

    number = int(resource.RLIMIT_NOFILE)
    assert in_child(ask) == [[[number, 100, 100], [number, 60, 100]], [30, 90], [0, 0]]


def test_limits_that_contradict_each_other() -> None:
    with pytest.raises(AssertionError, match="ValueError"):
        in_child(lambda: process.set_rlimits([(resource.RLIMIT_NOFILE, 20, 10)]))


def _title(of: subprocess.Popen[str]) -> tuple[str, str]:
    with open(f"/proc/{of.pid}/cmdline", "rb") as file:
        command = file.read().rstrip(b"\0").decode()
    return command, status_field("Name", of.pid)


@pytest.mark.parametrize(
    ("title", "command", "name"),
    [
        ("podlite: shim web", "podlite: shim web", "podlite: shim w"),
        ("x" * 5000, None, "x" * 15),
    ],
)
def test_title(title: str, command: str | None, name: str) -> None:
    program = f"from podlite.linux.process import set_title; set_title({title!r}); print(flush=True); input()"
    arguments = [sys.executable, "-c", program, "padding"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        shown, shown_name = _title(child)
        room = sum(len(each) + 1 for each in arguments)
        assert shown == (command if command is not None else title[: room - 1])
        assert shown_name == name
        child.communicate("\n")
        # The environment, which lies behind the command line in memory, is still whole.
        assert child.returncode == 0


def test_orphans_come_to_a_subreaper() -> None:
    def adopt() -> int:
        process.set_child_subreaper()
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            if os.fork() == 0:
                while os.getppid() == middle:
                    time.sleep(0.001)
                os._exit(7)
            os._exit(0)
        os.waitpid(middle, 0)
        return os.waitstatus_to_exitcode(os.wait()[1])

    assert in_child(adopt) == 7


def _keyring() -> str:
    """The serial number of the session keyring (keyrings(7): /proc/keys shows what can be viewed)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    number = 250 if os.uname().machine == "x86_64" else 219
    return str(libc.syscall(ctypes.c_long(number), ctypes.c_long(0), ctypes.c_long(-3), ctypes.c_long(0)))


def test_session_keyring() -> None:
    def change() -> list[object]:
        before = _keyring()
        return [process.new_session_keyring(), before != _keyring()]

    changed, different = in_child(change)
    assert different == changed


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    with cgroups_below() as found:
        if found.unified is None:
            pytest.skip("this machine has no cgroup v2 tree")
        yield found


def _born_into(directory: str, flags: int = 0) -> tuple[str, int, int]:
    """(its v2 cgroup, its pid as it sees it, its exit status) of a child made by fork_into."""
    read_end, write_end = os.pipe()
    cgroup_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        pid, pidfd = process.fork_into(cgroup_fd, flags)
        if pid == 0:
            with open("/proc/self/cgroup") as file:
                own = next(line.split(":", 2)[2].strip() for line in file if line.startswith("0::"))
            # Python's own bookkeeping after a fork works, too.
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0)
            ended = os.waitpid(grandchild, 0)[1]
            os.write(write_end, f"{own} {os.getpid()}".encode())
            os._exit(5 if ended == 0 else 1)
    finally:
        os.close(cgroup_fd)
    os.close(write_end)
    text = os.read(read_end, 4096).decode()
    os.close(read_end)
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT).si_pid == pid  # type: ignore[union-attr]
    os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    own, seen = text.split()
    return own, int(seen), status


@root_only
@pytest.mark.root
def test_born_in_a_cgroup(cgroups: Cgroups) -> None:
    cgroups.create(f"{ROOT}/born")
    own, seen, status = _born_into(cgroups.v2_directory(f"{ROOT}/born"))
    assert (own, status) == (f"{ROOT}/born", 5)
    assert seen > 1


@root_only
@pytest.mark.root
def test_born_in_a_cgroup_and_a_pid_namespace(cgroups: Cgroups) -> None:
    cgroups.create(f"{ROOT}/born")
    assert _born_into(cgroups.v2_directory(f"{ROOT}/born"), CLONE_NEWPID) == (f"{ROOT}/born", 1, 5)


@root_only
@pytest.mark.root
def test_where_nobody_can_be_born(cgroups: Cgroups) -> None:
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="clone3"):
            process.fork_into(fd)
    finally:
        os.close(fd)
    # The parent is as it was.
    assert in_child(lambda: 1) == 1


@root_only
@pytest.mark.root
def test_the_parent_stays_itself(cgroups: Cgroups) -> None:
    """Many times over, without fds or children left."""
    cgroups.create(f"{ROOT}/born")
    before, had = len(os.listdir("/proc/self/fd")), children()
    for _ in range(20):
        _born_into(cgroups.v2_directory(f"{ROOT}/born"))
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= had
