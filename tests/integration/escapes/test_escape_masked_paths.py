"""What of /proc and /sys is hidden or read-only, and what an image or a sibling can do about it.

CVE-2025-31133: runc covered masked files with the container's /dev/null, which the container had replaced.
CVE-2025-52565: the same with /dev/console. CVE-2025-52881: writes to /proc were redirected to other files of it.
CVE-2026-41579: a /dev that was a symbolic link had runc remove `ptmx`, and make links, in a directory of the host.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from podlite.cri.errors import StartError
from podlite.cri.types import Mount
from podlite.runtime.service import Runtime
from tests.support.containers import MASKED_PATHS, READONLY_PATHS, container_config, start
from tests.support.escapes import (
    UIDS,
    WAYS,
    Canary,
    ask,
    ask_by_exec,
    ask_in,
    ask_this_way,
    config_for,
    hostile_image,
    pod,
    probe,
    running,
    said,
    with_capabilities,
)
from tests.support.images import Dir, File, Symlink

pytestmark = [pytest.mark.root, pytest.mark.anyio]

LOOK_AT_MASKS = f"""
found = {{}}
for path in {MASKED_PATHS!r}:
    try:
        each = os.stat(path)
    except FileNotFoundError:
        continue
    if stat.S_ISDIR(each.st_mode):
        found[path] = [sorted(os.listdir(path)), attempt(os.mkdir, path + "/new"), attempt(os.chmod, path, 0o777)]
    else:
        found[path] = [read(path), each.st_rdev, attempt(os.chmod, path, 0o777), attempt(os.chown, path, 1, 1)]
found["unmount"] = "ok" if libc.umount2(b"/proc/interrupts", 2) == 0 else name(ctypes.get_errno())
tell(**found)
"""


@pytest.fixture(autouse=True)
def kernel_settings_are_unchanged() -> object:
    """What attacks on /proc/sys are after, and the host's null device, which covers masked files."""
    before = _settings()
    yield
    assert _settings() == before


def _settings() -> list[object]:
    names = ("core_pattern", "modprobe", "hotplug", "sysrq", "hostname", "domainname", "panic_on_oops")
    paths = [f"/proc/sys/kernel/{name}" for name in names]
    status = os.stat("/dev/null")
    return [
        *(Path(path).read_text() for path in paths if os.path.exists(path)),
        (status.st_mode, status.st_uid, status.st_gid, status.st_rdev),
        sorted(os.listdir("/dev")) if os.path.isdir("/dev") else [],
    ]


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_masked_paths_are_empty_and_cannot_be_changed(runtime: Runtime, way: str, uid: int) -> None:
    """Not their attributes either: what covers a file is the host's own null device."""
    found = await ask_this_way(runtime, way, LOOK_AT_MASKS, run_as_user=uid)
    assert found.pop("unmount") == "EPERM"
    # Every kernel has it.
    assert "/proc/interrupts" in found
    for path, answer in found.items():
        if stat.S_ISDIR(os.stat(path).st_mode):
            assert answer == [[], "EROFS", "EROFS"] if uid == 0 else answer[0] == [], path
            assert answer[1] in ("EROFS", "EACCES"), path
        else:
            assert answer[:2] == ["", os.makedev(1, 3)], path
            assert set(answer[2:]) <= ({"EROFS"} if uid == 0 else {"EROFS", "EPERM"}), path


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_settings_of_the_kernel_cannot_be_written(runtime: Runtime, way: str, uid: int) -> None:
    source = """
    found = {}
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq",
                 "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward",
                 "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
                 "/proc/bus/pci/devices", "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled",
                 "/sys/power/state", "/sys/module/printk/parameters/time", "/sys/fs/cgroup/memory/release_agent",
                 "/sys/fs/cgroup/cgroup.procs"):
        if os.path.exists(path):
            found[path] = opened(path, os.O_WRONLY)
    made = {path: opened(path + "/new", os.O_WRONLY | os.O_CREAT) for path in ("/proc", "/proc/sys", "/sys", "/proc/fs")}
    tell(found=found, made=made, remount=mount("", "/proc/sys", "", 0x1020), sysfs=mount("", "/sys", "", 0x20))
    """
    found = await ask_this_way(runtime, way, source, run_as_user=uid)
    assert set(found["found"].values()) <= ({"EROFS"} if uid == 0 else {"EROFS", "EACCES"}), found["found"]
    assert len(found["found"]) >= 6
    assert set(found["made"].values()) <= {"EROFS", "ENOENT", "EACCES"}
    assert (found["remount"], found["sysfs"]) == ("EPERM", "EPERM")


