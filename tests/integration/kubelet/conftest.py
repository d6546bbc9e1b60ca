from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.types import KubeletConfig
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime

# Of the tests' own: a podlite that somebody uses on this machine has others.
POD_CIDRS = ("10.199.0.0/16", "fd85:77::/64")


@pytest.fixture
async def kubelet(runtime: Runtime) -> AsyncIterator[Kubelet]:
    """A kubelet on podlite's own runtime, whose pods have loopback only; what a test leaves running is removed."""
    async with open_kubelet(runtime) as opened:
        yield opened


@pytest.fixture
async def networked(layout: Layout, anyio_backend: str) -> AsyncIterator[Kubelet]:
    """A kubelet whose pods have addresses, by the built-in network."""
    from podlite.runtime.network.builtin import BuiltinNetwork

    network = BuiltinNetwork(layout.run_dir, POD_CIDRS)
    async with Runtime(layout, network=network) as runtime, open_kubelet(runtime) as opened:
        yield opened


@asynccontextmanager
async def open_kubelet(runtime: Runtime) -> AsyncIterator[Kubelet]:
    layout = runtime.layout
    config = KubeletConfig(
        node_name="node-1",
        run_dir=layout.run_dir,
        state_dir=layout.state_dir,
        log_dir=layout.log_dir,
        cgroup_root=layout.cgroup_root,
        sync_error_back_off=0.2,
        container_back_off=0.2,
    )
    async with Kubelet(runtime, runtime.images, config) as opened:
        yield opened
        uids = [each.metadata.uid for each in opened.pods()]
        for uid in uids:
            await opened.delete_pod(uid, 0)
        for uid in uids:
            await opened.wait_removed(uid)
