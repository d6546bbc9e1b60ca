"""Where mounts end up, when the image, a volume, or a sibling with the same volume has a say in it.

CVE-2019-19921, CVE-2021-30465 and CVE-2023-27561: a mount target that is, or becomes while the container starts, a
symbolic link. Targets are resolved by the kernel inside the container's root (openat2, RESOLVE_IN_ROOT) to a
descriptor, and what is mounted is mounted on that.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from podlite.cri.errors import StartError
from podlite.cri.types import Mount, NamespaceMode, NamespaceOption
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, finished, start
from tests.support.escapes import (
    UIDS,
    USER,
    Canary,
    ask_in,
    config_for,
    hostile_image,
    pod,
    probe,
    running,
    said,
    told,
)
from tests.support.images import Dir, File, Symlink

pytestmark = [pytest.mark.root, pytest.mark.anyio]

UP = "/.." * 20
# What every one of these containers must still have, whatever is mounted where.
SANE = """
tell(
    proc=[status("Name"), os.path.exists("/proc/self/status")],
    sys_read_only=opened("/proc/sys/kernel/core_pattern", os.O_WRONLY),
    null=os.stat("/dev/null").st_rdev,
    hosts=read("/etc/hosts"),
    volume=read(VOLUME + "/marker") if VOLUME else "",
    root=sorted(os.listdir("/")),
)
"""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with a marker in it."""
    directory = tmp_path / "volume"
    directory.mkdir()
    (directory / "marker").write_text("the volume's")
    return directory


def sane(at: str = "") -> list[str]:
    return probe(f"VOLUME = {at!r}\n{SANE}")


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize(
    ("target", "seen_at"),
    [
        ("{canary}", "{canary}"),  # absolute: inside the container's root
        (f"{UP[1:]}{{canary}}", "{canary}"),  # relative, more `..` than there are directories
        ("/nowhere/at/all", "/nowhere/at/all"),
        ("../nowhere", "/nowhere"),
        ("a/../b", "/b"),
        ("/etc", "/etc"),
        ("loop", None),
        ("mnt", None),
        ("/", None),
        ("..", None),
        ("/proc", None),
        ("/proc/self", None),
        ("/proc/self/cwd", None),
        ("/proc/self/root", None),
        ("/proc/self/root/proc", None),
        ("/proc/sys/kernel", None),
        ("/proc/1", None),
    ],
)
async def test_a_mount_target_that_is_a_link_in_the_image(
    runtime: Runtime, tmp_path: Path, volume: Path, canary: Canary, uid: int, target: str, seen_at: str | None
) -> None:
    to = target.format(canary=canary.directory)
    image = hostile_image(runtime, {"mnt": Symlink(to), "loop": Symlink("loop")}, tmp_path)
    where = seen_at.format(canary=canary.directory) if seen_at else ""
    mounts = [Mount(container_path="/mnt", host_path=str(volume))]
    async with pod(runtime) as id:
        config = config_for(sane(where), image, run_as_user=uid, mounts=mounts)
        container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
        if seen_at is None:
            with pytest.raises(StartError, match="mnt"):
                await runtime.start_container(container)
        else:
            await runtime.start_container(container)
            found = (await said(runtime, container))[0]
            assert found["volume"] == "the volume's"
            assert found["sys_read_only"] in ("EROFS", "EACCES")
    canary.assert_untouched()


@pytest.mark.parametrize("path", ["/", "/.", "//", "/usr/..", "/mnt/../.."])
async def test_nothing_is_mounted_over_the_root(runtime: Runtime, volume: Path, path: str) -> None:
    async with pod(runtime) as id:
        config = container_config(["/bin/true"], mounts=[Mount(container_path=path, host_path=str(volume))])
        container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
        with pytest.raises(StartError, match="root of the container"):
            await runtime.start_container(container)


