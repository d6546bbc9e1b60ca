"""Exec into a container that has been waiting for it: its programs, its terminals and its end are somebody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import anyio
import pytest

from podlite.cri.errors import FailedPreconditionError, StartError
from podlite.cri.types import Mount
from podlite.runtime.container.exec import exec_in
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, finished, start
from tests.support.escapes import (
    UIDS,
    Canary,
    ask_by_exec,
    config_for,
    hostile_image,
    pod,
    probe,
    running,
    said,
    told,
    with_capabilities,
)
from tests.support.images import File

pytestmark = [pytest.mark.root, pytest.mark.anyio]

WAIT = "tell(ready=True)\nwhile True: time.sleep(1)"


def inside(runtime: Runtime, container: str, path: str) -> str:
    """A path in the container, as the host sees it: for what its root could do to its own files."""
    return f"/proc/{runtime.store.containers[container].pid}/root{path}"


@pytest.mark.parametrize("uid", UIDS)
async def test_a_shell_that_has_been_replaced(runtime: Runtime, tmp_path: Path, uid: int) -> None:
    """Whatever runs under the name has the container's rights, streams and view, and no more."""
    image = hostile_image(runtime, {"opt/sh": File(b"", mode=0o755)}, tmp_path)
    async with pod(runtime) as id:
        container = await start(runtime, id, config_for(["/bin/sleep", "1000"], image, run_as_user=uid))
        source = """
        tell(fds=FDS, caps=status("CapEff"), parent=os.getppid(), tty=opened("/dev/tty", os.O_RDWR),
             session=os.getsid(0) == os.getpid(), group=os.getpgid(0) == os.getpid())
        """
        Path(inside(runtime, container, "/opt/sh")).write_text("#!/usr/bin/python3 -IS\n" + probe(source)[4])
        result = await runtime.exec_sync(container, ["/opt/sh", "-c", "exit 3"])
        found = told(result.stdout.decode())[0]
        # 3 and 4: the script itself, as its interpreter reads it, and the listing.
        assert found["fds"] in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
        assert found["caps"] == ("00000000a80425fb" if uid == 0 else "0" * 16)
        # The parent is outside of the pid namespace (pid_namespaces(7)); there is no terminal to inject input into.
        assert (found["parent"], found["tty"]) == (0, "ENXIO")
        assert (found["session"], found["group"]) == (True, True)


async def test_input_cannot_be_pushed_back_into_the_callers_terminal(runtime: Runtime) -> None:
    """TIOCSTI (CVE-2016-2568 and its like): without a terminal there is none, and with one it is the container's own.

    The caller holds its master; what is pushed there is the input of the container's program, and of nobody else.
    """
    source = """
    import fcntl, termios
    tell(push=[attempt(fcntl.ioctl, fd, termios.TIOCSTI, b"x") for fd in (0, 1, 2)],
         tty=opened("/dev/tty", os.O_RDWR), grab=[attempt(fcntl.ioctl, fd, termios.TIOCSCTTY, 1) for fd in (0, 1)])
    """
    async with pod(runtime) as id, running(runtime, id, WAIT) as container:
        found = await ask_by_exec(runtime, container, source)
        assert set(found["push"]) <= {"ENOTTY", "EINVAL"}
        assert set(found["grab"]) <= {"ENOTTY", "EINVAL"}
        assert found["tty"] == "ENXIO"
        found = await ask_by_exec(runtime, container, source, tty=True)
        # EIO where the kernel has switched it off (dev.tty.legacy_tiocsti).
        assert set(found["push"]) <= {"ok", "EIO"}


async def test_the_terminals_of_a_container_are_its_own(runtime: Runtime) -> None:
    """Each container has an instance of devpts; the host's terminals and those of siblings are not in it."""
    host = {name for name in os.listdir("/dev/pts") if name.isdigit()}
    async with pod(runtime) as id:
        names = []
        for name in ("a", "b"):
            container = await start(runtime, id, container_config(["/bin/sleep", "1000"], name, tty=True, stdin=True))
            found = await ask_by_exec(
                runtime, container, 'tell(pts=sorted(os.listdir("/dev/pts")), dev=os.stat("/dev/pts").st_dev)', tty=True
            )
            assert found["pts"] == ["0", "1", "ptmx"]
            names.append(found["dev"])
        assert names[0] != names[1]
        assert os.stat("/dev/pts").st_dev not in names
    assert {name for name in os.listdir("/dev/pts") if name.isdigit()} == host


