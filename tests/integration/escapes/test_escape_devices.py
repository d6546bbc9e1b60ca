"""Device nodes: CAP_MKNOD is among the default capabilities, and must not reach the disks of the host.

What limits devices is the devices controller of cgroup v1, a BPF program on the v2 tree, or, where there are no
cgroups at all, `nodev` on every file system of the container, with the standard nodes bound from the host.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podlite.cri.types import Device, Mount
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, start
from tests.support.escapes import UIDS, WAYS, ask, ask_in, ask_this_way, pod, probe, said, with_capabilities

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture(params=["v1", "bpf", "nodev"])
async def limited(request: pytest.FixtureRequest, layout: Layout, anyio_backend: str) -> AsyncIterator[Runtime]:
    """A runtime for each of the three mechanisms."""
    from podlite.linux.syscalls import MNT_DETACH, umount2

    async with Runtime(layout, network=NoneNetwork(), many=request.param == "bpf") as opened:
        cgroups = opened.cgroups
        if request.param == "nodev":
            opened.cgroups = None
        elif cgroups is None:
            pytest.skip("this machine has no cgroups to use")
        yield opened
        opened.cgroups = cgroups
    if cgroups is not None:
        cgroups.remove(layout.cgroup_root)
        cgroups.close()
    umount2(layout.netns_dir, MNT_DETACH)


def disk() -> tuple[int, int]:
    """The numbers of a block device that root can open here; stands for the root disk, which may be guarded itself."""
    for name in sorted(os.listdir("/sys/class/block")):
        try:
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            continue
        number = os.stat(f"/dev/{name}").st_rdev
        return os.major(number), os.minor(number)
    pytest.skip("this machine has no block device that can be opened")


def attack() -> str:
    major, minor = disk()
    return f"""
    nodes = {{
        "disk": (stat.S_IFBLK, {major}, {minor}),
        "mem": (stat.S_IFCHR, 1, 1),
        "kmem": (stat.S_IFCHR, 1, 2),
        "port": (stat.S_IFCHR, 1, 4),
        "kmsg": (stat.S_IFCHR, 1, 11),
        "console": (stat.S_IFCHR, 5, 1),
        "tty0": (stat.S_IFCHR, 4, 0),
        "ttyS0": (stat.S_IFCHR, 4, 64),
        "fuse": (stat.S_IFCHR, 10, 229),
        "kvm": (stat.S_IFCHR, 10, 232),
        "loop-control": (stat.S_IFCHR, 10, 237),
        "cuse": (stat.S_IFCHR, 10, 203),
        "uinput": (stat.S_IFCHR, 10, 223),
        "input": (stat.S_IFCHR, 13, 64),
        "loop0": (stat.S_IFBLK, 7, 0),
    }}
    found, standard = {{}}, {{}}
    for directory in ("/tmp", "/dev", "/dev/shm", "/run", "/volume"):
        if not os.path.isdir(directory):
            continue
        for title, (kind, *numbers) in nodes.items():
            path = f"{{directory}}/x-{{title}}"
            made = attempt(os.mknod, path, kind | 0o666, os.makedev(*numbers))
            if made == "ok":
                made = [opened(path, flags | os.O_NONBLOCK | os.O_NOCTTY) for flags in (os.O_RDONLY, os.O_WRONLY)]
            found[path] = made
    for title in ("null", "zero", "full", "random", "urandom"):
        path = "/dev/" + title
        standard[title] = [opened(path, os.O_RDONLY), opened(path, os.O_RDWR), attempt(os.chmod, path, 0o600)]
    zero = os.open("/dev/zero", os.O_RDONLY)
    import mmap
    mapped = attempt(lambda: mmap.mmap(zero, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ))
    tell(found=found, standard=standard, tty=opened("/dev/tty", os.O_RDWR), mapped=mapped,
         ptmx=opened("/dev/ptmx", os.O_RDWR | os.O_NOCTTY), full=attempt(lambda: open("/dev/full", "wb", 0).write(b"x")))
    """


HOST_NODES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx")


@pytest.fixture(autouse=True)
def host_nodes_are_unchanged() -> object:
    before = [os.stat(f"/dev/{name}") for name in HOST_NODES]
    yield
    for old, name in zip(before, HOST_NODES, strict=True):
        new = os.stat(f"/dev/{name}")
        assert (new.st_mode, new.st_uid, new.st_gid) == (old.st_mode, old.st_uid, old.st_gid), name


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", ["start", "exec", "start-tty", "host-pid", "shared-pid"])
async def test_nodes_that_a_container_makes_do_not_work(limited: Runtime, tmp_path: Path, way: str, uid: int) -> None:
    """Wherever they are made: in its own layer, in /dev, in shared memory, in a volume."""
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o777)
    mounts = [Mount(container_path="/volume", host_path=str(volume))]
    found = await ask_this_way(limited, way, attack(), run_as_user=uid, mounts=mounts)
    for path, answer in found["found"].items():
        if isinstance(answer, str):
            assert answer in ("EPERM", "EACCES", "EROFS"), path
        else:
            assert set(answer) <= {"EPERM", "EACCES"}, path
    assert found["found"]
    for name, (read, write, _) in found["standard"].items():
        assert (read, write) == ("ok", "ok"), name
    assert found["mapped"] == found["ptmx"] == "ok"
    assert found["full"] == "ENOSPC"
    # Without a terminal of its own there is none to open.
    assert found["tty"] == ("ok" if way.endswith("tty") else "ENXIO")
    for node in volume.iterdir():
        node.unlink()


@pytest.mark.parametrize("uid", UIDS)
async def test_nodes_that_are_there_already_do_not_work(limited: Runtime, tmp_path: Path, uid: int) -> None:
    """A node in a volume of the host's, made by somebody who may."""
    major, minor = disk()
    volume = tmp_path / "volume"
    volume.mkdir()
    os.mknod(volume / "disk", stat.S_IFBLK | 0o666, os.makedev(major, minor))
    os.chmod(volume / "disk", 0o666)
    source = 'tell(found=[opened("/volume/disk", flags) for flags in (os.O_RDONLY, os.O_RDWR)])'
    mounts = [Mount(container_path="/volume", host_path=str(volume))]
    found = await ask(limited, source, run_as_user=uid, mounts=mounts)
    assert set(found["found"]) <= {"EPERM", "EACCES"}


