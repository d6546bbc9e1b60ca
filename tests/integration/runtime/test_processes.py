"""Spawner, shim and container as processes: what each has, does not have, and what ends with what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from podlite.cri.types import NamespaceMode, NamespaceOption
from podlite.linux.syscalls import MNT_DETACH, mount, umount2
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from podlite.runtime.shim_client import ShimClient
from tests.support.agents import until
from tests.support.containers import container_config, run, sandbox_config, start
from tests.support.escapes import USER, said
from tests.support.leaks import has_ended

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def shim_of(runtime: Runtime, sandbox_id: str) -> ShimClient:
    shim = runtime.store.sandboxes[sandbox_id].shim
    assert shim is not None
    return shim


def mounts_of(pid: int) -> list[str]:
    return [line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


# --- spawner ---------------------------------------------------------------------------------------


async def test_the_spawners_mount_table_has_nothing_of_the_pods(runtime: Runtime, tmp_path: Path) -> None:
    """A container starts with a copy of it: 4.3 ms with 3,000 mounts in it (DESIGN 4)."""
    ids = [await runtime.run_pod_sandbox(sandbox_config(runtime, f"pod{number}")) for number in range(3)]
    assert len([each for each in mounts_of(os.getpid()) if each.startswith(runtime.layout.netns_dir)]) == 4
    inside = mounts_of(runtime.spawner.pid)
    assert [each for each in inside if each.startswith(runtime.layout.netns_dir)] == []
    assert mounts_of(shim_of(runtime, ids[0]).pid) == [*inside, runtime.shm_path]
    # What is mounted on the host later is none of its business either, and can be unmounted there for good.
    mount("later", str(tmp_path), "tmpfs", 0, "")
    try:
        assert str(tmp_path) not in mounts_of(runtime.spawner.pid)
    finally:
        umount2(str(tmp_path), MNT_DETACH)


async def test_spawner_and_shim_are_single_threaded_and_small(runtime: Runtime) -> None:
    """Only such a process can enter a user namespace (setns(2)), and forking it is fast."""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    await run(runtime, id, container_config(["/bin/true"]))
    for pid in (runtime.spawner.pid, shim_of(runtime, id).pid):
        assert len(os.listdir(f"/proc/{pid}/task")) == 1
        # No C extension that the spawner did not have: nothing was imported after the fork.
        maps = {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith(".so")}
        if pid == runtime.spawner.pid:
            spawner = maps
        assert maps == spawner


async def test_containers_have_all_cpus_where_the_controllers_threads_have_one(layout: Layout) -> None:
    """Those are kept together while pods are made (podlite.linux.affinity); a process begins with its parent's CPUs."""
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) < 2:
        pytest.skip("this machine has one CPU for us")
    async with Runtime(layout, network=NoneNetwork(), many=True) as runtime:
        for round in range(2):
            ids: list[str] = []

            async def another(number: int) -> None:
                ids.append(await runtime.run_pod_sandbox(sandbox_config(runtime, f"pod{round}-{number}")))  # noqa: B023

            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(another, number)
            assert len(os.sched_getaffinity(0)) == 1
            for id in ids:
                container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
                for pid in (shim_of(runtime, id).pid, runtime.store.containers[container].pid):
                    assert os.sched_getaffinity(pid) == everywhere
            # The spawner is kept off the CPU of whoever asked it last, and off no other.
            assert len(everywhere - os.sched_getaffinity(runtime.spawner.pid)) == 1
            # Its successor is started by a thread of a process that is gathered.
            os.kill(runtime.spawner.pid, signal.SIGKILL)
            while runtime.spawner.alive:
                await anyio.sleep(0.001)
        while len(os.sched_getaffinity(0)) == 1:
            await anyio.sleep(0.01)
    assert os.sched_getaffinity(0) == everywhere


