"""Descriptors: a container's process has its three standard streams and nothing else to reach the host through.

CVE-2024-21626: a leaked descriptor of a host directory was a way out as a working directory (`/proc/self/fd/7`),
and as the beginning of a program's path, which has the program run with /proc/self/exe outside of the container.
CVE-2016-9962: a process that enters a container must not be looked into by those who are there.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import anyio
import pytest

from podlite.cri.errors import StartError
from podlite.runtime.container.exec import exec_in
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, start
from tests.support.escapes import (
    UIDS,
    WAYS,
    ask_this_way,
    config_for,
    hostile_image,
    pod,
    running,
    script,
)
from tests.support.images import Symlink

pytestmark = [pytest.mark.root, pytest.mark.anyio]

# More than any of podlite's processes has open.
NUMBERS = range(3, 48)

LOOK = """
found = {}
for fd in FDS:
    try:
        each = os.fstat(fd)
    except OSError:
        continue  # that of the listing
    found[fd] = [stat.S_IFMT(each.st_mode), each.st_rdev, os.readlink(f"/proc/self/fd/{fd}")]
same_null = os.fstat(0).st_dev == os.stat("/dev/null").st_dev
tell(fds=found, cwd=os.getcwd(), root=sorted(os.listdir("/")), same_null=same_null)
"""


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_process_has_its_standard_streams_and_nothing_else(runtime: Runtime, way: str, uid: int) -> None:
    found = await ask_this_way(runtime, way, LOOK, run_as_user=uid)
    assert list(found["fds"]) == ["0", "1", "2"]
    for fd, (kind, device, link) in found["fds"].items():
        if way.endswith("tty"):
            assert (kind, link) == (stat.S_IFCHR, "/dev/pts/0")
        elif fd == "0":
            # Not the host's node: its permissions could be changed through the descriptor.
            assert (kind, device, link, found["same_null"]) == (stat.S_IFCHR, os.makedev(1, 3), "/dev/null", True)
        else:
            assert kind == stat.S_IFIFO
            assert link.startswith("pipe:")
    assert found["cwd"] == "/"


TRICKS = ("{fd}", "{fd}/", "{fd}/../../../../../../..", "{fd}/.")


@pytest.mark.parametrize("uid", UIDS)
async def test_a_working_directory_through_a_descriptor(runtime: Runtime, tmp_path: Path, uid: int) -> None:
    """CVE-2024-21626 as it was published: from the pod's spec, and by a link in the image."""
    links = {f"wd{number}": Symlink(f"/proc/self/fd/{number}") for number in NUMBERS}
    image = hostile_image(runtime, links, tmp_path)
    async with pod(runtime) as id:
        for number in NUMBERS:
            for path in (*(trick.format(fd=f"/proc/self/fd/{number}") for trick in TRICKS), f"/wd{number}"):
                config = config_for(["/bin/pwd"], image, working_dir=path, run_as_user=uid, attempt=number)
                await _refused(runtime, id, config)


async def test_a_working_directory_of_the_image_through_a_descriptor(runtime: Runtime, tmp_path: Path) -> None:
    for number in range(3, 24):
        image = hostile_image(runtime, {}, tmp_path, WorkingDir=f"/proc/self/fd/{number}")
        async with pod(runtime) as id:
            await _refused(runtime, id, config_for(["/bin/pwd"], image))


async def _refused(runtime: Runtime, sandbox_id: str, config: object) -> None:
    sandbox = runtime.store.sandbox(sandbox_id)
    container = await runtime.create_container(sandbox_id, config, sandbox.config)  # type: ignore[arg-type]
    with pytest.raises(StartError):
        await runtime.start_container(container)
    await runtime.remove_container(container)


