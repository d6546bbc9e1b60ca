"""The run directory's move to memory, in a mount namespace of the test's own whose /run lies on a disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from podlite.linux.syscalls import TMPFS_MAGIC

_HEADER = """
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from podlite.linux.syscalls import CLONE_NEWNS, MS_BIND, MS_PRIVATE, MS_REC, filesystem_type, mount, unshare
from podlite.runtime import run_directory

unshare(CLONE_NEWNS)
mount(None, "/", None, MS_REC | MS_PRIVATE)
mount(sys.argv[1], "/run", None, MS_BIND)

def type_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return filesystem_type(fd)
    finally:
        os.close(fd)

def mounts_on(path):
    with open("/proc/self/mountinfo") as file:
        return [line.split()[5] for line in file if line.split()[4] == path]
"""


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """A directory on a disk, to be /run."""
    found = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True)
    if found.stdout.strip() in ("tmpfs", "ramfs"):
        pytest.skip("the tests' directories are in memory here")
    return str(tmp_path)


def _run(program: str, disk: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _HEADER + program, disk], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_new_one_on_a_disk_becomes_memory(disk: str) -> None:
    said = _run(
        """
os.umask(0o077)
run_directory.prepare("/run/ours")
print(type_of("/run/ours"), oct(os.stat("/run/ours").st_mode), *mounts_on("/run/ours"))
""",
        disk,
    )
    kind, mode, *mounted = said.split()
    assert (int(kind), mode, len(mounted)) == (TMPFS_MAGIC, "0o40755", 1)
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(mounted[0].split(","))


def test_many_that_begin_at_once_mount_it_once(disk: str) -> None:
    """With a file that each makes afterwards: one that is covered by another's mount would be lost."""
    said = _run(
        """
for attempt in range(20):
    path = f"/run/ours-{attempt}"

    def begin(number):
        run_directory.prepare(path)
        open(f"{path}/{number}", "x").close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    print(len(mounts_on(path)), len(os.listdir(path)))
""",
        disk,
    )
    assert said.splitlines() == ["1 8"] * 20


@pytest.mark.parametrize(
    ("before", "look_at", "there"),
    [
        pytest.param('os.makedirs("/run/ours/pods")', "/run/ours", "pods", id="something-in-it"),
        pytest.param('mount("ours", "/run", "tmpfs", 0)', "/run", "ours", id="memory-already"),
    ],
)
def test_one_that_gets_no_mount_of_its_own(disk: str, before: str, look_at: str, there: str) -> None:
    said = _run(
        f"""
{before}
run_directory.prepare("/run/ours")
print(mounts_on("/run/ours"), os.listdir("{look_at}"))
""",
        disk,
    )
    assert said == f"[] ['{there}']"


def test_one_elsewhere_stays_where_it_is(disk: str) -> None:
    said = _run(
        """
run_directory.prepare(sys.argv[1] + "/elsewhere")
print(mounts_on(sys.argv[1] + "/elsewhere"))
""",
        disk,
    )
    assert said == "[]"


def test_where_nothing_can_be_mounted_the_disk_will_do(disk: str) -> None:
    said = _run(
        """
done = subprocess.run(
    ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c",
     "from podlite.runtime import run_directory; run_directory.prepare('/run/ours')"], check=False)
print(done.returncode, mounts_on("/run/ours"), os.listdir("/run"))
""",
        disk,
    )
    assert said == "0 [] ['ours']"


@pytest.mark.parametrize(
    "who",
    [
        'subprocess.run([sys.executable, "-m", "podlite", "get", "pods", "--run-dir=/run/ours"], check=True)',
        'from podlite.runtime.network.cni.negotiate import Versions; Versions("/run/ours")._store()',
    ],
)
def test_who_only_looks_at_the_machine_makes_it_memory_too(disk: str, who: str) -> None:
    """Or the first one that runs pods would find something in it, and leave it on the disk for good."""
    said = _run(f'{who}\nprint(len(mounts_on("/run/ours")), len(os.listdir("/run/ours")))', disk)
    assert said.splitlines()[-1] == "1 1"
