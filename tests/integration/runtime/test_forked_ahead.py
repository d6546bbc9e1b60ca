"""A container's first process is forked when it is created: it becomes the container's at the start, or it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from podlite import steps
from podlite.cri.errors import CRIError, NotFoundError, StartError
from podlite.cri.types import (
    ContainerFilter,
    ContainerState,
    LinuxContainerResources,
    Mount,
    NamespaceMode,
    NamespaceOption,
)
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.integration.runtime.test_adopt import dead, successor, victim
from tests.support.containers import container_config, finished, read_log, sandbox_config
from tests.support.stopped import children, state

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def create(runtime: Runtime, command: list[str], **fields: object) -> tuple[str, str]:
    """A sandbox and a container in it that is not started."""
    config = sandbox_config(runtime)
    sandbox = await runtime.run_pod_sandbox(config)
    return sandbox, await runtime.create_container(sandbox, container_config(command, **fields), config)


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")


async def waiting(runtime: Runtime, container: str) -> int:
    """The process that waits for the container's start, or is about to."""
    shim = runtime.store.containers[container].sandbox.shim
    assert shim is not None
    return await waiting_below(shim.pid)


async def waiting_below(shim: int) -> int:
    with anyio.fail_after(60):
        while True:
            for pid in children(shim):
                if title(pid).startswith("podlite: created"):
                    return pid
            await anyio.sleep(0.01)


async def test_it_becomes_the_containers_first_process(runtime: Runtime) -> None:
    _, container = await create(runtime, ["/bin/sh", "-c", "echo $$; echo err >&2; exit 3"])
    pid = await waiting(runtime, container)
    await runtime.start_container(container)
    assert runtime.store.containers[container].pid == pid
    await finished(runtime, container)
    assert (await runtime.container_status(container)).exit_code == 3
    assert read_log(runtime.store.containers[container].log_path) == {"stdout": b"1\n", "stderr": b"err\n"}


async def test_it_is_in_the_containers_cgroup_and_no_running_container(runtime: Runtime) -> None:
    sandbox, container = await create(runtime, ["/bin/true"])
    pid = await waiting(runtime, container)
    assert runtime.cgroups is not None
    assert runtime.cgroups.processes(runtime.store.containers[container].cgroup) == [pid]
    assert (await runtime.container_status(container)).state == ContainerState.CONTAINER_CREATED
    assert await runtime.list_container_stats() == []
    stats = await runtime.pod_sandbox_stats(sandbox)
    assert stats.linux is not None
    assert stats.linux.containers == []
    running = ContainerFilter(state=ContainerState.CONTAINER_RUNNING)
    assert await runtime.list_containers(running) == []


async def test_nobody_but_root_may_look_into_it(runtime: Runtime) -> None:
    _, container = await create(runtime, ["/bin/true"], run_as_user=1000)
    pid = await waiting(runtime, container)
    # Of a process that is not dumpable the files in /proc belong to root (proc(5)), who it is at that time anyway;
    # ptrace(2) asks for CAP_SYS_PTRACE in the user namespace of the host then, and one without it is told EACCES.
    reader = os.fork()
    if reader == 0:
        try:
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 7


def sockets(pid: int) -> int:
    directory = f"/proc/{pid}/fd"
    return sum(os.readlink(f"{directory}/{fd}").startswith("socket:") for fd in os.listdir(directory))


async def test_nothing_of_the_shims_is_open_in_it(runtime: Runtime) -> None:
    _, container = await create(runtime, ["/bin/true"])
    pid = await waiting(runtime, container)
    with anyio.fail_after(60):
        while sockets(pid) > 1:  # its channel
            await anyio.sleep(0.01)


async def test_a_container_that_is_never_started(runtime: Runtime) -> None:
    sandbox, container = await create(runtime, ["/bin/true"])
    pid = await waiting(runtime, container)
    cgroup = runtime.store.containers[container].cgroup
    await runtime.remove_container(container)
    await dead(pid)
    assert runtime.cgroups is not None
    assert not runtime.cgroups.exists(cgroup)
    # And the name is free for the next one.
    config = runtime.store.sandboxes[sandbox].config
    other = await runtime.create_container(sandbox, container_config(["/bin/true"]), config)
    assert await waiting(runtime, other) != pid


async def test_it_ends_with_the_sandbox(runtime: Runtime) -> None:
    sandbox, container = await create(runtime, ["/bin/true"])
    pid = await waiting(runtime, container)
    await runtime.stop_pod_sandbox(sandbox)
    assert state(pid) == ""  # reaped by the shim
    await runtime.remove_pod_sandbox(sandbox)
    assert os.listdir(runtime.layout.containers_dir) == []


async def test_it_ends_with_its_shim(runtime: Runtime) -> None:
    _, container = await create(runtime, ["/bin/true"])
    pid = await waiting(runtime, container)
    shim = runtime.store.containers[container].sandbox.shim
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)
    await dead(pid)