@pytest.mark.parametrize(
    "path",
    ["/proc/sys", "/proc/self/attr", "/proc/1/root", "/proc/kcore", "/proc/interrupts", "/proc/new/one", "/proc"],
)
async def test_nothing_is_mounted_inside_proc(runtime: Runtime, volume: Path, path: str) -> None:
    for source in (volume, volume / "marker"):
        async with pod(runtime) as id:
            config = container_config(["/bin/true"], mounts=[Mount(container_path=path, host_path=str(source))])
            container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
            with pytest.raises(StartError, match="/proc"):
                await runtime.start_container(container)


@pytest.mark.parametrize("path", ["/sys", "/sys/fs/cgroup", "/sys/kernel", "/sys/fs/cgroup/memory", "/dev", "/dev/shm"])
async def test_what_may_be_mounted_over(runtime: Runtime, tmp_path: Path, volume: Path, path: str) -> None:
    """Node agents mount the host's /sys or parts of it; the volume is all that comes of it, in this container only."""
    if path == "/dev":
        os.mknod(volume / "null", 0o020666, os.makedev(1, 3))
    async with pod(runtime) as id:
        other = await start(runtime, id, container_config(["/bin/sleep", "1000"], "other"))
        found = await ask_in(
            runtime, id, f"VOLUME = {path!r}\n{SANE}", mounts=[Mount(container_path=path, host_path=str(volume))]
        )
        assert found["volume"] == "the volume's"
        assert found["sys_read_only"] == "EROFS"
        seen = await runtime.exec_sync(other, ["/bin/cat", f"{path}/marker"])
        assert seen.exit_code == 1
    assert not os.path.exists(f"{path}/marker")


async def test_masks_and_read_only_paths_lie_over_volumes(runtime: Runtime, volume: Path) -> None:
    """Whatever is mounted on /sys/firmware, or on what leads there, is masked like the original."""
    (volume / "firmware").mkdir()
    (volume / "firmware" / "marker").write_text("seen")
    async with pod(runtime) as id:
        for path, source in (("/sys/firmware", volume / "firmware"), ("/sys", volume)):
            mounts = [Mount(container_path=path, host_path=str(source))]
            assert await ask_in(runtime, id, 'tell(names=os.listdir("/sys/firmware"))', mounts=mounts) == {"names": []}


FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname")


@pytest.mark.parametrize("network", [NamespaceMode.POD, NamespaceMode.NODE])
async def test_the_hosts_own_files_are_not_the_containers_to_write(runtime: Runtime, network: NamespaceMode) -> None:
    """/etc/hosts and the like are copies, also where the pod has the host's network and name."""
    before = {path: Path(path).read_bytes() if os.path.exists(path) else None for path in FILES}
    source = f"""
    def append(path):
        with open(path, "a") as file:
            file.write("# hostile\\n")
    tell(**{{path: attempt(append, path) for path in {FILES!r}}})
    """
    options = NamespaceOption(network=network, pid=NamespaceMode.CONTAINER)
    async with pod(runtime, network=network) as id:
        # Root may write to what is the pod's.
        found = await ask_in(runtime, id, source, namespace_options=options)
        assert found == dict.fromkeys(FILES, "ok")
        found = await ask_in(runtime, id, source, namespace_options=options, run_as_user=USER)
        assert found == dict.fromkeys(FILES, "EACCES")
    async with pod(runtime, network=network) as id:
        # And of this pod only.
        found = await ask_in(runtime, id, f"tell(**{{path: read(path) for path in {FILES!r}}})")
        assert not [path for path, content in found.items() if "hostile" in content]
    assert {path: Path(path).read_bytes() if os.path.exists(path) else None for path in FILES} == before


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("target", ["{canary}/hosts", f"{UP[1:]}{{canary}}/hosts", "../run/dangling", "/var/none/x"])
async def test_the_pods_files_where_the_image_has_links(
    runtime: Runtime, tmp_path: Path, canary: Canary, uid: int, target: str
) -> None:
    """As in images of whole systems, where /etc/resolv.conf leads to ../run/systemd/resolve/stub-resolv.conf."""
    to = target.format(canary=canary.directory)
    image = hostile_image(runtime, {path.strip("/"): Symlink(to + path) for path in FILES}, tmp_path)
    async with pod(runtime) as id:
        config = config_for(sane(), image, run_as_user=uid)
        found = (await said(runtime, await start(runtime, id, config)))[0]
        assert found["hosts"] == Path("/etc/hosts").read_text()
    canary.assert_untouched()


