"""podlite as the kubelet of another runtime: containerd, CRI-O, or a podlite that serves CRI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from podlite import log
from podlite.agent.node import NodeOptions, kubelet_config
from podlite.cri.errors import CRIError
from podlite.errors import UsageError
from podlite.kubelet.kubelet import Kubelet
from podlite.rpc.client import RemoteRuntime

# For a runtime that is just being started.
_READY_SECONDS = 5.0


class RemoteNode:
    """A kubelet in front of a runtime that is somebody else's; what of `podlite.agent.node.Node` a run needs."""

    def __init__(self, options: NodeOptions, runtime: RemoteRuntime, kubelet: Kubelet) -> None:
        self.options = options
        self.runtime = runtime
        self.kubelet = kubelet

    def when_deletion_requested(self, act: Callable[[str, int], None]) -> None:
        """Never: `podlite rm` asks a pod's shim, and these pods have none of ours."""


@asynccontextmanager
async def open_remote_node(options: NodeOptions, endpoint: str) -> AsyncIterator[RemoteNode]:
    """Connects, and opens a kubelet; leaving ends it and its pods unless `pods_survive`.

    Raises UsageError for a runtime that does not answer, does not speak CRI v1 or is not ready.
    """
    async with RemoteRuntime(endpoint) as runtime:
        try:
            version = await runtime.wait_ready(_READY_SECONDS)
            status = await runtime.status()
        except CRIError as error:
            raise UsageError(f"the runtime at {endpoint} cannot be used: {error.message}") from None
        log.info("pods run on another runtime", runtime=version.runtime_name, version=version.runtime_version)
        for condition in status.conditions:
            if condition.type == "RuntimeReady" and not condition.status:
                raise UsageError(f"{version.runtime_name} is not ready: {condition.message or condition.reason}")
        async with Kubelet(runtime, runtime.images, kubelet_config(options)) as kubelet:
            yield RemoteNode(options, runtime, kubelet)
