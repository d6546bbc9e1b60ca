from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from podlite.kubelet.kubelet import Kubelet
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.support.kubelets import open_kubelet

# Of the tests' own: a podlite that somebody uses on this machine has others.
POD_CIDRS = ("10.199.0.0/16", "fd85:77::/64")


@pytest.fixture
async def kubelet(runtime: Runtime) -> AsyncIterator[Kubelet]:
    """A kubelet on podlite's own runtime, whose pods have loopback only; what a test leaves running is removed."""
    async with open_kubelet(runtime, runtime.layout) as opened:
        yield opened


@pytest.fixture
async def networked(layout: Layout, anyio_backend: str) -> AsyncIterator[Kubelet]:
    """A kubelet whose pods have addresses, by the built-in network."""
    from podlite.runtime.network.builtin import BuiltinNetwork

    network = BuiltinNetwork(layout.run_dir, POD_CIDRS)
    async with Runtime(layout, network=network) as runtime, open_kubelet(runtime, runtime.layout) as opened:
        yield opened