@pytest.mark.parametrize("uid", UIDS)
async def test_a_null_device_of_the_image(runtime: Runtime, tmp_path: Path, uid: int) -> None:
    """CVE-2025-31133: /dev/null as a link to what is to be got at, in a /dev that the image brings along."""
    for target in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd", "/proc/self/exe"):
        files = {
            "dev/": Dir(),
            "dev/null": Symlink(target),
            "dev/console": Symlink(target),
            "dev/ptmx": Symlink(target),
            "dev/pts": Symlink(os.path.dirname(target)),
            "dev/shm": Symlink(target),
            "dev/mqueue": File("a file"),
            "dev/fd": File("a file"),
        }
        image = hostile_image(runtime, files, tmp_path)
        async with pod(runtime) as id:
            for tty in (False, True):
                source = LOOK_AT_MASKS + (
                    'tell(**found, dev=[stat.S_IFMT(os.stat("/dev/" + each).st_mode)'
                    ' for each in ("null", "pts", "shm", "mqueue")], core=opened("/proc/sys/kernel/core_pattern", 1))'
                )
                config = config_for(probe(source), image, f"tty{tty}", run_as_user=uid, tty=tty, stdin=tty)
                found = (await said(runtime, await start(runtime, id, config), 2))[-1]
                assert found["/proc/interrupts"][:2] == ["", os.makedev(1, 3)]
                assert found["dev"] == [stat.S_IFCHR, stat.S_IFDIR, stat.S_IFDIR, stat.S_IFDIR]
                assert found["core"] in ("EROFS", "EACCES")


async def test_a_shared_dev_whose_null_device_is_being_replaced(runtime: Runtime, tmp_path: Path) -> None:
    """A volume on /dev belongs to whoever else has it: masks do not come from there, and neither does the standard
    input of a container that starts meanwhile, unless it is the null device."""
    shared = tmp_path / "dev"
    shared.mkdir()
    for name in ("pts", "shm", "mqueue"):
        (shared / name).mkdir()
    os.mknod(shared / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    volume = Mount(container_path="/dev", host_path=str(shared))
    swapper = """
    tell(ready=True)
    targets = ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/self/exe", "/proc/self/fd/3",
               "/proc/self/fd/7", "/etc/passwd"]
    while True:
        for target in targets:
            os.symlink(target, "/volume/new")
            os.rename("/volume/new", "/volume/null")
            os.mknod("/volume/new", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            os.rename("/volume/new", "/volume/null")
    """
    source = """
    masks = [[read(path), os.stat(path).st_rdev] for path in ("/proc/interrupts", "/sys/firmware") if not os.path.isdir(path)]
    tell(masks=masks, stdin=[os.fstat(0).st_rdev, stat.S_ISCHR(os.fstat(0).st_mode)],
         core=opened("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    """
    started = refused = 0
    async with pod(runtime) as id:
        mounts = [Mount(container_path="/volume", host_path=str(shared))]
        async with running(runtime, id, swapper, name="swapper", mounts=mounts):
            for attempt in range(60):
                config = container_config(probe(source), "victim", attempt=attempt, mounts=[volume])
                sandbox = runtime.store.sandbox(id)
                container = await runtime.create_container(id, config, sandbox.config)
                try:
                    await runtime.start_container(container)
                except StartError as error:
                    assert "/dev/null" in str(error)
                    refused += 1
                    continue
                started += 1
                found = (await said(runtime, container))[0]
                assert found["masks"] == [["", os.makedev(1, 3)]]
                assert found["stdin"] == [os.makedev(1, 3), True]
                assert found["core"] == "EROFS"
    assert started + refused == 60


async def test_a_masked_path_in_a_volume_follows_the_file_and_not_the_name(runtime: Runtime, tmp_path: Path) -> None:
    """A mask on something that others can rename hides the file that was there at the start, and nothing else.

    Kubernetes masks paths of /proc and /sys only, where nobody can rename; whoever asks for another one has to know.
    """
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "secret").write_text("first")
    mounts = [Mount(container_path="/volume", host_path=str(volume))]
    source = """
    tell(secret=read("/volume/secret"))
    while not os.path.exists("/volume/moved"):
        time.sleep(0.01)
    tell(secret=read("/volume/secret"), old=read("/volume/old"))
    """
    async with pod(runtime) as id:
        config = container_config(
            probe(source), mounts=mounts, masked_paths=[*MASKED_PATHS, "/volume/secret", "/volume/none"]
        )
        container = await start(runtime, id, config)
        assert (await said(runtime, container))[0] == {"secret": ""}
        os.rename(volume / "secret", volume / "old")
        (volume / "secret").write_text("second")
        (volume / "moved").touch()
        assert (await said(runtime, container, 2))[1] == {"secret": "second", "old": ""}


