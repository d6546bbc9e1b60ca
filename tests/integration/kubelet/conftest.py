from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.types import KubeletConfig
from podlite.runtime.service import Runtime


@pytest.fixture
async def kubelet(runtime: Runtime) -> AsyncIterator[Kubelet]:
    """A kubelet on podlite's own runtime; what a test leaves running is removed."""
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
