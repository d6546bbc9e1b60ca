"""Processes that podlite puts into a container are root of the host until they have given everything up.

From its fork on such a process can be seen from inside where the pid namespace is shared, and in every exec. It is
not dumpable (prctl(2), PR_SET_DUMPABLE), so that whoever looks into it needs CAP_SYS_PTRACE, which no container has
that did not ask for it (CVE-2016-9962 is what happened in runc without that). Faults stop it at the three
places where it matters: with the host's root directory, with all of root's capabilities in the container's root, and
as what it will be, an instant before execve.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from podlite.cri.errors import DeadlineExceededError
from podlite.cri.types import NamespaceMode
from podlite.runtime.service import Runtime
from podlite.steps import FAULTS_VARIABLE
from tests.support.containers import container_config, run, start
from tests.support.escapes import (
    LOOK_INTO,
    UIDS,
    USER,
    Canary,
    not_denied,
    pod,
    probe,
    said,
    shared_pid,
    with_capabilities,
)
from tests.support.stopped import children, let_go, state, stopped_child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.root, pytest.mark.anyio]

LOOK = (
    LOOK_INTO
    + """
def wait_for_stopped(known):
    while True:
        for pid in set(os.listdir("/proc")) - known:
            if pid.isdigit():
                try:
                    if open(f"/proc/{pid}/stat").read().rpartition(") ")[2][0] == "T":
                        return int(pid)
                except OSError:
                    pass
        time.sleep(0.002)

tell(ready=True)
tell(**look(wait_for_stopped({"1", str(os.getpid())}), CANARY))
time.sleep(1000)
"""
)


@pytest.fixture(params=["container.rootfs", "container.confine", "container.exec"])
def stopping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every process that is started stops at this step."""
    monkeypatch.setenv(FAULTS_VARIABLE, f"{request.param}=stop")
    return str(request.param)


@pytest.fixture
def stopping_at_rootfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULTS_VARIABLE, "container.rootfs=stop")


@pytest.fixture
def stopping_at_confine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULTS_VARIABLE, "container.confine=stop")


@asynccontextmanager
async def watcher(runtime: Runtime, id: str, canary: Canary, **fields: Any) -> AsyncIterator[str]:
    """A container of the pod that waits for a stopped process and looks into it."""
    source = f"CANARY = {canary.directory!r} + '/secret'\n{LOOK}"
    config = container_config(probe(source), "watcher", **fields)
    async with anyio.create_task_group() as tasks:
        if config.linux.security_context.namespace_options.pid == NamespaceMode.POD:  # type: ignore[union-attr]
            # Else it is pid 1, which cannot be stopped from inside of its namespace.
            tasks.start_soon(let_go, runtime, id)
        container = await start(runtime, id, config)
    await said(runtime, container)
    yield container


@pytest.mark.parametrize("uid", UIDS)
async def test_a_starting_container_is_closed_to_its_siblings(
    stopping: str, runtime: Runtime, canary: Canary, uid: int
) -> None:
    """For a plain user the one that starts will be the same user's, and for root also one without capabilities."""
    async with pod(runtime, pid=NamespaceMode.POD) as id:
        async with watcher(runtime, id, canary, **shared_pid(run_as_user=uid)) as container:
            async with anyio.create_task_group() as tasks:
                config = container_config(["/bin/true"], "victim", **shared_pid(run_as_user=uid))
                tasks.start_soon(run, runtime, id, config)
                await stopped_child(runtime, id)
                found = (await said(runtime, container, 2))[1]
                await let_go(runtime, id)
    assert not_denied(found) == {}


@pytest.mark.parametrize("uid", UIDS)
async def test_an_exec_is_closed_to_the_container(stopping: str, runtime: Runtime, canary: Canary, uid: int) -> None:
    if stopping == "container.rootfs":
        pytest.skip("an exec has no root of its own to set up")
    async with pod(runtime) as id, watcher(runtime, id, canary, run_as_user=uid) as container:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.exec_sync, container, ["/bin/true"])
            await stopped_child(runtime, id)
            found = (await said(runtime, container, 2))[1]
            await let_go(runtime, id)
    assert not_denied(found) == {}