@pytest.mark.parametrize(
    "target",
    ["/proc/self/environ", "/proc/self/attr/exec", "/proc/self/fd/3", "/proc/1/root/etc/x", "hosts", "/proc/x"],
)
async def test_the_pods_files_where_the_image_leads_into_proc(runtime: Runtime, tmp_path: Path, target: str) -> None:
    for path in FILES:
        image = hostile_image(runtime, {path.strip("/"): Symlink(target), "etc/hosts": Symlink(target)}, tmp_path)
        async with pod(runtime) as id:
            config = config_for(["/bin/true"], image)
            container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
            with pytest.raises(StartError):
                await runtime.start_container(container)


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize(
    "target", ["{canary}", f"{UP[1:]}{{canary}}", "/proc/self/cwd", "/proc/1/root", "nowhere", "/"]
)
async def test_a_working_directory_that_is_a_link(
    runtime: Runtime, tmp_path: Path, canary: Canary, uid: int, target: str
) -> None:
    image = hostile_image(runtime, {"work": Symlink(target.format(canary=canary.directory))}, tmp_path)
    async with pod(runtime) as id:
        config = config_for(probe("tell(cwd=os.getcwd(), names=os.listdir('.'))"), image, working_dir="/work")
        container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
        if target.startswith("/proc"):
            with pytest.raises(StartError):
                await runtime.start_container(container)
        else:
            await runtime.start_container(container)
            found = (await said(runtime, container))[0]
            # Inside, where it was made if it was not there.
            assert "secret" not in found["names"]
            assert found["cwd"] in (canary.directory, "/nowhere", "/")
    canary.assert_untouched()


SWAP = """
import random
targets = [CANARY, UP + CANARY, "/proc", "/proc/self", "/", "/proc/sys", "/etc", "../../../proc", "/dev"]
tell(ready=True)
number = 0
while True:
    number += 1
    for name in ("target", "deep"):
        at = "/shared/" + name
        new = "/shared/new%d" % number
        try:
            if random.random() < 0.5:
                os.symlink(random.choice(targets), new)
                try:
                    os.rename(new, at)
                except OSError:
                    os.rename(at, "/shared/old%s%d" % (name, number))
                    os.rename(new, at)
            else:
                os.mkdir(new)
                try:
                    os.unlink(at)
                except OSError:
                    pass
                os.rename(new, at)
        except OSError:
            pass
"""


