"""A kubelet for a test, on whatever runtime, in directories of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.types import KubeletConfig
from podlite.rpc.client import RemoteRuntime
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime


@asynccontextmanager
async def open_kubelet(
    runtime: Runtime | RemoteRuntime, layout: Layout, *, run_dir: str = ""
) -> AsyncIterator[Kubelet]:
    """It does not hesitate to try again. What a test leaves running is removed, and gone from the runtime then."""
    config = KubeletConfig(
        node_name="node-1",
        run_dir=run_dir or layout.run_dir,
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
        assert await runtime.list_pod_sandbox() == []
        assert await runtime.list_containers() == []