async def test_a_masked_path_that_is_a_link_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    """It could lead anywhere a moment later; a start that cannot hide what it was told to hide does not happen."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "secret").symlink_to("/etc/hostname")
    config = container_config(
        ["/bin/true"],
        mounts=[Mount(container_path="/volume", host_path=str(volume))],
        masked_paths=["/volume/secret"],
    )
    async with pod(runtime) as id:
        container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
        with pytest.raises(StartError, match="mask /volume/secret"):
            await runtime.start_container(container)


async def test_a_console_of_somebody_elses(runtime: Runtime, tmp_path: Path, canary: Canary) -> None:
    """CVE-2025-52565: /dev/console in a shared /dev as a link to where the terminal is not to be bound."""
    for target in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        f"{canary.directory}/secret",
        "../etc/passwd",
    ):
        shared = tmp_path / target.replace("/", "_")
        (shared / "pts").mkdir(parents=True)
        os.mknod(shared / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (shared / "console").symlink_to(target)
        volume = Mount(container_path="/dev", host_path=str(shared))
        async with pod(runtime) as id:
            config = container_config(["/bin/true"], tty=True, stdin=True, mounts=[volume])
            container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
            with pytest.raises(StartError, match="console"):
                await runtime.start_container(container)
        assert os.readlink(shared / "console") == target
    canary.assert_untouched()


@pytest.mark.parametrize("uid", UIDS)
async def test_a_dev_that_is_a_link(runtime: Runtime, tmp_path: Path, canary: Canary, uid: int) -> None:
    """CVE-2026-41579: nothing is made, removed or mounted where the link of an image leads."""
    up = "../" * 20
    for target in (canary.directory, f"{up}{canary.directory}", "/proc", "/nowhere", "tmp", "/", "/sys/fs/cgroup"):
        image = hostile_image(runtime, {"dev": Symlink(target)}, tmp_path)
        async with pod(runtime) as id:
            for tty in (False, True):
                config = config_for(["/bin/true"], image, f"tty{tty}", run_as_user=uid, tty=tty, stdin=tty)
                container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
                with pytest.raises(StartError, match="dev"):
                    await runtime.start_container(container)
                upper = f"{runtime.layout.containers_dir}/{container}/upper"
                assert not [name for _, _, names in os.walk(upper) for name in names if name in ("ptmx", "fd", "stdin")]
    canary.assert_untouched()


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
async def test_kernel_file_systems_go_where_they_belong_or_nowhere(
    runtime: Runtime, tmp_path: Path, canary: Canary, name: str
) -> None:
    """CVE-2019-19921 and CVE-2023-27561: /proc or /sys of the image as a link, or as something that is no directory."""
    for node in (Symlink(canary.directory), Symlink("tmp"), Symlink("/"), File("a file")):
        image = hostile_image(runtime, {name: node}, tmp_path)
        async with pod(runtime) as id:
            config = config_for(["/bin/true"], image)
            container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
            with pytest.raises(StartError, match=name):
                await runtime.start_container(container)
    canary.assert_untouched()


async def test_files_of_proc_that_the_image_brings_along_are_covered(runtime: Runtime, tmp_path: Path) -> None:
    """CVE-2025-52881 and CVE-2019-19921 need a /proc of the image's: what podlite reads and writes of /proc is the
    kernel's, and how many capabilities there are to drop is not asked in there."""
    fake = {
        "proc/": Dir(),
        "proc/self/": Dir(),
        "proc/self/attr/": Dir(),
        "proc/self/attr/exec": File(""),
        "proc/self/oom_score_adj": File(""),
        "proc/sys/": Dir(),
        "proc/sys/kernel/": Dir(),
        "proc/sys/kernel/cap_last_cap": File("0\n"),
        "proc/interrupts": Symlink("/etc/passwd"),
    }
    image = hostile_image(runtime, fake, tmp_path)
    source = 'tell(last=read("/proc/sys/kernel/cap_last_cap"), bounding=status("CapBnd"), interrupts=read("/proc/interrupts"))'
    async with pod(runtime) as id:
        found = (await said(runtime, await start(runtime, id, config_for(probe(source), image))))[0]
    assert found["last"] == Path("/proc/sys/kernel/cap_last_cap").read_text()
    # The default set of runc, Docker and containerd.
    assert found["bounding"] == "00000000a80425fb"
    assert found["interrupts"] == ""