def test_after_its_start_the_spawner_can_import_nothing() -> None:
    """After a change of root an import would run the image's code, as root (podlite.runtime.shim.spawner)."""
    program = (
        f"import sys; sys.path.append({os.getcwd()!r}); import podlite.runtime.shim.spawner as spawner\n"
        "spawner.protocol.use_standard_json(); spawner._warm_up()\n"
        "before = set(sys.modules); spawner._forbid_imports()\n"
        "for name in ('asyncio', 'traceback', 'shutil', 'podlite.linux.facts'):\n"
        "    try:\n        __import__(name)\n        print('imported', name)\n    except ImportError:\n        pass\n"
        "print(sorted(set(sys.modules) - before), {'asyncio', 'typing', 'subprocess', 'msgspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] set()\n"


async def test_descriptors_that_the_caller_left_open_are_not_kept(layout: Layout) -> None:
    """A lock of a script's, a pipe that somebody waits for the end of: pods live longer than that."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    async with Runtime(layout, network=NoneNetwork()) as runtime:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime))
        os.close(write)
        for pid in (runtime.spawner.pid, shim_of(runtime, id).pid):
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
        with anyio.fail_after(60):
            await anyio.wait_readable(read)
        assert os.read(read, 1) == b""
    os.close(read)


# --- shim ------------------------------------------------------------------------------------------


async def test_the_pods_namespaces_outlive_its_containers(runtime: Runtime) -> None:
    """ipc and uts are held by the shim's descriptors, net by its pin."""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, "web"))
    script = "for k in net ipc uts; do readlink /proc/self/ns/$k; done; hostname; ipcs -q | grep -c 0x"
    make = "ipcmk -Q >/dev/null; " if os.path.exists("/usr/bin/ipcmk") else ""
    first = await run(runtime, id, container_config(["/bin/sh", "-c", make + script], "a"))
    second = await run(runtime, id, container_config(["/bin/sh", "-c", script], "b"))
    assert first.stdout == second.stdout
    assert second.stdout.splitlines()[3:] == ["web", "1" if make else "0"]
    for kind, seen in zip(("net", "ipc", "uts"), second.stdout.splitlines(), strict=False):
        assert os.readlink(f"/proc/self/ns/{kind}") != seen


DAEMON = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("@" + '{"daemon": true}', flush=True)
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""


@pytest.mark.parametrize("uid", [0, USER])
@pytest.mark.parametrize("pid", [NamespaceMode.CONTAINER, NamespaceMode.POD, NamespaceMode.NODE])
async def test_everything_in_a_pod_dies_with_its_shim(runtime: Runtime, pid: NamespaceMode, uid: int) -> None:
    """PR_SET_PDEATHSIG comes after the change of user, which clears it (prctl(2)); what has daemonized and shares a pid
    namespace with others dies with its cgroup."""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, pid=pid))
    config = container_config(
        ["/usr/bin/python3", "-I", "-S", "-c", DAEMON], namespace_options=NamespaceOption(pid=pid), run_as_user=uid
    )
    container = await start(runtime, id, config)
    assert await said(runtime, container) == [{"daemon": True}]
    stored = runtime.store.containers[container]
    assert runtime.cgroups is not None
    members = runtime.cgroups.processes(stored.cgroup)
    assert len(members) >= 2
    os.kill(shim_of(runtime, id).pid, signal.SIGKILL)
    with anyio.fail_after(60):
        await stored.exited.wait()
        while not all(has_ended(each) for each in members):
            await anyio.sleep(0.01)
    await runtime.remove_pod_sandbox(id)
    assert not runtime.cgroups.exists(stored.cgroup)


async def test_a_shim_ends_when_its_controller_is_gone(layout: Layout) -> None:
    """Whose end it sees by its channel, whatever ended it. What belongs to the controller is the reaper's."""
    async with Runtime(layout, network=NoneNetwork()) as runtime:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime))
        container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
        shim, pid = shim_of(runtime, id), runtime.store.containers[container].pid
        shim_pid = shim.pid
        shim._channel.close()
        with anyio.fail_after(60):
            while not (has_ended(shim_pid) and has_ended(pid)):
                await anyio.sleep(0.01)