async def test_the_hosts_disk_with_cap_sys_admin(limited: Runtime) -> None:
    """With the controllers it cannot even be mounted, which is as near to a limit as CAP_SYS_ADMIN has. Where only
    `nodev` is in the way, who may mount may remount, too."""
    major, minor = disk()
    source = f"""
    made = attempt(os.mknod, "/tmp/disk", stat.S_IFBLK | 0o600, os.makedev({major}, {minor}))
    before = opened("/tmp/disk", os.O_RDONLY)
    remounted = mount("", "/", "", 0x1020)  # MS_BIND | MS_REMOUNT, without MS_NODEV
    after = opened("/tmp/disk", os.O_RDONLY)
    tell(made=made, before=before, remounted=remounted, after=after, mounted=mount("/tmp/disk", "/mnt", "ext4", 1))
    """
    found = await ask(limited, source, capabilities=with_capabilities("SYS_ADMIN"))
    assert (found["made"], found["before"], found["remounted"]) == (
        "ok",
        "EPERM" if limited.cgroups else "EACCES",
        "ok",
    )
    if limited.cgroups is not None:
        assert found["after"] == "EPERM"
        assert found["mounted"] in ("EPERM", "EACCES")
    else:
        assert found["after"] == "ok"


async def test_a_device_that_was_asked_for(limited: Runtime) -> None:
    """It works, with the permissions that were asked for; others still do not."""
    source = """
    tell(asked=[opened("/dev/mine", flags) for flags in (os.O_RDONLY, os.O_RDWR)],
         made=attempt(os.mknod, "/tmp/kmsg", stat.S_IFCHR | 0o666, os.makedev(1, 11)),
         other=opened("/tmp/kmsg", os.O_RDONLY | os.O_NONBLOCK),
         mode=oct(os.stat("/dev/mine").st_mode), rdev=os.stat("/dev/mine").st_rdev,
         chmod=attempt(os.chmod, "/dev/mine", 0o600))
    """
    before = os.stat("/dev/ptmx")
    async with pod(limited) as id:
        devices = [Device(container_path="/dev/mine", host_path="/dev/ptmx", permissions="rw")]
        found = await ask_in(limited, id, source, devices=devices)
    assert (found["made"], found["other"]) == ("ok", "EPERM" if limited.cgroups else "EACCES")
    assert found["rdev"] == before.st_rdev
    # A node of the container's own is its own to change; the host's is not.
    assert found["chmod"] == ("ok" if limited.cgroups else "EROFS")