async def test_a_volume_on_proc(runtime: Runtime, tmp_path: Path) -> None:
    """A directory in its place, with settings of somebody's own, would be what podlite and the container believe."""
    fake = tmp_path / "proc"
    (fake / "sys/kernel").mkdir(parents=True)
    (fake / "sys/kernel/cap_last_cap").write_text("0\n")
    async with pod(runtime) as id:
        for number, path in enumerate(("/proc", "/proc/", "//proc", "/proc/.", "/sys/../proc")):
            config = container_config(
                ["/bin/true"], f"c{number}", mounts=[Mount(container_path=path, host_path=str(fake))]
            )
            container = await runtime.create_container(id, config, runtime.store.sandbox(id).config)
            with pytest.raises(StartError, match="not a proc file system"):
                await runtime.start_container(container)
        # The host's /proc is one, and is masked as the container's own would be.
        mounts = [Mount(container_path="/proc", host_path="/proc")]
        found = await ask_in(runtime, id, LOOK_AT_MASKS, mounts=mounts)
        assert found["/proc/interrupts"][:2] == ["", os.makedev(1, 3)]
        source = 'tell(core=opened("/proc/sys/kernel/core_pattern", os.O_WRONLY), cap=status("CapBnd"))'
        assert await ask_in(runtime, id, source, mounts=mounts) == {"core": "EROFS", "cap": "00000000a80425fb"}


async def test_masks_with_cap_sys_admin(runtime: Runtime) -> None:
    """CAP_SYS_ADMIN outside of a user namespace can take everything off again: it is root's right on the host, and is
    given only to who may have that. Stated here so that nobody takes the masks for more than they are."""
    source = """
    before = read("/proc/interrupts")
    unmounted = "ok" if libc.umount2(b"/proc/sys", 2) == 0 else name(ctypes.get_errno())
    tell(before=before, unmounted=unmounted, core=opened("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    """
    found = await ask(runtime, source, capabilities=with_capabilities("SYS_ADMIN"))
    assert found == {"before": "", "unmounted": "ok", "core": "ok"}


async def test_everything_is_masked_for_an_exec_in_a_container_of_another_image(
    runtime: Runtime, tmp_path: Path
) -> None:
    """The exec joins the container's mounts; there is no moment in which it sees others."""
    image = hostile_image(runtime, {}, tmp_path)
    async with pod(runtime) as id:
        container = await start(runtime, id, config_for(["/bin/sleep", "1000"], image))
        found = await ask_by_exec(runtime, container, LOOK_AT_MASKS)
        assert found["/proc/interrupts"][:2] == ["", os.makedev(1, 3)]


def test_the_paths_are_those_that_the_kubelet_asks_for() -> None:
    """What these tests mask is what pods get."""
    from podlite.kubelet.security import READONLY_PATHS as KUBELET_READONLY
    from podlite.kubelet.security import masked_paths

    assert set(MASKED_PATHS) <= set(masked_paths())
    assert set(READONLY_PATHS) <= set(KUBELET_READONLY)
