"""Device rules in force: by the v1 controller and by BPF on the v2 tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cgroup_fixtures import ROOT, cgroups_below
from linux_children import in_child

from podlite.linux import devices
from podlite.linux.cgroup_mounts import hierarchies
from podlite.linux.cgroups import Cgroups
from podlite.linux.devices import ALLOW_ALL, DEFAULT_RULES, DeviceRule

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PATH = f"{ROOT}/limited"


@pytest.fixture(params=["v1", "bpf"])
def cgroups(request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    mounted = hierarchies()
    if request.param == "v1" and not any("devices" in each.controllers for each in mounted):
        pytest.skip("this machine has no v1 devices hierarchy")
    if request.param == "bpf" and not any(each.version == 2 for each in mounted):
        pytest.skip("this machine has no cgroup v2 tree")
    with cgroups_below(mounted=mounted, devices_by_bpf=request.param == "bpf") as found:
        yield found


def _disk() -> tuple[int, int]:
    """The numbers of a block device that root can open here; stands for the root disk, which may be guarded itself."""
    for name in sorted(os.listdir("/sys/class/block")):
        try:
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            continue
        number = os.stat(f"/dev/{name}").st_rdev
        return os.major(number), os.minor(number)
    pytest.skip("this machine has no block device that can be opened")


def attempt(directory: Path, kind: str, major: int, minor: int, *flags: int) -> list[str]:
    """Makes a node and opens it, and says what came of each."""
    path = directory / f"{kind}{major}-{minor}-{os.getpid()}"
    answers = []
    try:
        mode = stat.S_IFBLK if kind == "b" else stat.S_IFCHR
        os.mknod(path, mode | 0o600, os.makedev(major, minor))
        answers.append("made")
    except PermissionError:
        return ["not made"]
    try:
        for flag in flags:
            try:
                os.close(os.open(path, flag | os.O_NONBLOCK))
                answers.append("opened")
            except PermissionError:
                answers.append("denied")
    finally:
        path.unlink()
    return answers


def test_block_devices_are_out_of_reach(cgroups: Cgroups, tmp_path: Path) -> None:
    disk = _disk()
    # Without rules root opens it, so it is the rules that deny below.
    assert attempt(tmp_path, "b", *disk, os.O_RDONLY) == ["made", "opened"]
    created = cgroups.create(PATH, rules=DEFAULT_RULES)
    assert created.devices_limited
    every = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    assert in_child(lambda: attempt(tmp_path, "b", *disk, *every), join=created.attach) == ["made", *["denied"] * 3]
    # /dev/kmsg and /dev/mem
    for minor in (11, 1):
        answers = in_child(partial(attempt, tmp_path, "c", 1, minor, *every), join=created.attach)
        assert answers == ["made", *["denied"] * 3]


def test_the_standard_devices_work(cgroups: Cgroups, tmp_path: Path) -> None:
    created = cgroups.create(PATH, rules=DEFAULT_RULES)
    every = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    for minor in (3, 5, 7, 8, 9):
        answers = in_child(partial(attempt, tmp_path, "c", 1, minor, *every), join=created.attach)
        assert answers == ["made", *["opened"] * 3]

    def terminal() -> bool:
        master, slave = os.openpty()
        return os.isatty(slave) and os.isatty(master)

    assert in_child(terminal, join=created.attach)


def test_a_device_of_its_own_with_some_rights(cgroups: Cgroups, tmp_path: Path) -> None:
    disk = _disk()
    rules = (DeviceRule("c", 1, 3, "rwm"), DeviceRule("b", *disk, "r"))
    created = cgroups.create(PATH, rules=rules)
    # Without "m" the node cannot be made from inside, so it is made before.
    node = tmp_path / "disk"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(*disk))

    def use() -> list[str]:
        answers = attempt(tmp_path, "b", *disk)
        for flag in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                os.close(os.open(node, flag))
                answers.append("opened")
            except PermissionError:
                answers.append("denied")
        return answers

    assert in_child(use, join=created.attach) == ["not made", "opened", "denied", "denied"]


def test_privileged(cgroups: Cgroups, tmp_path: Path) -> None:
    created = cgroups.create(PATH, rules=ALLOW_ALL)
    assert created.devices_limited
    disk = _disk()
    assert in_child(lambda: attempt(tmp_path, "b", *disk, os.O_RDONLY), join=created.attach) == ["made", "opened"]


def test_rules_can_be_replaced(cgroups: Cgroups, tmp_path: Path) -> None:
    created = cgroups.create(PATH, rules=DEFAULT_RULES)
    assert cgroups.set_devices(PATH, DEFAULT_RULES)
    assert cgroups.set_devices(PATH, (DeviceRule("c", 1, 5, "r"),))

    def zero_and_null() -> list[str]:
        answers = []
        for name, flag in (("zero", os.O_RDONLY), ("zero", os.O_RDWR), ("null", os.O_RDONLY)):
            try:
                os.close(os.open(f"/dev/{name}", flag))
                answers.append("opened")
            except PermissionError:
                answers.append("denied")
        return answers

    assert in_child(zero_and_null, join=created.attach) == ["opened", "denied", "denied"]
    assert cgroups.set_devices(PATH, ALLOW_ALL)
    assert in_child(zero_and_null, join=created.attach) == ["opened"] * 3


def test_one_program_serves_many_cgroups() -> None:
    if not any(each.version == 2 for each in hierarchies()):
        pytest.skip("this machine has no cgroup v2 tree")
    with cgroups_below(devices_by_bpf=True) as cgroups:
        attached = set()
        for number in range(3):
            path = f"{ROOT}/{number}"
            cgroups.create(path, rules=DEFAULT_RULES)
            fd = os.open(cgroups.v2_directory(path), os.O_RDONLY)
            try:
                attached.update(devices.attached_programs(fd))
            finally:
                os.close(fd)
        assert len(attached) == 1
        # Closing our fd of the program takes nothing away.
        cgroups.close()
        with pytest.raises(PermissionError):
            in_child(lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)), join=cgroups.attach_paths(f"{ROOT}/0"))
