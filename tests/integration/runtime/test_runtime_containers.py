"""Containers of podlite's own runtime, through the CRI seam, on real namespaces."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from podlite.cri.errors import (
    AlreadyExistsError,
    CRIError,
    DeadlineExceededError,
    FailedPreconditionError,
    NotFoundError,
    StartError,
    UnavailableError,
)
from podlite.cri.types import (
    Capability,
    ContainerEventType,
    ContainerState,
    LinuxContainerResources,
    Mount,
    NamespaceMode,
    NamespaceOption,
    PodSandboxState,
)
from podlite.linux.process import set_child_subreaper
from podlite.linux.syscalls import PR_SET_CHILD_SUBREAPER, prctl
from podlite.runtime import shim_client
from podlite.runtime.container import stop
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, fd_count, finished, read_log, run, sandbox_config, sh, start
from tests.support.leaks import children, has_ended, processes_titled
from tests.support.stopped import state

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def test_one_container_from_nothing_to_nothing(runtime: Runtime) -> None:
    config = sandbox_config(runtime)
    id = await runtime.run_pod_sandbox(config)
    assert (await runtime.pod_sandbox_status(id)).state == PodSandboxState.SANDBOX_READY
    result = await run(runtime, id, container_config(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]))
    assert (result.stdout, result.stderr, result.code, result.reason) == ("out\n", "err\n", 7, "Error")
    status = await runtime.container_status(result.id)
    assert status.state == ContainerState.CONTAINER_EXITED
    assert status.created_at < status.started_at <= status.finished_at
    directory, shim = runtime.store.sandboxes[id].directory, runtime.store.sandboxes[id].shim
    assert shim is not None
    await runtime.stop_pod_sandbox(id)
    assert (await runtime.pod_sandbox_status(id)).state == PodSandboxState.SANDBOX_NOTREADY
    await runtime.remove_pod_sandbox(id)
    assert not os.path.exists(directory)
    assert os.listdir(runtime.layout.netns_dir) == []
    assert os.listdir(runtime.layout.containers_dir) == []
    assert await runtime.list_containers() == []
    assert has_ended(shim.pid)


async def test_calls_are_idempotent_and_errors_have_their_codes(runtime: Runtime) -> None:
    await runtime.stop_pod_sandbox("0" * 64)
    await runtime.remove_pod_sandbox("0" * 64)
    await runtime.stop_container("0" * 64, 0)
    await runtime.remove_container("0" * 64)
    with pytest.raises(NotFoundError):
        await runtime.pod_sandbox_status("0" * 64)
    with pytest.raises(NotFoundError):
        await runtime.container_status("0" * 64)
    config = sandbox_config(runtime)
    id = await runtime.run_pod_sandbox(config)
    with pytest.raises(AlreadyExistsError):
        await runtime.run_pod_sandbox(config)
    with pytest.raises(NotFoundError, match="image"):
        await runtime.create_container(id, container_config(["true"], image="no.such/image:1"), config)
    container = await runtime.create_container(id, container_config(["/bin/true"]), config)
    with pytest.raises(AlreadyExistsError):
        await runtime.create_container(id, container_config(["/bin/true"]), config)
    with pytest.raises(FailedPreconditionError):
        await runtime.exec_sync(container, ["true"])
    await runtime.start_container(container)
    await finished(runtime, container)
    with pytest.raises(FailedPreconditionError):
        await runtime.start_container(container)
    await runtime.stop_container(container, 1)
    await runtime.remove_container(container)
    await runtime.remove_container(container)
    await runtime.stop_pod_sandbox(id)
    await runtime.stop_pod_sandbox(id)
    with pytest.raises(FailedPreconditionError):
        await runtime.create_container(id, container_config(["/bin/true"]), config)
    await runtime.remove_pod_sandbox(id)


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        # What a shell answers: 127 not found, 126 found but not executable (POSIX, 2.8.2).
        (["no-such-command"], 127, 'exec: "no-such-command": executable file not found in $PATH'),
        (["/no/such/file"], 127, 'exec: "/no/such/file": stat /no/such/file: no such file or directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, "permission denied"),
    ],
)
async def test_a_command_that_cannot_be_started(runtime: Runtime, command: list[str], code: int, text: str) -> None:
    config = sandbox_config(runtime)
    id = await runtime.run_pod_sandbox(config)
    container = await runtime.create_container(id, container_config(command), config)
    with pytest.raises(StartError) as caught:
        await runtime.start_container(container)
    assert caught.value.exit_code == code
    assert text in str(caught.value)
    status = await runtime.container_status(container)
    # As containerd has it: the container is exited, 128, StartError.
    assert (status.state, status.exit_code, status.reason) == (ContainerState.CONTAINER_EXITED, 128, "StartError")


async def test_a_container_has_namespaces_of_its_own(runtime: Runtime) -> None:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    result = await sh(runtime, "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds))
    for kind, seen in zip(kinds, result.stdout.splitlines(), strict=True):
        assert seen != os.readlink(f"/proc/self/ns/{kind}"), kind


async def test_containers_of_a_pod_share_network_ipc_and_hostname(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, "web"))
    script = "hostname; for k in net ipc uts pid mnt; do readlink /proc/self/ns/$k; done"
    # Both live at the same time: the kernel gives the number of a namespace that is gone to the next one.
    first = await start(runtime, id, container_config(["/bin/sh", "-c", f"{script}; exec sleep 1000"], "a"))
    log_path = runtime.store.container(first).log_path
    while (printed := read_log(log_path)["stdout"].decode()).count("\n") < 6:
        await anyio.sleep(0.01)
    second = await run(runtime, id, container_config(["/bin/sh", "-c", script], "b"))
    seen = [printed.splitlines(), second.stdout.splitlines()]
    assert seen[0][0] == "web"
    assert seen[0][:4] == seen[1][:4]
    assert seen[0][4] != seen[1][4]
    assert seen[0][5] != seen[1][5]


async def test_shared_memory_is_the_pods(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    await run(runtime, id, container_config(["/bin/sh", "-c", "echo hello > /dev/shm/x"], "a"))
    assert (await run(runtime, id, container_config(["/bin/cat", "/dev/shm/x"], "b"))).stdout == "hello\n"


async def test_output_survives_byte_for_byte(runtime: Runtime, tmp_path: object) -> None:
    data = bytes(range(256)) * 300 + b"no end of line"
    source = f"{tmp_path}/data"
    with open(source, "wb") as file:
        file.write(data)
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    config = container_config(
        ["/bin/cat", "/data"], mounts=[Mount(container_path="/data", host_path=source, readonly=True)]
    )
    container = await start(runtime, id, config)
    await runtime.store.containers[container].exited.wait()
    assert read_log(runtime.store.containers[container].log_path)["stdout"] == data


async def test_stop_signals_waits_and_kills(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    polite = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    container = await start(runtime, id, container_config(["/bin/sh", "-c", polite], "polite"))
    await _said(runtime, container, "ready")
    await runtime.stop_container(container, 20)
    assert (await runtime.container_status(container)).exit_code == 3
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    container = await start(runtime, id, container_config(["/bin/sh", "-c", deaf], "deaf"))
    await _said(runtime, container, "ready")
    await runtime.stop_container(container, 1)
    # 128 + 9, SIGKILL.
    assert (await runtime.container_status(container)).exit_code == 137


async def _said(runtime: Runtime, container: str, text: str) -> None:
    path = runtime.store.containers[container].log_path
    with anyio.fail_after(60):
        while text not in read_log(path)["stdout"].decode():
            await anyio.sleep(0.01)


async def test_removing_a_running_container_kills_it(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
    pid = runtime.store.containers[container].pid
    await runtime.remove_container(container)
    assert not os.path.exists(f"/proc/{pid}")
    with pytest.raises(NotFoundError):
        await runtime.container_status(container)


async def test_memory_limit_kills_and_is_reported(runtime: Runtime) -> None:
    if runtime.cgroups is None or "memory" in runtime.cgroups.missing:
        pytest.skip("no memory controller")
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    config = container_config(
        ["/usr/bin/python3", "-c", "x = bytearray(200 << 20)"],
        resources=LinuxContainerResources(memory_limit_in_bytes=30 << 20),
    )
    result = await run(runtime, id, config)
    assert (result.code, result.reason) == (137, "OOMKilled")


async def test_exec_sync(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"], env={"GREETING": "hello"}))
    result = await runtime.exec_sync(container, ["/bin/sh", "-c", "echo $GREETING; echo oops >&2; exit 4"])
    assert (result.stdout, result.stderr, result.exit_code) == (b"hello\n", b"oops\n", 4)
    same = await runtime.exec_sync(
        container,
        ["/bin/sh", "-c", "for k in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$k /proc/1/ns/$k; done"],
    )
    seen = same.stdout.decode().split()
    assert seen[0::2] == seen[1::2]
    with pytest.raises(StartError) as caught:
        await runtime.exec_sync(container, ["nope"])
    assert caught.value.exit_code == 127
    with pytest.raises(DeadlineExceededError):
        await runtime.exec_sync(container, ["/bin/sleep", "1000"], timeout=0.2)
    left = await runtime.exec_sync(container, ["/bin/sh", "-c", "ls /proc | grep -c '^[0-9]'"])
    # sleep, sh, ls and grep: the one that took too long is gone.
    assert int(left.stdout) <= 4


async def test_exec_in_a_terminal(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
    stream = await runtime.exec(container, ["/bin/sh"], tty=True, stdin=True, stdout=True, stderr=False)
    async with stream:
        assert stream.stdin is not None
        assert stream.stdout is not None
        assert stream.stderr is None
        await stream.resize(123, 45)
        await stream.stdin.send(b"tty; stty size; exit 5\n")
        output = b""
        with anyio.fail_after(60):
            async for chunk in stream.stdout:
                output += chunk
            assert await stream.wait() == 5
    assert b"/dev/pts/0" in output
    assert b"45 123" in output


async def test_attach_gets_output_and_gives_input(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/cat"], stdin=True, stdin_once=True))
    stream = await runtime.attach(container, tty=False, stdin=True, stdout=True, stderr=True)
    async with stream:
        assert stream.stdin is not None
        assert stream.stdout is not None
        await stream.stdin.send(b"ping\n")
        with anyio.fail_after(60):
            assert await stream.stdout.receive() == b"ping\n"
            # stdin_once: the end of the first client's input is the end of the container's.
            await stream.stdin.aclose()
            assert await stream.wait() == 0
    assert read_log(runtime.store.containers[container].log_path)["stdout"] == b"ping\n"


async def test_a_container_with_a_terminal(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    script = "tty; test -t 0 && echo in; ls -l /dev/console; echo $TERM"
    result = await run(runtime, id, container_config(["/bin/sh", "-c", script], tty=True, stdin=True))
    assert result.stderr == ""
    lines = result.stdout.split("\r\n")
    assert lines[0] == "/dev/pts/0"
    assert lines[1] == "in"
    assert lines[2].startswith("crw")
    assert lines[3] == "xterm"


async def test_events_tell_a_containers_life(runtime: Runtime) -> None:
    seen = []
    async with runtime.get_container_events() as events:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime))
        result = await run(runtime, id, container_config(["/bin/true"]))
        await runtime.remove_container(result.id)
        with anyio.fail_after(60):
            async for event in events:
                if event.container_id == result.id:
                    seen.append(event.container_event_type)
                    if event.container_event_type == ContainerEventType.CONTAINER_DELETED_EVENT:
                        break
    assert seen == [
        ContainerEventType.CONTAINER_CREATED_EVENT,
        ContainerEventType.CONTAINER_STARTED_EVENT,
        ContainerEventType.CONTAINER_STOPPED_EVENT,
        ContainerEventType.CONTAINER_DELETED_EVENT,
    ]


async def test_a_killed_shim_ends_its_containers(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
    stored = runtime.store.containers[container]
    shim = runtime.store.sandboxes[id].shim
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)
    with anyio.fail_after(60):
        await stored.exited.wait()
        while not has_ended(stored.pid):
            await anyio.sleep(0.01)
    assert (await runtime.pod_sandbox_status(id)).state == PodSandboxState.SANDBOX_NOTREADY
    assert stored.exit_code == 137
    await runtime.remove_pod_sandbox(id)
    assert os.listdir(runtime.layout.pods_dir) == []


async def test_a_killed_spawner_is_replaced(runtime: Runtime) -> None:
    first = runtime.spawner.pid
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, "one"))
    os.kill(first, signal.SIGKILL)
    with anyio.fail_after(60):
        while runtime.spawner.alive:
            await anyio.sleep(0.01)
    # The pod does not notice, and the next one gets a new spawner.
    assert (await run(runtime, id, container_config(["/bin/true"]))).code == 0
    other = await runtime.run_pod_sandbox(sandbox_config(runtime, "two"))
    assert runtime.spawner.pid != first
    assert (await run(runtime, other, container_config(["/bin/true"]))).code == 0


async def test_a_spawner_whose_end_nobody_has_seen_yet(runtime: Runtime) -> None:
    """The call that finds out fails as one that may be repeated, and leaves nothing."""
    os.kill(runtime.spawner.pid, signal.SIGKILL)
    while state(runtime.spawner.pid) != "Z":
        pass  # without a turn of the event loop, which would tell of it
    with pytest.raises(UnavailableError, match="the spawner ended"):
        await runtime.run_pod_sandbox(sandbox_config(runtime))
    assert os.listdir(runtime.layout.pods_dir) == []
    await runtime.run_pod_sandbox(sandbox_config(runtime))


async def test_a_process_that_cannot_be_killed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen by an administrator, which stands for a system call that does not end (a dead NFS server)."""
    monkeypatch.setattr(shim_client, "KILL_SECONDS", 0.3)
    monkeypatch.setattr(stop, "KILL_SECONDS", 0.3)
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
    stored = runtime.store.containers[container]
    frozen = "/sys/fs/cgroup/freezer/podlite-test-frozen"
    if not os.path.exists("/sys/fs/cgroup/freezer/tasks"):
        pytest.skip("nothing here freezes a process so that SIGKILL does not reach it")
    os.mkdir(frozen)
    try:
        Path(f"{frozen}/cgroup.procs").write_text(str(stored.pid))
        Path(f"{frozen}/freezer.state").write_text("FROZEN")
        with anyio.fail_after(60):
            while Path(f"{frozen}/freezer.state").read_text() != "FROZEN\n":
                await anyio.sleep(0.01)
        with pytest.raises(CRIError, match="does not end though it was killed"):
            await runtime.stop_container(container, 0)
        for call in (runtime.stop_pod_sandbox, runtime.remove_pod_sandbox):
            with pytest.raises(CRIError, match=r"the processes of pod default/pod do not end") as caught:
                await call(id)
            assert f"/proc/{stored.pid}/stack" in caught.value.hint
        assert os.path.exists(f"{runtime.store.sandboxes[id].directory}/record")
    finally:
        Path(f"{frozen}/freezer.state").write_text("THAWED")
        with anyio.fail_after(60):
            await stored.exited.wait()
        os.rmdir(frozen)
    await runtime.remove_pod_sandbox(id)
    assert os.listdir(runtime.layout.pods_dir) == []