@pytest.mark.parametrize("uid", UIDS)
async def test_a_target_that_is_swapped_while_others_start(
    runtime: Runtime, tmp_path: Path, volume: Path, canary: Canary, uid: int
) -> None:
    """CVE-2021-30465: a volume in a directory of another volume, which a container that runs already exchanges for
    links all the time. A start may fail; one that succeeds has mounted nothing where it should not."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chmod(shared, 0o777)
    mounts = [
        Mount(container_path="/shared", host_path=str(shared)),
        Mount(container_path="/shared/target", host_path=str(volume)),
        Mount(container_path="/shared/deep/a/b", host_path=str(volume / "marker")),
    ]
    swap = f"CANARY = {canary.directory!r}\nUP = {UP[1:]!r}\n{SWAP}"
    started = 0
    async with pod(runtime) as id, anyio.create_task_group():
        async with running(runtime, id, swap, name="swapper", mounts=mounts[:1], run_as_user=uid):
            for attempt in range(60):
                config = container_config(sane(), "victim", attempt=attempt, mounts=mounts, run_as_user=uid)
                container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
                try:
                    await runtime.start_container(container)
                except StartError:
                    continue
                done = await finished(runtime, container)
                if not told(done.stdout):
                    # A volume on /etc or /dev of its own is somebody else's program's loss.
                    continue
                started += 1
                found = told(done.stdout)[0]
                assert found["proc"][1] is True
                assert found["sys_read_only"] in ("EROFS", "EACCES")
                assert "secret" not in found["root"]
    assert started
    canary.assert_untouched()
    assert not os.path.exists("/marker")


async def test_a_sub_path_that_is_swapped_while_others_start(
    request: pytest.FixtureRequest, runtime: Runtime, tmp_path: Path, canary: Canary
) -> None:
    """CVE-2017-1002101 and CVE-2021-25741: subPath in a volume that a container exchanges for links; the kubelet's
    side pins what it found, and the runtime mounts that. The host's files are never what it found."""
    from podlite.kubelet.volumes.subpath import SubPathError, clean, prepare

    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    os.chmod(shared, 0o777)
    swapper = f"""
    tell(ready=True)
    while True:
        for target in ({canary.directory!r}, "/etc", {UP[1:] + canary.directory!r}, "/", "/proc/self/root"):
            os.symlink(target, "/shared/new")
            os.rename("/shared/sub", "/shared/kept")
            try:
                os.rename("/shared/new", "/shared/sub")
                os.unlink("/shared/sub")
            except OSError:
                os.unlink("/shared/new")  # the other side has made the directory that it missed
            os.rename("/shared/kept", "/shared/sub")
    """
    refused = mounted = 0
    pins = tmp_path / "volume-subpaths"
    request.addfinalizer(lambda: clean(str(pins)))
    async with pod(runtime) as id:
        mounts = [Mount(container_path="/shared", host_path=str(shared))]
        async with running(runtime, id, swapper, name="swapper", mounts=mounts):
            for attempt in range(300):
                try:
                    pinned = prepare(str(shared), "sub", f"{pins}/volume/main/{attempt}")
                except SubPathError:
                    refused += 1
                    continue
                assert not os.path.exists(f"{pinned}/secret")
                mounted += 1
                if mounted % 20 == 1:
                    config = container_config(
                        probe("tell(names=os.listdir('/sub'))"),
                        attempt=attempt,
                        mounts=[Mount(container_path="/sub", host_path=pinned)],
                    )
                    container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
                    try:
                        await runtime.start_container(container)
                    except StartError:
                        # It was the directory that was made in passing, and that is gone again.
                        continue
                    assert (await said(runtime, container))[0]["names"] == []
    # Both happened, or this would have been no race.
    assert refused
    assert mounted
    canary.assert_untouched()


async def test_a_device_outside_of_dev(runtime: Runtime, tmp_path: Path, canary: Canary) -> None:
    """A device plugin may name any path: it is made in the container, through whatever links the image has there."""
    from podlite.cri.types import Device

    image = hostile_image(runtime, {"opt": Symlink(f"{UP[1:]}{canary.directory}"), "srv": Symlink("/etc")}, tmp_path)
    devices = [
        Device(container_path=path, host_path="/dev/zero", permissions="rw")
        for path in ("/opt/one", f"{canary.directory}/two", "/dev/three", "/dev/deep/four", "/srv/five", "/dev/full")
    ]
    source = f"tell(devices=[os.stat(path).st_rdev for path in {[each.container_path for each in devices]!r}])"
    async with pod(runtime) as id:
        config = config_for(probe(source), image, devices=devices)
        found = (await said(runtime, await start(runtime, id, config)))[0]
        assert found["devices"] == [os.makedev(1, 5)] * len(devices)
    canary.assert_untouched()
    assert not os.path.exists("/etc/five")


async def test_volumes_of_files_and_directories_do_not_mix(runtime: Runtime, tmp_path: Path, volume: Path) -> None:
    image = hostile_image(runtime, {"file": File("x"), "directory/": Dir()}, tmp_path)
    async with pod(runtime) as id:
        for number, (path, source) in enumerate((("/file", volume), ("/directory", volume / "marker"))):
            mounts = [Mount(container_path=path, host_path=str(source))]
            config = config_for(["/bin/true"], image, f"c{number}", mounts=mounts)
            container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
            with pytest.raises(StartError, match=path):
                await runtime.start_container(container)
