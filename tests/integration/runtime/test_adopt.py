"""A runtime takes over what another one left when it was killed: the same sandboxes, containers, processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from podlite.cri.types import ContainerState, LinuxContainerResources, PodSandboxState
from podlite.runtime import adopt
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from podlite.runtime.shim import protocol
from podlite.runtime.shim_client import connect
from podlite.runtime.store import Sandbox
from tests.support.stopped import state

pytestmark = [pytest.mark.root, pytest.mark.anyio]

VICTIM = Path(__file__).with_name("adopt_victim.py")


@contextmanager
def victim(layout: Layout, script: str = "sleep 1000", fault: str = "") -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A process with a pod; (the process, what it said). It has been killed when the block ends."""
    environment = {**os.environ, "PODLITE_FAULTS": fault, "PYTHONPATH": os.getcwd()}
    arguments = [layout.run_dir, layout.state_dir, layout.log_dir, layout.netns_dir, layout.cgroup_root, script]
    process = subprocess.Popen(
        [sys.executable, str(VICTIM), *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        yield process, json.loads(said) if said else None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@asynccontextmanager
async def successor(layout: Layout) -> AsyncIterator[Runtime]:
    """Another runtime, which has adopted; whatever it has is removed in the end."""
    async with Runtime(layout, network=NoneNetwork(), adoptable=True) as runtime:
        await runtime.adopt()
        yield runtime
        for each in list(runtime.store.sandboxes):
            await runtime.remove_pod_sandbox(each)


async def dead(pid: int) -> None:
    """Waits until a process that is nobody's child here has ended."""
    with anyio.fail_after(60):
        while state(pid) not in ("", "Z"):
            await anyio.sleep(0.01)


async def ended(runtime: Runtime, container: str) -> Any:
    with anyio.fail_after(60):
        await runtime.store.containers[container].exited.wait()
    return await runtime.container_status(container)


async def test_a_killed_runtimes_pod_goes_on(layout: Layout) -> None:
    with victim(layout, "echo before; sleep 1000") as (process, (sandbox, container, created, started_at, pid)):
        process.kill()
        process.wait()
    async with successor(layout) as runtime:
        status = await runtime.pod_sandbox_status(sandbox)
        assert (status.metadata.name, status.state) == ("victim", PodSandboxState.SANDBOX_READY)
        found = await runtime.container_status(container)
        assert (found.state, found.started_at) == (ContainerState.CONTAINER_RUNNING, started_at)
        assert runtime.store.containers[container].pid == pid
        os.kill(pid, 0)  # the very process
        assert (await runtime.exec_sync(container, ["/bin/echo", "hello"])).stdout == b"hello\n"
        assert (await runtime.container_status(created)).state == ContainerState.CONTAINER_CREATED
        await runtime.start_container(created)
        assert (await runtime.container_status(created)).state == ContainerState.CONTAINER_RUNNING
        await runtime.stop_container(container, 0)
        assert (await ended(runtime, container)).exit_code == 137
    assert os.listdir(layout.pods_dir) == []
    assert os.listdir(layout.containers_dir) == []
    assert os.listdir(layout.netns_dir) == []


async def test_limits_that_were_changed_are_known(layout: Layout) -> None:
    """A kubelet compares them with those that it wants (ContainerStatus.resources, KEP-1287)."""
    with victim(layout) as (process, (_, container, *_)):
        process.kill()
        process.wait()
    async with Runtime(layout, network=NoneNetwork(), adoptable=True) as runtime:
        await runtime.adopt()
        if runtime.cgroups is None:
            pytest.skip("limits need cgroups")
        await runtime.update_container_resources(container, LinuxContainerResources(memory_limit_in_bytes=64 << 20))
        await runtime.update_container_resources(container, LinuxContainerResources(cpu_shares=512))
    async with successor(layout) as runtime:
        resources = (await runtime.container_status(container)).resources
        assert resources is not None
        assert (resources.memory_limit_in_bytes, resources.cpu_shares) == (64 << 20, 512)


async def test_an_exit_in_between_is_known(layout: Layout) -> None:
    script = "trap 'exit 7' TERM; while :; do sleep 0.01; done"
    with victim(layout, script) as (process, (sandbox, container, _, _, pid)):
        process.kill()
        process.wait()
    with anyio.fail_after(60):
        while state(pid) not in ("", "Z"):
            os.kill(pid, signal.SIGTERM)  # until it has its trap, it is ignored
            await anyio.sleep(0.01)
    async with successor(layout) as runtime:
        status = await ended(runtime, container)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.CONTAINER_EXITED, 7, "Error")
        assert status.finished_at > status.started_at
        assert (await runtime.pod_sandbox_status(sandbox)).state == PodSandboxState.SANDBOX_READY


async def test_an_exit_during_the_adoption_is_known(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the shim reports after it has said what runs, and before the runtime knows the containers."""
    with victim(layout) as (process, (sandbox, container, _, _, pid)):
        process.kill()
        process.wait()
    loop = asyncio.get_running_loop()
    containers = adopt._containers

    def end_it_first(runtime: Runtime, taken: Sandbox, *arguments: Any) -> Any:
        os.kill(pid, signal.SIGKILL)
        shim = connect(taken.directory)
        with shim:
            told = 0
            while told != 137:
                protocol.send(shim, {"m": "status", "id": 1})
                answer = protocol.receive(shim)
                assert answer is not None
                told = next(each["code"] for each in answer[0]["containers"] if each["container"] == container)
        for _ in range(3):  # it has told its owner first, who has read it by then
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        return containers(runtime, taken, *arguments)

    monkeypatch.setattr(adopt, "_containers", end_it_first)
    async with successor(layout) as runtime:
        status = await ended(runtime, container)
        assert (status.state, status.exit_code) == (ContainerState.CONTAINER_EXITED, 137)
        assert (await runtime.pod_sandbox_status(sandbox)).state == PodSandboxState.SANDBOX_READY


async def test_a_shim_that_died_in_between(layout: Layout) -> None:
    with victim(layout) as (process, (sandbox, container, created, _, pid)):
        process.kill()
        process.wait()
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    await dead(pid)
    async with successor(layout) as runtime:
        assert (await runtime.pod_sandbox_status(sandbox)).state == PodSandboxState.SANDBOX_NOTREADY
        status = await runtime.container_status(container)
        assert (status.state, status.exit_code) == (ContainerState.CONTAINER_UNKNOWN, 137)
        assert (await runtime.container_status(created)).state == ContainerState.CONTAINER_EXITED
    assert os.listdir(layout.pods_dir) == []
    assert os.listdir(layout.containers_dir) == []


async def test_what_has_an_owner_is_not_taken(layout: Layout) -> None:
    with victim(layout) as (_, (sandbox, *_)):
        async with Runtime(layout, network=NoneNetwork(), adoptable=True) as runtime:
            assert (await runtime.adopt()).taken == []
    async with successor(layout) as runtime:
        assert list(runtime.store.sandboxes) == [sandbox]
