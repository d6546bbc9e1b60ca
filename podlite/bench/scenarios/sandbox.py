"""sandbox: RunPodSandbox; then StopPodSandbox and RemovePodSandbox."""

from __future__ import annotations

from typing import Any

import anyio
from anyio import to_thread

from podlite.cri.types import (
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from podlite.runtime.names import new_uid
from podlite.runtime.network.networks import ANNOTATION as NETWORK
from podlite.runtime.service import Runtime


def new_config(cgroup_root: str, *, host_network: bool = False, network: str = "") -> PodSandboxConfig:
    """A plain pod's sandbox, for any CRI runtime; its cgroup's parent is `cgroup_root`/kubepods, with an empty root
    the runtime's own choice. `network` is for podlite: another one than the node's."""
    uid = new_uid()
    mode = NamespaceMode.NODE if host_network else NamespaceMode.POD
    options = NamespaceOption(network=mode, pid=NamespaceMode.CONTAINER)
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=f"bench-{uid[:8]}", uid=uid, namespace="bench"),
        hostname="" if host_network else "bench",
        annotations={NETWORK: network} if network else {},
        linux=LinuxPodSandboxConfig(
            cgroup_parent=f"{cgroup_root}/kubepods/pod{uid}" if cgroup_root else "",
            security_context=LinuxSandboxSecurityContext(namespace_options=options),
        ),
    )


class Sandboxes:
    def __init__(self, runtime: Runtime, *, host_network: bool = False, network: str = "") -> None:
        self._runtime = runtime
        self._host_network = host_network
        self._network = network

    async def create(self) -> str:
        config = new_config(self._runtime.layout.cgroup_root, host_network=self._host_network, network=self._network)
        return await self._runtime.run_pod_sandbox(config)

    async def teardown(self, id: Any) -> None:
        await self._runtime.stop_pod_sandbox(id)
        await self._runtime.remove_pod_sandbox(id)


class OwnSandbox:
    """One sandbox that containers come and go in, as an async context manager; its pod's cgroup goes with it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.config = new_config(runtime.layout.cgroup_root)
        self.id = ""

    async def __aenter__(self) -> OwnSandbox:
        self.id = await self.runtime.run_pod_sandbox(self.config)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.runtime.remove_pod_sandbox(self.id)
            await to_thread.run_sync(self._remove_cgroup)

    def _remove_cgroup(self) -> None:
        if self.runtime.cgroups is not None and self.config.linux is not None:
            self.runtime.cgroups.remove(self.config.linux.cgroup_parent)
