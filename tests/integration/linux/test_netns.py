"""Pinned network namespaces, as citizens of the system: what ip-netns(8) and others do with the same directory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from podlite.linux import netns
from podlite.linux.netns import THREAD_NETNS, PoisonedThreadError
from podlite.linux.syscalls import CLONE_NEWNET, MNT_DETACH, MS_BIND, mount, setns, umount2

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def directory(short_tmp: str) -> Iterator[str]:
    path = f"{short_tmp}/netns"
    netns.prepare_directory(path)
    yield path
    umount2(path, MNT_DETACH)


@pytest.fixture
def own() -> Iterator[int]:
    fd = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    setns(fd, CLONE_NEWNET)
    os.close(fd)


def here() -> str:
    return os.readlink(THREAD_NETNS)


def test_a_socket_stays_where_it_was_opened(directory: str, own: int) -> None:
    before = here()
    inside = netns.create(f"{directory}/a", own, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    assert here() == before
    assert os.stat(f"{directory}/a").st_ino != os.fstat(own).st_ino
    # There is nothing but a `lo` that is down.
    with inside, pytest.raises(OSError, match="Network is unreachable"):
        inside.connect(("127.0.0.1", 9))
    netns.remove(f"{directory}/a")
    assert os.listdir(directory) == []


def test_a_name_that_is_taken_is_left_alone(directory: str, own: int) -> None:
    with open(f"{directory}/a", "w") as file:
        file.write("somebody else's")
    with pytest.raises(FileExistsError):
        netns.create(f"{directory}/a", own, lambda: None)
    with open(f"{directory}/a") as file:
        assert file.read() == "somebody else's"


def test_a_failure_inside_leaves_nothing(directory: str, own: int) -> None:
    def fail() -> None:
        raise OSError(28, "inside")

    before = here()
    with pytest.raises(OSError, match="inside"):
        netns.create(f"{directory}/a", own, fail)
    assert os.listdir(directory) == []
    assert here() == before


def test_a_thread_that_cannot_go_back_is_poisoned_and_nothing_is_left(directory: str, own: int) -> None:
    """The pin goes all the same; the exception is none that a handler of ordinary failures could swallow."""
    nowhere = os.open("/dev/null", os.O_RDONLY)
    before = here()
    try:
        with pytest.raises(PoisonedThreadError, match="could not leave another network namespace"):
            netns.create(f"{directory}/a", nowhere, lambda: None)
        assert here() != before
        assert os.listdir(directory) == []
    finally:
        os.close(nowhere)
    assert not issubclass(PoisonedThreadError, Exception)


def test_whatever_lies_on_the_pin_goes_with_it(directory: str, own: int) -> None:
    path = f"{directory}/a"
    netns.create(path, own, lambda: None)
    mount(path, path, "none", MS_BIND)
    mount(THREAD_NETNS, path, "none", MS_BIND)
    netns.remove(path)
    netns.remove(path)
    assert os.listdir(directory) == []
    with open("/proc/self/mountinfo") as file:
        assert path not in file.read()


def test_removing_is_idempotent_from_wherever_it_was_interrupted(directory: str, own: int) -> None:
    path = f"{directory}/pin"
    netns.create(path, own, lambda: None)
    umount2(path, MNT_DETACH)
    netns.remove(path)
    assert not os.path.lexists(path)
    netns.remove(path)


def test_a_process_is_pinned_where_it_is(directory: str, own: int) -> None:
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; read x"], stdin=-1, stdout=-1)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        netns.pin_process(f"{directory}/a", process.pid)
        assert os.stat(f"{directory}/a").st_ino == os.stat(f"/proc/{process.pid}/ns/net").st_ino
    finally:
        process.communicate(b"\n")
    # It outlives the process.
    assert subprocess.run(["nsenter", f"--net={directory}/a", "true"], check=False).returncode == 0
    netns.remove(f"{directory}/a")
    with pytest.raises(OSError, match="No such file or directory"):
        netns.pin_process(f"{directory}/a", process.pid)
    assert os.listdir(directory) == []


# In a mount namespace whose /run is new: the first `ip netns add` on a machine.
SOMEBODY_ELSE = """
import os, subprocess, sys
from podlite.linux import netns
own = os.open(netns.THREAD_NETNS, os.O_RDONLY)
if sys.argv[1] == "prepared":
    netns.prepare_directory("/run/netns")
else:
    os.makedirs("/run/netns")
netns.create("/run/netns/ours", own, lambda: None)
subprocess.run(["ip", "netns", "add", "theirs"], check=True)
listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout.split()
netns.remove("/run/netns/ours")
subprocess.run(["ip", "netns", "delete", "theirs"], check=True)
mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
left = [each for each in mounts if each in ("/run/netns/ours", "/run/netns/theirs")]
print(sorted(each for each in listed if each in ("ours", "theirs")), os.listdir("/run/netns"), left)
"""


@pytest.mark.parametrize("how", ["prepared", "not prepared"])
def test_the_first_ip_netns_add_of_somebody_else(how: str) -> None:
    """iproute2 binds the directory onto itself, recursively, if it is no mount point yet: with our pin in it, of which
    the copy below would stay mounted for ever."""
    setup = 'mount -t tmpfs tmpfs /run && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", setup, "sh", sys.executable, "-c", SOMEBODY_ELSE, how],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    if how == "prepared":
        assert done.stdout == "['ours', 'theirs'] [] []\n", done.stderr
    else:
        # What the preparation is for: without it this test would say nothing.
        assert "ours" in done.stderr or "/run/netns/ours" in done.stdout, done.stdout + done.stderr


def test_preparing_is_idempotent_and_keeps_what_is_there(directory: str, own: int) -> None:
    netns.create(f"{directory}/a", own, lambda: None)
    assert netns.prepare_directory(directory) is False
    assert subprocess.run(["nsenter", f"--net={directory}/a", "true"], check=False).returncode == 0
    with open("/proc/self/mountinfo") as file:
        assert len([line for line in file if line.split()[4] == directory]) == 1
    netns.remove(f"{directory}/a")


def test_many_that_prepare_at_once_make_one_mount(short_tmp: str) -> None:
    """Binds of a directory onto itself stack, and whoever takes one away would leave the others."""
    count = 8
    for attempt in range(20):
        path = f"{short_tmp}/netns-{attempt}"
        start = threading.Barrier(count)

        def prepare(path: str = path, start: threading.Barrier = start) -> bool:
            start.wait()
            return netns.prepare_directory(path)

        with ThreadPoolExecutor(count) as pool:
            changed = [each.result() for each in [pool.submit(prepare) for _ in range(count)]]
        assert sorted(changed) == [False] * (count - 1) + [True]
        with open("/proc/self/mountinfo") as file:
            mounts = [line for line in file if line.split()[4] == path]
        for _ in mounts:
            umount2(path, MNT_DETACH)
        assert len(mounts) == 1
