"""podlite as the kubelet of another runtime: containerd, CRI-O, or a podlite that serves CRI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import to_thread
from msgspec import structs

from podlite import log
from podlite.agent.node import Node, NodeOptions, debug, has_records, kubelet_config, next_version
from podlite.agent.pod_doors import Doors
from podlite.cri.errors import CRIError
from podlite.errors import UsageError
from podlite.kubelet.kubelet import Kubelet
from podlite.linux.cgroups import Cgroups
from podlite.rpc.client import RemoteRuntime

# For a runtime that is just being started.
_READY_SECONDS = 5.0


class RemoteNode(Node):
    """A kubelet in front of a runtime that is somebody else's."""

    def __init__(
        self, options: NodeOptions, runtime: RemoteRuntime, kubelet: Kubelet, cgroups: Cgroups, doors: Doors
    ) -> None:
        super().__init__(options, runtime, kubelet)
        self._cgroups = cgroups
        self._doors = doors

    def when_deletion_requested(self, act: Callable[[str, int], None]) -> None:
        self._doors.on_delete = act

    @property
    def cgroups(self) -> Cgroups | None:
        return self._cgroups

    def container_cgroups(self) -> dict[str, str]:
        """Where runtimes with the cgroupfs driver put them: below the pod's own, by their ids."""
        found = {}
        for pod in self.kubelet.pods():
            parent = self._cgroups.pod_path(pod.status.qos_class or "BestEffort", pod.metadata.uid)
            for each in self.kubelet.runtime_status(pod.metadata.uid).running_containers():
                found[each.id] = f"{parent}/{each.id}"
        return found


@asynccontextmanager
async def open_remote_node(options: NodeOptions) -> AsyncIterator[RemoteNode]:
    """Connects, and opens a kubelet; leaving ends it and its pods unless `pods_survive` or `adoptable`.

    Raises UsageError for a runtime that does not answer, does not speak CRI v1 or is not ready.
    """
    endpoint = options.runtime_endpoint
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
        if has_records(options.layout):
            from podlite.agent.orphans import reap_orphans

            await to_thread.run_sync(reap_orphans, options)
        first_version = await to_thread.run_sync(next_version, options) if options.adoptable else 0
        cgroups = await to_thread.run_sync(Cgroups.detect, options.layout.cgroup_root)
        config = structs.replace(kubelet_config(options), runtime_name=version.runtime_name)
        try:
            async with Kubelet(runtime, runtime.images, config, first_version=first_version) as kubelet:
                if options.adoptable:
                    from podlite.kubelet.adopt import adopt_all

                    await adopt_all(kubelet)
                doors = Doors(kubelet)
                async with anyio.create_task_group() as tasks:

                    def debug_requested(uid: str, container: dict[str, Any]) -> None:
                        tasks.start_soon(debug, kubelet, uid, container)

                    doors.on_debug = debug_requested
                    tasks.start_soon(doors.run)
                    yield RemoteNode(options, runtime, kubelet, cgroups, doors)
                    tasks.cancel_scope.cancel()
        finally:
            cgroups.close()
