"""podlite's own workloads, on one node that all of them share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import to_thread

from podlite.agent.node import NodeOptions, open_node
from podlite.bench.plan import HOST_NETWORK, SAME_CNI
from podlite.bench.workload import Workload

if TYPE_CHECKING:
    from podlite.agent.node import LocalNode

# How many threads make namespaces: one waits in umount(2) for a grace period of RCU, and the others have the CPUs. On
# two CPUs at a concurrency of 4 a fourth makes a twentieth fewer of them.
NAMESPACE_THREADS = 3


@asynccontextmanager
async def open_ours(options: NodeOptions) -> AsyncIterator[LocalNode]:
    """The node, with the embedded image ready: nobody measures how it is made."""
    from podlite.runtime.image.store import EMBEDDED_NAME

    async with open_node(options) as node:
        await to_thread.run_sync(node.runtime.image_store.acquire, EMBEDDED_NAME, "bench")
        try:
            yield node
        finally:
            await to_thread.run_sync(node.runtime.image_store.release, "bench")


@asynccontextmanager
async def open_workload(node: LocalNode, scenario: str, variant: str, threads: int) -> AsyncIterator[Workload]:
    """One scenario of podlite's. `threads` is for the floor, in the open loop."""
    runtime = node.runtime
    host_network = variant == HOST_NETWORK
    if scenario == "floor":
        from podlite.bench.scenarios.floor import Floor

        floor = Floor(runtime.layout.netns_dir, threads)
        try:
            yield floor
        finally:
            await to_thread.run_sync(floor.close)
    elif scenario == "netns":
        from podlite.bench.scenarios.netns import Netns

        yield Netns(runtime)
    elif scenario == "sandbox":
        from podlite.bench.scenarios.sandbox import Sandboxes

        yield Sandboxes(runtime, host_network=host_network, network="cni" if variant == SAME_CNI else "")
    elif scenario == "pod":
        from podlite.bench.scenarios.pod import Pods

        yield Pods(node.kubelet, host_network=host_network, network="cni" if variant == SAME_CNI else "")
    elif scenario == "exec":
        from podlite.bench.scenarios.containers import open_exec

        async with open_exec(runtime) as workload:
            yield workload
    else:
        from podlite.bench.scenarios.containers import open_restart

        async with open_restart(runtime) as workload:
            yield workload