async def test_a_shim_that_is_asked_to_end_by_a_signal(runtime: Runtime) -> None:
    """SIGTERM, as from an administrator or at a shutdown: the containers first."""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
    stored = runtime.store.containers[container]
    os.kill(shim_of(runtime, id).pid, signal.SIGTERM)
    with anyio.fail_after(60):
        await stored.exited.wait()
        await shim_of(runtime, id).wait_gone()
    assert stored.exit_code == 137
    await runtime.remove_pod_sandbox(id)


# --- pid 1 of a shared pid namespace -----------------------------------------------------------------


async def test_pid_one_of_a_shared_pid_namespace_reaps(runtime: Runtime) -> None:
    """`shareProcessNamespace`: orphans of all containers become its children."""
    options = NamespaceOption(pid=NamespaceMode.POD)
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, pid=NamespaceMode.POD))
    orphans = "for n in 1 2 3 4 5 6 7 8; do (sh -c 'sleep 0.01' &) ; done; sleep 1000"
    container = await start(runtime, id, container_config(["/bin/sh", "-c", orphans], "a", namespace_options=options))
    other = await start(runtime, id, container_config(["/bin/sleep", "1000"], "b", namespace_options=options))

    async def processes() -> list[str]:
        result = await runtime.exec_sync(other, ["/bin/sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null"])
        return result.stdout.decode().splitlines()

    with anyio.fail_after(60):
        while True:
            lines = await processes()
            commands = [line.split("(")[1].split(")")[0] for line in lines]
            states = [line.rpartition(") ")[2].split()[0] for line in lines]
            # The two containers' sleeps, and whoever was looking: no orphan, running or dead.
            if commands.count("sleep") == 2 and "Z" not in states:
                break
            await anyio.sleep(0.01)
    assert "podlite: pause" in commands
    # It ends with the pod's other processes only, and its end is the end of all.
    pause = next(int(line.split()[0]) for line in lines if "(podlite: pause)" in line)
    assert pause == 1
    await runtime.stop_container(container, 0)
    assert "podlite: pause" in " ".join(await processes())


async def test_a_shared_pid_namespace_whose_pid_one_was_killed(runtime: Runtime) -> None:
    """From the host, by an administrator or the OOM killer: all in it die, and the next container gets a new one."""
    options = NamespaceOption(pid=NamespaceMode.POD)
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, pid=NamespaceMode.POD))
    container = await start(runtime, id, container_config(["/bin/sleep", "1000"], "a", namespace_options=options))
    stored = runtime.store.containers[container]
    shim = shim_of(runtime, id)
    children = Path(f"/proc/{shim.pid}/task/{shim.pid}/children").read_text().split()
    [pause] = [int(pid) for pid in children if int(pid) != stored.pid]
    os.kill(pause, signal.SIGKILL)
    with anyio.fail_after(60):
        await stored.exited.wait()
    assert stored.exit_code == 137
    script = ["/bin/sh", "-c", "cat /proc/1/comm"]
    again = await run(runtime, id, container_config(script, "b", namespace_options=options))
    assert again.stdout == "podlite: pause\n"


PAUSE = """
import sys
from podlite.runtime.shim.fork import Forker
from podlite.runtime.shim.pod_namespaces import start_pause
start_pause({}, [sys.argv[1]], sys.argv[2], Forker())
"""


def test_a_pause_whose_shim_ends_before_it_is_ready_ends_too(tmp_path: Path) -> None:
    """Its parent-death signal comes after its change of user, which clears it (prctl(2)): until then it has to see."""
    gate, scratch = tmp_path / "cgroup.procs", tmp_path / "scratch"
    os.mkfifo(gate)
    scratch.mkdir()
    shim = subprocess.Popen(["unshare", "--mount", sys.executable, "-c", PAUSE, str(gate), str(scratch)])
    try:
        (pause,) = until(lambda: Path(f"/proc/{shim.pid}/task/{shim.pid}/children").read_text().split())
    finally:
        shim.kill()
        shim.wait()
    assert not has_ended(int(pause))
    with gate.open("rb"):  # it waits for a reader
        until(lambda: has_ended(int(pause)))