@pytest.mark.parametrize("pid", [NamespaceMode.CONTAINER, NamespaceMode.POD, NamespaceMode.NODE])
async def test_nothing_is_left_not_even_dead(runtime: Runtime, pid: NamespaceMode) -> None:
    """Who inherits orphans is told of none: the pid 1 of a container, where CI runs, often reaps nobody."""
    set_child_subreaper()
    try:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime, pid=pid))
        script = "trap '' TERM; (setsid sleep 1000 & sleep 1000 &) ; echo ready; sleep 1000"
        options = NamespaceOption(pid=pid)
        container = await start(runtime, id, container_config(["/bin/sh", "-c", script], namespace_options=options))
        await _said(runtime, container, "ready")
        execs = [
            await runtime.exec(container, ["/bin/sh", "-c", script], tty=tty, stdin=False, stdout=True, stderr=False)
            for tty in (False, True)
        ]
        before = children()
        await runtime.remove_pod_sandbox(id)
        for each in execs:
            assert await each.wait() == 128 + signal.SIGKILL
            await each.aclose()
        assert children() - before == set()
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


async def test_many_pods_leave_no_descriptors(runtime: Runtime) -> None:
    async def one() -> None:
        assert (await sh(runtime, "true")).code == 0

    await one()
    await to_thread.run_sync(runtime.trash.wait)
    before = fd_count()
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(one)
    await to_thread.run_sync(runtime.trash.wait)
    assert fd_count() == before