@pytest.mark.parametrize(
    "make",
    [
        lambda path: os.symlink("/proc/self/fd/7", path),
        lambda path: os.symlink("/dev/null", path),
        lambda path: os.mkfifo(path, 0o666),
        lambda path: Path(path).write_text("a file"),
        lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3)),
        lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 2)),
        os.mkdir,
    ],
    ids=["magic link", "link", "pipe", "file", "null", "ptmx", "directory"],
)
async def test_a_terminal_device_that_has_been_replaced(runtime: Runtime, canary: Canary, make: object) -> None:
    """CAP_SYS_ADMIN can mount over /dev/pts. A terminal that podlite hands to its caller comes from a devpts."""
    source = """
    mounted = mount("tmpfs", "/dev/pts", "tmpfs")
    tell(mounted=mounted)
    while True:
        time.sleep(1)
    """
    async with (
        pod(runtime) as id,
        running(runtime, id, source, capabilities=with_capabilities("SYS_ADMIN")) as container,
    ):
        make(inside(runtime, container, "/dev/pts/ptmx"))  # type: ignore[operator]
        with anyio.fail_after(60), pytest.raises(StartError):
            stream = await runtime.exec(container, ["/bin/true"], tty=True, stdin=True, stdout=True, stderr=False)
            await stream.aclose()
        # Without a terminal it goes on.
        assert (await runtime.exec_sync(container, ["/bin/true"])).exit_code == 0
    canary.assert_untouched()


async def test_a_slave_in_place_of_the_master(runtime: Runtime) -> None:
    """On a devpts, but no ptmx: the caller would hold an end that the container has the other one of."""
    source = """
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    import fcntl, struct
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))
    tell(bound=mount("/dev/pts/0", "/dev/pts/ptmx", "", 0x1000))
    while True:
        time.sleep(1)
    """
    async with (
        pod(runtime) as id,
        running(runtime, id, source, capabilities=with_capabilities("SYS_ADMIN")) as container,
    ):
        with anyio.fail_after(60), pytest.raises(StartError):
            await runtime.exec(container, ["/bin/true"], tty=True, stdin=True, stdout=True, stderr=False)