@pytest.mark.parametrize("uid", UIDS)
async def test_a_privileged_container_has_the_devices_of_the_host(limited: Runtime, uid: int) -> None:
    major, minor = disk()
    path = os.path.realpath(f"/dev/block/{major}:{minor}") if os.path.exists("/dev/block") else ""
    if not path:
        path = next(
            f"/dev/{name}"
            for name in sorted(os.listdir("/sys/class/block"))
            if os.path.exists(f"/dev/{name}") and os.stat(f"/dev/{name}").st_rdev == os.makedev(major, minor)
        )
    source = f"""
    found = opened({path!r}, os.O_RDONLY | os.O_NONBLOCK)
    made = attempt(os.mknod, "/dev/x-disk", stat.S_IFBLK | 0o600, os.makedev({major}, {minor}))
    tell(disk=found, made=made, own=opened("/dev/x-disk", os.O_RDONLY | os.O_NONBLOCK),
         null=attempt(os.chmod, "/dev/null", 0o666), names=sorted(os.listdir("/dev")),
         sys=opened("/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY))
    """
    found = await ask(limited, source, privileged=True, run_as_user=uid)
    if uid == 0:
        assert found["disk"] == "ok"
        assert (found["made"], found["own"]) == (("ok", "ok") if limited.cgroups else ("ok", "EACCES"))
        assert found["sys"] in ("ok", "ENOENT")
    else:
        # All capabilities are in reach of a program that is setuid root; a plain user itself has none of them.
        assert found["disk"] in ("EACCES", "ok")
        assert found["made"] in ("EPERM", "EACCES")
    # Terminals of the host are not its own, and /dev/pts is the container's.
    assert set(os.listdir("/dev")) - set(found["names"]) <= _not_given()


def _not_given() -> set[str]:
    """What of the host's /dev is no device node."""
    return {
        name
        for name in os.listdir("/dev")
        if not (stat.S_ISCHR(os.lstat(f"/dev/{name}").st_mode) or stat.S_ISBLK(os.lstat(f"/dev/{name}").st_mode))
    } | {"console"}


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_dev_is_the_containers_own(runtime: Runtime, way: str, uid: int) -> None:
    """The nodes of the OCI specification, links into /proc, an own devpts; nothing of the host's /dev."""
    source = """
    found = {}
    for name in sorted(os.listdir("/dev")):
        each = os.lstat("/dev/" + name)
        found[name] = os.readlink("/dev/" + name) if stat.S_ISLNK(each.st_mode) else [each.st_mode, each.st_rdev]
    tell(dev=found, pts=os.listdir("/dev/pts"), shm=os.listdir("/dev/shm"), mqueue=os.listdir("/dev/mqueue"))
    """
    found = await ask_this_way(runtime, way, source, run_as_user=uid)
    names = {"null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx"}
    names |= {"pts", "shm", "mqueue"}
    assert set(found["dev"]) == (names | {"console"} if way == "start-tty" else names)
    assert found["dev"]["ptmx"] == "pts/ptmx"
    for name, number in (("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("tty", (5, 0))):
        assert found["dev"][name] == [stat.S_IFCHR | 0o666, os.makedev(*number)]
    assert set(found["pts"]) == ({"ptmx", "0"} if way.endswith("tty") else {"ptmx"})
    assert found["shm"] == found["mqueue"] == []


async def test_the_console_of_the_machine_is_not_the_containers(runtime: Runtime) -> None:
    """5:1 is the host's console, its keyboard and its log in one; a container has its terminal in that place."""
    source = """
    found = os.stat("/dev/console")
    os.mknod("/tmp/console", stat.S_IFCHR | 0o666, os.makedev(5, 1))
    tell(major=os.major(found.st_rdev), own=opened("/dev/console", os.O_RDWR | os.O_NOCTTY),
         machines=opened("/tmp/console", os.O_RDWR | os.O_NOCTTY))
    """
    found = await ask_this_way(runtime, "start-tty", source)
    assert found == {"major": 136, "own": "ok", "machines": "EPERM"}


async def test_limits_hold_for_everything_that_is_started(runtime: Runtime) -> None:
    """A container's process, and one of an exec, are in the container's cgroup from their first instruction."""
    async with pod(runtime) as id:
        if runtime.cgroups is None:
            pytest.skip("this machine has no cgroups to use")
        source = 'tell(cgroup=open("/proc/self/cgroup").read())'
        container = await start(runtime, id, container_config(probe(source + "\ntime.sleep(1000)")))
        first = (await said(runtime, container))[0]
        from tests.support.escapes import ask_by_exec

        assert await ask_by_exec(runtime, container, source) == first
