"""The server itself: cancelled and vanished clients, many of them, restarts."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import grpc
import pytest

from podlite import steps
from podlite.errors import UsageError
from podlite.rpc.server import serve
from podlite.rpc.streaming.server import StreamingServer
from podlite.rpc.wire import runtime_pb2 as wire
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.conformance.test_conformance_runtime import code_of
from tests.support.containers import fd_count
from tests.support.cri_wire import Client, pod_config
from tests.support.leaks import processes_titled

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def test_the_socket_is_roots_alone(client: Client, socket_path: str) -> None:
    """Whoever can connect makes privileged containers."""
    assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600


async def test_a_second_server_is_refused_and_a_dead_ones_socket_replaced(
    runtime: Runtime, streaming: StreamingServer, client: Client, socket_path: str
) -> None:
    with pytest.raises(UsageError, match="somebody serves"):
        async with serve(runtime, runtime.images, socket_path, streaming):
            pass
    await client.Version()
    dead = f"{socket_path}.dead"
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(dead)
    async with serve(runtime, runtime.images, dead, streaming):
        other = Client(dead)
        await other.Version()
        await other.close()
    assert not os.path.exists(dead)


@pytest.mark.parametrize("path", ["relative.sock", "tcp://127.0.0.1:1", "unix:///" + "x" * 120])
async def test_addresses_that_are_none(runtime: Runtime, streaming: StreamingServer, path: str) -> None:
    with pytest.raises(UsageError):
        async with serve(runtime, runtime.images, path, streaming):
            pass


@pytest.mark.parametrize("step", ["netns.create", "sandbox.files", "sandbox.confirm"])
async def test_a_cancelled_call_takes_back_what_it_began(
    client: Client, layout: Layout, runtime: Runtime, step: str
) -> None:
    """The client gives up while the sandbox is being made: a kubelet whose deadline is over."""
    # What is opened once, by the first sandbox and the first call, is there already.
    first, _ = await client.sandbox(layout)
    await client.RemovePodSandbox(pod_sandbox_id=first)
    before = fd_count()
    steps.inject(step, "1*delay(0.3)")
    try:
        code, _ = await code_of(client.RunPodSandbox(within=0.1, config=pod_config(layout)))
    finally:
        steps.clear_faults()
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    with anyio.fail_after(60):
        while os.listdir(layout.pods_dir) or os.listdir(layout.netns_dir) or fd_count() > before:
            await anyio.sleep(0.01)
    assert not (await client.ListPodSandbox()).items
    assert not list(processes_titled("podlite: shim conformance/"))
    # The same pod can be made now.
    await client.sandbox(layout)


async def test_an_exec_sync_ends_with_its_caller(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    code, _ = await code_of(client.ExecSync(within=0.5, container_id=id, cmd=["/bin/sleep", "2000"]))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    with anyio.fail_after(60):
        while (await client.ExecSync(container_id=id, cmd=["pgrep", "-cx", "sleep"])).stdout != b"1\n":
            await anyio.sleep(0.01)


async def test_two_hundred_clients_at_once(client: Client, layout: Layout, socket_path: str) -> None:
    """None fails, and one with a long call does not hold up the others."""
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    answered: list[int] = []
    clients = [Client(socket_path) for _ in range(200)]
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_hang, client, id, tasks.cancel_scope)

            async def ask(number: int, each: Client) -> None:
                for _ in range(3):
                    assert (await each.PodSandboxStatus(pod_sandbox_id=sandbox)).status.id == sandbox
                    assert (await each.ContainerStatus(container_id=id)).status.id == id
                if number % 10 == 0:
                    assert (await each.ExecSync(container_id=id, cmd=["true"])).exit_code == 0
                answered.append(number)

            async with anyio.create_task_group() as asking:
                for number, each in enumerate(clients):
                    asking.start_soon(ask, number, each)
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            for each in clients:
                await each.close()
    assert sorted(answered) == list(range(200))


async def _hang(client: Client, container: str, scope: anyio.CancelScope) -> None:
    await client.ExecSync(container_id=container, cmd=["/bin/sleep", "1000"])


async def test_sandboxes_are_made_side_by_side(client: Client, layout: Layout, runtime: Runtime) -> None:
    """A hundred at concurrency 16, each with a container: no failed call, and nothing is left."""
    limiter = anyio.CapacityLimiter(16)
    done: list[int] = []

    async def one(number: int) -> None:
        async with limiter:
            sandbox, config = await client.sandbox(layout, f"pod{number}")
            id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
            await client.StopContainer(container_id=id, timeout=0)
            await client.RemoveContainer(container_id=id)
            await client.StopPodSandbox(pod_sandbox_id=sandbox)
            await client.RemovePodSandbox(pod_sandbox_id=sandbox)
            done.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(one, number)
    assert sorted(done) == list(range(100))
    assert (await client.ListPodSandbox()).items == (await client.ListContainers()).containers == []
    assert os.listdir(layout.pods_dir) == os.listdir(layout.netns_dir) == os.listdir(layout.containers_dir) == []


async def test_the_servers_end_is_told(runtime: Runtime, streaming: StreamingServer, layout: Layout) -> None:
    """Streams of events end, and what is under way is cancelled once its grace is over."""
    path = f"{layout.run_dir}/ending.sock"
    ended: list[grpc.StatusCode] = []
    async with anyio.create_task_group() as tasks:
        async with serve(runtime, runtime.images, path, streaming):
            client = Client(path)
            events = client.GetContainerEvents(within=None)
            await events.wait_for_connection()

            async def read() -> None:
                async for _ in events:
                    pass
                ended.append(await events.code())

            tasks.start_soon(read)
        with anyio.fail_after(60):
            while not ended:
                await anyio.sleep(0.01)
        await client.close()
    assert ended == [grpc.StatusCode.OK]


# --- podlite cri, as a process --------------------------------------------------------------------


@contextmanager
def server(layout: Layout, path: str) -> Iterator[subprocess.Popen[str]]:
    """`podlite cri`, once its socket is there. It ends in good order with the block: the cgroup that it has for every
    server's containers (/podlite in the hierarchies of v1 that are not the pods') goes with the last one."""
    arguments = [f"--{name}={getattr(layout, name.replace('-', '_'))}" for name in ("run-dir", "state-dir", "log-dir")]
    arguments += [f"--netns-dir={layout.netns_dir}", f"--cgroup-root={layout.cgroup_root}", "--network=none"]
    process = subprocess.Popen(
        [sys.executable, "-m", "podlite", "cri", f"--listen=unix://{path}", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "CRI v1 is served" in line:
                break
        yield process
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_pods_outlive_the_server(layout: Layout, number: signal.Signals) -> None:
    """However it ends, the next one has the same sandboxes and containers, and the same processes run in them."""
    path = f"{layout.run_dir}/cri.sock"
    with server(layout, path) as first:
        client = Client(path)
        sandbox, config = await client.sandbox(layout)
        script = "trap 'exit 5' TERM; echo running; while :; do sleep 0.01; done"
        id = await client.container(sandbox, config, ["/bin/sh", "-c", script])
        before = (await client.ContainerStatus(container_id=id)).status
        first.send_signal(number)
        await anyio.to_thread.run_sync(first.wait)
        await client.close()
    with server(layout, path):
        client = Client(path)
        assert (await client.PodSandboxStatus(pod_sandbox_id=sandbox)).status.state == wire.SANDBOX_READY
        assert (await client.ContainerStatus(container_id=id)).status == before
        assert (await client.ExecSync(container_id=id, cmd=["echo", "here"])).stdout == b"here\n"
        code, _ = await code_of(client.RunPodSandbox(config=config))
        assert code == grpc.StatusCode.ALREADY_EXISTS
        await client.StopContainer(container_id=id, timeout=60)
        assert (await client.ContainerStatus(container_id=id)).status.exit_code == 5
        await client.RemovePodSandbox(pod_sandbox_id=sandbox)
        assert not (await client.ListPodSandbox()).items
        await client.close()