@pytest.mark.parametrize("moment", ["long before", "just before"])
async def test_one_that_was_killed_is_forked_anew(runtime: Runtime, moment: str) -> None:
    _, container = await create(runtime, ["/bin/true"])
    pid = await waiting(runtime, container)
    os.kill(pid, signal.SIGKILL)
    if moment == "long before":
        with anyio.fail_after(60):
            while state(pid):
                await anyio.sleep(0.01)
    else:
        await dead(pid)
    await runtime.start_container(container)
    assert runtime.store.containers[container].pid != pid
    await finished(runtime, container)
    assert (await runtime.container_status(container)).exit_code == 0


async def test_a_start_that_says_otherwise_gets_another_one(runtime: Runtime) -> None:
    _, container = await create(runtime, ["/bin/sleep", "1000"])
    pid = await waiting(runtime, container)
    resources = runtime.store.containers[container].resources
    assert resources is not None
    resources.oom_score_adj = 977  # higher than any that is inherited, so it may be set
    await runtime.start_container(container)
    started = runtime.store.containers[container].pid
    assert started != pid
    assert Path(f"/proc/{started}/oom_score_adj").read_text() == "977\n"
    await dead(pid)


async def test_a_start_that_cannot_be_prepared_leaves_none(runtime: Runtime) -> None:
    gone = Path(runtime.layout.state_dir) / "gone"
    (gone / "sub").mkdir(parents=True)
    _, container = await create(
        runtime, ["/bin/true"], mounts=[Mount(host_path=str(gone / "sub"), container_path="/mnt", readonly=True)]
    )
    pid = await waiting(runtime, container)
    (gone / "sub").rmdir()
    gone.rmdir()
    gone.touch()
    with pytest.raises(CRIError, match="Not a directory"):
        await runtime.start_container(container)
    await dead(pid)


async def test_a_creation_that_fails_leaves_none(runtime: Runtime) -> None:
    config = sandbox_config(runtime)
    sandbox = await runtime.run_pod_sandbox(config)
    with pytest.raises(NotFoundError):
        await runtime.create_container(sandbox, container_config(["true"], image="no.such/image:1"), config)
    shim = runtime.store.sandboxes[sandbox].shim
    assert shim is not None
    with anyio.fail_after(60):
        while children(shim.pid):
            await anyio.sleep(0.01)


async def test_what_goes_wrong_is_told_by_the_start(
    layout: Layout, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was, with the same words, when the start forked."""
    monkeypatch.setenv(steps.FAULTS_VARIABLE, "container.fork=error(EMFILE)")
    async with Runtime(layout, network=runtime.networks) as broken:
        _, container = await create(broken, ["/bin/true"])
        with pytest.raises(StartError, match="Too many open files"):
            await broken.start_container(container)


@pytest.mark.parametrize("pid", [NamespaceMode.POD, NamespaceMode.NODE])
async def test_none_waits_where_others_could_stop_it(runtime: Runtime, pid: NamespaceMode) -> None:
    config = sandbox_config(runtime, pid=pid)
    sandbox = await runtime.run_pod_sandbox(config)
    asked = container_config(["/bin/true"], namespace_options=NamespaceOption(pid=pid))
    container = await runtime.create_container(sandbox, asked, config)
    assert not runtime.store.containers[container].ahead
    await runtime.start_container(container)
    await finished(runtime, container)
    assert (await runtime.container_status(container)).exit_code == 0


async def test_a_shim_that_knows_nothing_of_it_is_not_asked(runtime: Runtime) -> None:
    config = sandbox_config(runtime)
    sandbox = await runtime.run_pod_sandbox(config)
    shim = runtime.store.sandboxes[sandbox].shim
    assert shim is not None
    assert shim.prepares
    shim.prepares = False
    container = await runtime.create_container(sandbox, container_config(["/bin/true"]), config)
    assert not runtime.store.containers[container].ahead
    assert children(shim.pid) == []
    await runtime.start_container(container)
    await finished(runtime, container)
    assert (await runtime.container_status(container)).exit_code == 0


async def test_the_next_owner_need_not_know_of_it(layout: Layout) -> None:
    with victim(layout) as (process, (_, _, created, _, pid)):
        shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        before = await waiting_below(shim)
        process.kill()
        process.wait()
    assert state(before) not in ("", "Z")
    async with successor(layout) as runtime:
        await dead(before)
        cgroup = runtime.store.containers[created].cgroup
        assert runtime.cgroups is not None
        assert runtime.cgroups.processes(cgroup) == []
        await runtime.start_container(created)
        assert (await runtime.container_status(created)).state == ContainerState.CONTAINER_RUNNING


async def test_limits_hold_for_it(runtime: Runtime) -> None:
    _, container = await create(runtime, ["/bin/true"], resources=LinuxContainerResources(oom_score_adj=978))
    pid = await waiting(runtime, container)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "978\n"
