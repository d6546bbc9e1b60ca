"""cri: any CRI v1 endpoint, `--vs cri:unix:///run/containerd/containerd.sock`, by podlite's own client of it.

The calls are a kubelet's, on one connection; the endpoint's daemon must be running. Containers need an image that the
runtime has (`--peer-image`) with /bin/true and /bin/sleep in it; without one only sandboxes are compared.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from podlite.bench.peers import Context
from podlite.bench.plan import HOST_NETWORK, SAME_CNI
from podlite.bench.scenarios.containers import SLEEP, TRUE, container_config
from podlite.bench.scenarios.sandbox import new_config
from podlite.bench.workload import OperationFailedError, PeerMissingError, Workload
from podlite.cri.types import ContainerState, PodSandboxConfig

if TYPE_CHECKING:
    from podlite.rpc.client import RemoteRuntime

# How often a container's end is asked for: CRI's events are optional, and containerd 1.6 has none.
_POLL_SECONDS = 0.002


class Cri:
    """`impl` is the socket's name: containerd, crio."""

    def __init__(self, endpoint: str, context: Context) -> None:
        self._endpoint = endpoint
        self._image = context.image
        self.impl = os.path.basename(endpoint).removesuffix(".sock") or "cri"
        self.note = f"{self.impl}: over gRPC at {endpoint}, with its own CNI network and pause container"
        sandboxes = [("sandbox", ""), ("sandbox", HOST_NETWORK)]
        sandboxes += [("sandbox", SAME_CNI)] if context.own_cni else []
        containers = [("pod", ""), ("pod", HOST_NETWORK), ("exec", ""), ("restart", "")]
        containers += [("pod", SAME_CNI)] if context.own_cni else []
        self.work = (*sandboxes, *(containers if context.image else ()))
        if not context.image:
            self.note += "; sandboxes only, for there is no --peer-image"

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[Workload]:
        from podlite.rpc.client import RemoteRuntime

        async with RemoteRuntime(self._endpoint) as runtime:
            await runtime.version()
            host_network = variant == HOST_NETWORK
            if scenario == "sandbox":
                yield Sandboxes(runtime, host_network=host_network)
            elif scenario == "pod":
                yield Pods(runtime, self._image, host_network=host_network)
            else:
                async with _open_containers(runtime, self._image, scenario) as workload:
                    yield workload


class Sandboxes:
    """RunPodSandbox; StopPodSandbox and RemovePodSandbox."""

    def __init__(self, runtime: RemoteRuntime, *, host_network: bool) -> None:
        self.runtime = runtime
        self._host_network = host_network

    def config(self) -> PodSandboxConfig:
        return new_config("", host_network=self._host_network)

    async def create(self) -> str:
        return await self.run(self.config())

    async def run(self, config: PodSandboxConfig) -> str:
        # To its end, whatever happens: what a cancelled call has made nobody would know the id of.
        made: list[str] = []
        with anyio.CancelScope(shield=True):
            made.append(await self.runtime.run_pod_sandbox(config))
        return made[0]

    async def teardown(self, id: Any) -> None:
        await self.runtime.stop_pod_sandbox(id)
        await self.runtime.remove_pod_sandbox(id)


class Pods:
    """A one-shot pod, call by call as a kubelet does it; the sandbox is stopped as soon as the pod is over."""

    def __init__(self, runtime: RemoteRuntime, image: str, *, host_network: bool) -> None:
        self._sandboxes = Sandboxes(runtime, host_network=host_network)
        self._runtime = runtime
        self._image = image

    async def create(self) -> str:
        config = self._sandboxes.config()
        id = await self._sandboxes.run(config)
        try:
            await self._run(id, config)
            await self._runtime.stop_pod_sandbox(id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.teardown(id)
            raise
        return id

    async def _run(self, id: str, config: PodSandboxConfig) -> None:
        container = await self._runtime.create_container(id, container_config("main", TRUE, self._image), config)
        await self._runtime.start_container(container)
        while True:
            status = await self._runtime.container_status(container)
            if status.state == ContainerState.CONTAINER_EXITED:
                break
            await anyio.sleep(_POLL_SECONDS)
        if status.exit_code:
            raise OperationFailedError(f"/bin/true ended with exit code {status.exit_code}")

    async def teardown(self, id: Any) -> None:
        await self._sandboxes.teardown(id)


class Restart:
    """Create- and StartContainer; Stop- and RemoveContainer."""

    def __init__(self, runtime: RemoteRuntime, image: str, sandbox_id: str, config: PodSandboxConfig) -> None:
        self._runtime = runtime
        self._image = image
        self._sandbox_id = sandbox_id
        self._config = config
        self._numbers = count()

    async def create(self) -> str:
        made = ""
        with anyio.CancelScope(shield=True):
            config = container_config(f"c{next(self._numbers)}", SLEEP, self._image)
            made = await self._runtime.create_container(self._sandbox_id, config, self._config)
            await self._runtime.start_container(made)
        return made

    async def teardown(self, id: Any) -> None:
        await self._runtime.stop_container(id, 0)
        await self._runtime.remove_container(id)


class Exec:
    """ExecSync of /bin/true: its end is in it, and nothing is left to tear down."""

    def __init__(self, runtime: RemoteRuntime, container_id: str) -> None:
        self._runtime = runtime
        self._container_id = container_id

    async def create(self) -> None:
        result = await self._runtime.exec_sync(self._container_id, TRUE, 30)
        if result.exit_code:
            raise OperationFailedError(f"/bin/true ended with exit code {result.exit_code}")

    async def teardown(self, handle: Any) -> None:
        pass


@asynccontextmanager
async def _open_containers(runtime: RemoteRuntime, image: str, scenario: str) -> AsyncIterator[Workload]:
    sandboxes = Sandboxes(runtime, host_network=False)
    config = sandboxes.config()
    sandbox = await sandboxes.run(config)
    try:
        restart = Restart(runtime, image, sandbox, config)
        if scenario == "restart":
            yield restart
        else:
            yield Exec(runtime, await restart.create())
    finally:
        with anyio.CancelScope(shield=True):
            await sandboxes.teardown(sandbox)


@asynccontextmanager
async def library() -> AsyncIterator[None]:
    """grpc's poller: a thread, and the descriptors by which it wakes the event loop."""
    try:
        import grpc.aio
    except ImportError:
        yield  # said by `find`
        return
    async with grpc.aio.insecure_channel("unix:/nonexistent") as channel:
        channel.get_state(try_to_connect=True)
        yield


def find(argument: str, context: Context) -> Cri:
    """Raises PeerMissingError."""
    endpoint = argument.removeprefix("unix://")
    if not endpoint.startswith("/"):
        raise PeerMissingError("it has no endpoint: --vs cri:unix:///run/containerd/containerd.sock")
    if not os.path.exists(endpoint):
        raise PeerMissingError(f"there is no socket {endpoint}: is its daemon running?")
    try:
        import grpc  # noqa: F401
    except ImportError:
        raise PeerMissingError("podlite's CRI client needs grpcio: pip install 'podlite[cri]'") from None
    return Cri(endpoint, context)