@pytest.mark.parametrize("uid", UIDS)
async def test_a_working_directory_of_an_exec_through_a_descriptor(runtime: Runtime, uid: int) -> None:
    """By the request itself, and by a link that replaces the container's working directory after its start."""
    swap = """
    os.rmdir("/tmp/work/dir")
    for number in range(3, 48):
        os.symlink(f"/proc/self/fd/{number}", f"/tmp/work/{number}")
    tell(ready=True)
    while True:
        for number in range(3, 48):
            os.symlink(f"/proc/self/fd/{number}", "/tmp/work/new")
            os.rename("/tmp/work/new", "/tmp/work/dir")
            time.sleep(0.005)
    """
    prepare = f"os.mkdir('/tmp/work/dir'); os.chdir('/'); os.chown('/tmp/work', {uid}, {uid})"
    async with pod(runtime) as id:
        # The working directory is made by root, and so its parent: a container of the pod's own gives it away.
        swapper = f"{prepare if uid == 0 else ''}\n" + swap.replace("\n    ", "\n")
        where = "/tmp/work" if uid == 0 else "/tmp"
        source = swapper if uid == 0 else swapper.replace("/tmp/work/dir", "/tmp/dir").replace("/tmp/work", "/tmp")
        if uid:
            source = "os.mkdir('/tmp/dir'); os.chdir('/')\n" + source
        async with running(runtime, id, source, run_as_user=uid, working_dir=where) as container:
            shim = runtime.store.sandboxes[id].shim
            assert shim is not None
            for number in NUMBERS:
                for path in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../../..", f"{where}/{number}"):
                    with pytest.raises(StartError):
                        await exec_in(
                            shim, container, ["/bin/pwd"], tty=False, stdin=False, stdout=False, stderr=False,
                            process={"cwd": path},
                        )  # fmt: skip
                with pytest.raises(StartError):
                    await exec_in(
                        shim, container, ["/bin/pwd"], tty=False, stdin=False, stdout=False, stderr=False,
                        process={"cwd": f"{where}/dir"},
                    )  # fmt: skip


@pytest.fixture
def host_program(tmp_path: Path) -> str:
    """A program of the host's that no container has."""
    path = f"{tmp_path}/host-program"
    shutil.copy("/usr/bin/true", path)
    return path


@pytest.mark.parametrize("uid", UIDS)
async def test_a_program_through_a_descriptor(runtime: Runtime, tmp_path: Path, host_program: str, uid: int) -> None:
    """The other half of CVE-2024-21626: /proc/self/exe of such a program is a file of the host that can be written
    to once it has ended. As argv[0], as a link in the image, and as the interpreter of a script."""
    os.chmod(tmp_path, 0o755)
    up = "/.." * 20
    files: dict[str, object] = {}
    for number in NUMBERS:
        files[f"link{number}"] = Symlink(f"/proc/self/fd/{number}{up}{host_program}")
        files[f"script{number}"] = script(f"#!/proc/self/fd/{number}{up}{host_program}\n")
    image = hostile_image(runtime, files, tmp_path)
    async with pod(runtime) as id:
        waiting = await start(runtime, id, config_for(["/bin/sleep", "1000"], image, "waiting", run_as_user=uid))
        for number in NUMBERS:
            for command in (f"/proc/self/fd/{number}{up}{host_program}", f"/link{number}", f"/script{number}"):
                await _refused(runtime, id, config_for([command], image, run_as_user=uid, attempt=number))
                with pytest.raises(StartError):
                    await runtime.exec_sync(waiting, [command])


async def test_null_device_replaced_before_an_exec(runtime: Runtime) -> None:
    """An exec without input gets /dev/null: whatever is there is opened by a process that is still podlite's.

    A link to /proc/self/fd/N gave the program behind it an open descriptor of podlite's own, such as that of
    another container's log.
    """
    source = """
    os.unlink("/dev/null")
    tell(ready=True)
    while True:
        time.sleep(1)
    """
    async with pod(runtime) as id, running(runtime, id, source) as container:
        # Files of the host that the shim has open.
        await start(runtime, id, container_config(["/bin/sleep", "1000"], "other"))
        pid = runtime.store.containers[container].pid
        device = f"/proc/{pid}/root/dev/null"
        targets = [f"/proc/self/fd/{number}" for number in NUMBERS]
        targets += ["/proc/self/exe", "/proc/kmsg", "/etc/passwd", "/proc/self/fd/0", "/proc/self/mem"]
        for target in targets:
            os.symlink(target, device)
            with pytest.raises(StartError, match="null"):
                await runtime.exec_sync(container, ["/bin/true"])
            os.unlink(device)
        for make in (
            lambda: Path(device).write_text("a file"),
            lambda: os.mkfifo(device),
            lambda: os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
            lambda: os.mknod(device, stat.S_IFBLK | 0o666, os.makedev(1, 3)),
        ):
            make()
            with anyio.fail_after(60), pytest.raises(StartError, match="null"):
                await runtime.exec_sync(container, ["/bin/true"])
            os.unlink(device)
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert (await runtime.exec_sync(container, ["/bin/true"])).exit_code == 0