async def test_what_cap_sys_ptrace_in_a_shared_pid_namespace_amounts_to(
    stopping_at_rootfs: None, runtime: Runtime, canary: Canary
) -> None:
    """It amounts to root on the host, for as long as the pod has no user namespace of its own.

    A process that starts in the shared pid namespace is the host's root, with the host's files, for one or two
    milliseconds, and CAP_SYS_PTRACE is the right to look into it and to control it. The same holds for every
    runtime that starts a container's process with root's rights (runc's, too: it says so of its exec).
    Kubernetes' Baseline policy therefore forbids the capability; here it is to be known, not to be relied upon.
    """
    fields = shared_pid(capabilities=with_capabilities("SYS_PTRACE"))
    async with pod(runtime, pid=NamespaceMode.POD) as id, watcher(runtime, id, canary, **fields) as container:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, runtime, id, container_config(["/bin/true"], "victim", **shared_pid()))
            await stopped_child(runtime, id)
            found = (await said(runtime, container, 2))[1]
            # Its tracer must go before it can.
            await runtime.stop_container(container, 0)
            await let_go(runtime, id)
    assert found["canary by root"] == "ok"
    assert found["PTRACE_SEIZE"] == 0


async def test_what_cap_sys_ptrace_sees_of_an_exec(stopping_at_confine: None, runtime: Runtime, canary: Canary) -> None:
    """The host's files are out of sight by then: an exec begins in the container's own root. Its capabilities are
    still all of root's, which comes to the same for somebody who may control the process."""
    async with pod(runtime) as id:
        fields = {"capabilities": with_capabilities("SYS_PTRACE")}
        async with watcher(runtime, id, canary, **fields) as container, anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.exec_sync, container, ["/bin/true"])
            await stopped_child(runtime, id)
            found = (await said(runtime, container, 2))[1]
            await runtime.stop_container(container, 0)
    assert found["canary by root"] == "ENOENT"
    assert found["PTRACE_SEIZE"] == 0


async def test_containers_that_start_in_a_row_are_watched_in_vain(runtime: Runtime, canary: Canary) -> None:
    """The same without faults: one container spins over /proc while others start and end."""
    layout = runtime.layout
    of_the_host = (os.path.realpath(sys.executable), layout.run_dir, layout.state_dir, layout.log_dir)
    source = f"""
    CANARY = {canary.directory!r} + "/secret"
    tell(ready=True)
    seen, hits = set(), []
    while not os.path.exists("/tmp/stop"):
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or pid == str(os.getpid()):
                continue
            at = "/proc/" + pid
            try:
                title = open(at + "/comm").read().strip()
            except OSError:
                continue
            seen.add(title)
            for path in (at + "/root" + CANARY, at + "/cwd" + CANARY):
                if os.path.exists(path):
                    hits.append([title, path])
            for link in ["exe", "cwd", "root"] + ["fd/%d" % each for each in range(3, 20)]:
                try:
                    target = os.readlink(at + "/" + link)
                except OSError:
                    continue
                if target.startswith({of_the_host!r}):
                    hits.append([title, link, target])
    tell(seen=sorted(seen), hits=hits[:20])
    """
    for uid in UIDS:
        async with pod(runtime, pid=NamespaceMode.POD) as id:
            config = container_config(probe(source), "watcher", **shared_pid(run_as_user=uid))
            container = await start(runtime, id, config)
            await said(runtime, container)
            for attempt in range(40):
                config = container_config(["/bin/true"], "victim", attempt=attempt, **shared_pid(run_as_user=uid))
                assert (await run(runtime, id, config)).code == 0
            pid = runtime.store.containers[container].pid
            with open(f"/proc/{pid}/root/tmp/stop", "w"):
                pass
            found = (await said(runtime, container, 2))[1]
            assert found["hits"] == []
            # It did see them: pid 1 of the pod, and processes on their way.
            assert "podlite: pause" in found["seen"]


@pytest.mark.parametrize("uid", UIDS)
async def test_pid_one_of_a_shared_pid_namespace_has_nothing(runtime: Runtime, canary: Canary, uid: int) -> None:
    source = f"CANARY = {canary.directory!r} + '/secret'\n{LOOK_INTO}\ntell(**look(1, CANARY))"
    async with pod(runtime, pid=NamespaceMode.POD) as id:
        config = container_config(probe(source), "looker", **shared_pid(run_as_user=uid))
        container = await start(runtime, id, config)
        assert not_denied((await said(runtime, container))[0]) == {}