async def test_cancelled_half_way_nothing_is_left(runtime: Runtime) -> None:
    await sh(runtime, "true")
    before = fd_count()
    for ms in (0, 1, 2, 3, 5, 8, 13, 21):
        with anyio.move_on_after(ms / 1000):
            await sh(runtime, "sleep 1000")
        # `sh` could not remove what it had finished making: it was cancelled.
        for id in list(runtime.store.sandboxes):
            await runtime.remove_pod_sandbox(id)
    assert os.listdir(runtime.layout.pods_dir) == []
    assert os.listdir(runtime.layout.netns_dir) == []
    assert os.listdir(runtime.layout.containers_dir) == []
    with anyio.fail_after(60):
        while fd_count() > before or list(processes_titled("podlite: shim default/pod")):
            await anyio.sleep(0.01)


async def test_who_could_change_the_directory_of_cgroups_has_one_of_its_own(runtime: Runtime) -> None:
    """On v1 it is a directory for nothing but mount points, which containers share that cannot write to it."""
    if runtime.cgroups is None or runtime.cgroups.describe() == "v2":
        pytest.skip("on v2 a container's own cgroup is mounted on /sys/fs/cgroup")
    config = sandbox_config(runtime)
    id = await runtime.run_pod_sandbox(config)
    look = "ls /sys/fs/cgroup; ls /sys/fs/cgroup/memory | grep -c memory.limit_in_bytes; mkdir /sys/fs/cgroup/mine"
    before = await run(runtime, id, container_config(["/bin/sh", "-c", look], "before"))
    assert before.stdout.split()[-1] == "1"
    assert {"cpu", "memory", "pids"} <= set(before.stdout.split())
    assert "Read-only file system" in before.stderr
    change = "mount -o remount,rw /sys/fs/cgroup; mkdir /sys/fs/cgroup/mine && sleep 1000"
    mighty = container_config(
        ["/bin/sh", "-c", change], "mighty", capabilities=Capability(add_capabilities=["SYS_ADMIN"])
    )
    container = await start(runtime, id, mighty)
    with anyio.fail_after(30):
        while (await runtime.exec_sync(container, ["ls", "-d", "/sys/fs/cgroup/mine"])).exit_code:
            await anyio.sleep(0.01)
    after = await run(runtime, id, container_config(["/bin/sh", "-c", look], "after"))
    assert (after.stdout, after.stderr) == (before.stdout, before.stderr)
    await runtime.stop_pod_sandbox(id)
    await runtime.remove_pod_sandbox(id)