async def test_a_dev_that_has_been_replaced(runtime: Runtime, canary: Canary) -> None:
    """The whole of /dev as a link to somewhere, by CAP_SYS_ADMIN: nothing is opened through it."""
    source = """
    for path in (b"/dev/pts", b"/dev/shm", b"/dev/mqueue", b"/dev"):
        libc.umount2(path, 2)
    os.rmdir("/dev")
    os.symlink("/proc/self/fd", "/dev")
    tell(ready=True)
    while True:
        time.sleep(1)
    """
    async with (
        pod(runtime) as id,
        running(runtime, id, source, capabilities=with_capabilities("SYS_ADMIN")) as container,
    ):
        for tty in (False, True):
            with anyio.fail_after(60), pytest.raises(StartError, match="dev"):
                stream = await runtime.exec(container, ["/bin/true"], tty=tty, stdin=tty, stdout=False, stderr=False)
                await stream.aclose()
    canary.assert_untouched()


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 12 << 20])
async def test_large_arguments_and_environments(runtime: Runtime, size: int) -> None:
    """Up to the kernel's limits they arrive; beyond, E2BIG is one sentence, and nothing is hurt."""
    async with pod(runtime) as id, running(runtime, id, WAIT) as container:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        words = ["x" * 100_000] * (size // 100_000) + ["x" * (size % 100_000)]
        for process in ({"env": [f"V{index}={word}" for index, word in enumerate(words)]}, {}):
            cmd = ["/bin/true", *([] if process else words)]
            try:
                stream = await exec_in(
                    shim, container, cmd, tty=False, stdin=False, stdout=True, stderr=True, process=process
                )
            except StartError as error:
                # 6 MiB at most, whatever the stack limit is (execve(2)).
                assert size > 1 << 20
                assert "argument list too long" in str(error).lower()
                assert error.exit_code == 126
            else:
                async with stream:
                    assert await stream.wait() == 0
        assert (await runtime.exec_sync(container, ["/bin/true"])).exit_code == 0


@pytest.mark.parametrize(
    "env", [["NO_EQUALS"], ["=x"], ["A\0B=1"], ["A=\0"], [f"A={chr(0xDCFF)}"], ["LD_PRELOAD=/x", "BASH_ENV=/x"]]
)
async def test_strange_environments(runtime: Runtime, env: list[str]) -> None:
    async with pod(runtime) as id, running(runtime, id, WAIT) as container:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        try:
            stream = await exec_in(
                shim, container, ["/bin/true"], tty=False, stdin=False, stdout=True, stderr=True, process={"env": env}
            )
            async with stream:
                await stream.wait()
        except (StartError, UnicodeEncodeError):
            pass
        assert (await runtime.exec_sync(container, ["/bin/true"])).exit_code == 0


async def test_execs_while_the_container_ends(runtime: Runtime) -> None:
    """The first process may be gone at any moment of an exec: a refusal, or an exec that was killed, and never a
    process that outlives the container, nor a pod that is worse off."""
    async with pod(runtime) as id:
        for attempt in range(30):
            config = container_config(["/bin/sleep", f"0.0{attempt % 10}"], attempt=attempt)
            container = await start(runtime, id, config)

            async def execute(container: str = container) -> None:
                try:
                    result = await runtime.exec_sync(container, ["/bin/sleep", "1000"], timeout=20)
                    assert result.exit_code == 137
                except (StartError, FailedPreconditionError):
                    pass

            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(execute)
                await finished(runtime, container)
        assert runtime.store.sandboxes[id].ready
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        with anyio.fail_after(60):
            while Path(f"/proc/{shim.pid}/task/{shim.pid}/children").read_text():
                await anyio.sleep(0.01)


async def test_execs_that_are_cancelled_leave_no_process(runtime: Runtime) -> None:
    async with pod(runtime) as id, running(runtime, id, WAIT) as container:
        for ms in (0, 1, 2, 3, 4, 5, 7, 10):
            with anyio.move_on_after(ms / 1000):
                await runtime.exec_sync(container, ["/bin/sleep", "1000"])
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        with anyio.fail_after(60):
            while len(Path(f"/proc/{shim.pid}/task/{shim.pid}/children").read_text().split()) > 1:
                await anyio.sleep(0.01)


async def test_output_that_nobody_reads_and_input_that_nobody_sends(runtime: Runtime) -> None:
    """A program of the container's can hold its own exec up, and nothing else."""
    async with pod(runtime) as id, running(runtime, id, WAIT) as container:
        flood = await runtime.exec(
            container, ["/usr/bin/head", "-c", "10000000", "/dev/zero"], tty=False, stdin=True, stdout=True, stderr=True
        )
        async with flood:
            with anyio.fail_after(60):
                assert (await runtime.exec_sync(container, ["/bin/true"])).exit_code == 0


async def test_files_that_a_caller_passes_stay_whose_they_are(runtime: Runtime, tmp_path: Path) -> None:
    """Pipes are given to the container's user, so that it can open /dev/stdout; a file of the host's is not."""
    from podlite.runtime.names import new_id

    file = tmp_path / "output"
    file.touch(mode=0o600)
    before = os.stat("/dev/null")
    async with pod(runtime) as id, running(runtime, id, WAIT, run_as_user=31337) as container:
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        fds = [os.open("/dev/null", os.O_RDWR), os.open(file, os.O_WRONLY)]
        try:
            message = {
                "container": container,
                "argv": ["/bin/echo", "hello"],
                "tty": False,
                "stdio": {"stdin": 0, "stdout": 1},
            }
            _, _, exited = await shim.exec(new_id(), message, fds)
            with anyio.fail_after(60):
                assert await exited == 0
        finally:
            for fd in fds:
                os.close(fd)
    assert file.read_text() == "hello\n"
    assert file.stat().st_uid == 0
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


async def test_an_exec_has_the_containers_badness(runtime: Runtime) -> None:
    """oom_score_adj: an exec that had podlite's, perhaps -1000, could not be killed for memory."""
    from podlite.cri.types import LinuxContainerResources

    async with pod(runtime) as id:
        resources = LinuxContainerResources(oom_score_adj=777)
        container = await start(runtime, id, container_config(["/bin/sleep", "1000"], resources=resources))
        result = await runtime.exec_sync(container, ["/bin/cat", "/proc/self/oom_score_adj"])
        assert result.stdout == b"777\n"


async def test_a_container_cannot_hide_a_volume_from_its_siblings(runtime: Runtime, tmp_path: Path) -> None:
    """What CAP_SYS_ADMIN unmounts or mounts in one container stays in that container, for exec into others too."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "marker").write_text("here")
    mounts = [Mount(container_path="/volume", host_path=str(volume))]
    source = """
    tell(unmounted="ok" if libc.umount2(b"/volume", 2) == 0 else "no", mounted=mount("tmpfs", "/mnt", "tmpfs"))
    while True:
        time.sleep(1)
    """
    async with pod(runtime) as id:
        other = await start(runtime, id, container_config(["/bin/sleep", "1000"], "other", mounts=mounts))
        fields = {"mounts": mounts, "capabilities": with_capabilities("SYS_ADMIN")}
        async with running(runtime, id, source, **fields) as container:
            assert (await said(runtime, container))[0] == {"unmounted": "ok", "mounted": "ok"}
            assert (await runtime.exec_sync(other, ["/bin/cat", "/volume/marker"])).stdout == b"here"
            assert (await runtime.exec_sync(container, ["/bin/cat", "/volume/marker"])).exit_code == 1