async def test_pid_one_of_a_shared_pid_namespace_to_cap_sys_ptrace(runtime: Runtime, canary: Canary) -> None:
    """Who may look into it finds an empty root that cannot be written to, and an interpreter likewise."""
    source = f"""
    names = sorted(os.listdir("/proc/1/root"))
    tell(
        root=names,
        write=opened("/proc/1/root/new", os.O_WRONLY | os.O_CREAT),
        canary=attempt(os.stat, "/proc/1/root{canary.directory}"),
        exe=opened("/proc/1/exe", os.O_WRONLY),
        fds=os.listdir("/proc/1/fd"),
        mounts=len(open("/proc/1/mountinfo").readlines()),
        capabilities=[status(each, 1) for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        no_new_privs=status("NoNewPrivs", 1),
        uid=status("Uid", 1),
    )
    """
    async with pod(runtime, pid=NamespaceMode.POD) as id:
        config = container_config(probe(source), "looker", **shared_pid(capabilities=with_capabilities("SYS_PTRACE")))
        container = await start(runtime, id, config)
        found = (await said(runtime, container))[0]
    assert found["root"] == []
    assert (found["write"], found["canary"]) == ("EROFS", "ENOENT")
    # ETXTBSY comes before EROFS as long as it runs, which it does as long as this can be asked.
    assert found["exe"] == "ETXTBSY"
    assert found["fds"] == []
    assert found["mounts"] == 1
    assert set(found["capabilities"]) == {"0" * 16}
    assert found["no_new_privs"] == "1"
    assert found["uid"].split() == ["65535"] * 4


async def test_a_signal_to_an_exec_on_its_way_does_not_end_the_pod(runtime: Runtime) -> None:
    """Until it resets its handlers the forked child has the shim's, which write to a descriptor that both share:
    SIGTERM from inside, sent early enough, was taken by the shim for its own and ended the whole pod."""
    source = """
    tell(ready=True)
    own = {1, os.getpid()}
    while True:
        # Not what /proc lists, which would be late: the pid that comes next.
        last = int(open("/proc/loadavg").read().split()[-1])
        for pid in range(last, last + 4):
            if pid not in own:
                try:
                    os.kill(pid, signal.SIGTERM)
                except OSError:
                    pass
    """
    async with pod(runtime) as id:
        other = await start(runtime, id, container_config(["/bin/sleep", "1000"], "other"))
        hostile = await start(runtime, id, container_config(probe(source), "hostile"))
        await said(runtime, hostile)
        for _ in range(150):
            with anyio.move_on_after(10):
                result = await runtime.exec_sync(hostile, ["/bin/true"])
                assert result.exit_code in (0, 143)
        assert runtime.store.sandboxes[id].ready
        assert not runtime.store.containers[other].exited.is_set()


async def test_an_exec_that_is_stopped_from_inside_keeps_nobody_waiting(
    stopping_at_confine: None, runtime: Runtime
) -> None:
    """Root in a container may stop what enters it; the timeout of a probe counts all the same."""
    async with pod(runtime) as id:
        container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
        with anyio.fail_after(60), pytest.raises(DeadlineExceededError):
            await runtime.exec_sync(container, ["/bin/true"], timeout=0.5)
        # And nothing is left of it.
        shim = runtime.store.sandboxes[id].shim
        assert shim is not None
        with anyio.fail_after(60):
            while [pid for pid in children(shim.pid) if state(pid) == "T"]:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
async def test_signals_from_inside_do_not_reach_pid_one(runtime: Runtime, signum: int) -> None:
    """A plain user must not end the pod by ending pid 1 of its pid namespace; root may, as of any process it sees."""
    source = f"tell(kill=attempt(os.kill, 1, {int(signum)}))"
    async with pod(runtime, pid=NamespaceMode.POD) as id:
        config = container_config(probe(source), "looker", **shared_pid(run_as_user=USER))
        container = await start(runtime, id, config)
        assert (await said(runtime, container))[0] == {"kill": "EPERM"}
        assert os.path.exists(f"/proc/{runtime.store.sandboxes[id].shim.pid}")  # type: ignore[union-attr]
