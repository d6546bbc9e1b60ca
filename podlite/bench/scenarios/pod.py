"""pod: a one-shot pod of /bin/true through the whole kubelet side.

create: from the Pod object until its container has exited and the pod is Succeeded and stopped; teardown: until its
removal is complete. A kubelet stops a pod's sandbox as soon as the pod is over, so that is in create.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import structs

from podlite.bench.scenarios.containers import SLEEP, TRUE
from podlite.bench.workload import OperationFailedError
from podlite.runtime.image.store import EMBEDDED_NAME
from podlite.runtime.names import new_uid
from podlite.runtime.network.networks import ANNOTATION as NETWORK

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.kubelet.kubelet import Kubelet

_MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: bench, namespace: bench, annotations: {annotations}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  hostNetwork: {host_network}
  containers:
  - {{name: main, image: "{image}", command: {command}}}
"""


def make_pod(command: list[str], *, host_network: bool = False, network: str = "") -> Pod:
    """A pod of one container, as the manifest reader gives it to the kubelet: validated and defaulted."""
    import json

    from podlite.api.manifest import load_manifests

    text = _MANIFEST.format(
        annotations=json.dumps({NETWORK: network} if network else {}),
        host_network=json.dumps(host_network),
        image=EMBEDDED_NAME,
        command=json.dumps(command),
    )
    return load_manifests([("bench", text)]).pods[0]


class Pods:
    def __init__(self, kubelet: Kubelet, *, host_network: bool = False, network: str = "") -> None:
        self._kubelet = kubelet
        self._one_shot = make_pod(TRUE, host_network=host_network, network=network)
        self._lasting = make_pod(SLEEP, host_network=host_network, network=network)
        self._numbers = count()

    async def create(self) -> str:
        uid = await self._add(self._one_shot)
        try:
            pod = await self._kubelet.wait_terminated(uid)
            if pod.status.phase != "Succeeded":
                raise OperationFailedError(
                    f"the pod is {pod.status.phase}: {pod.status.reason} {pod.status.message}".strip(": ")
                )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.teardown(uid)
            raise
        return uid

    async def create_live(self) -> str:
        uid = await self._add(self._lasting)
        with self._kubelet.watch() as changes:
            if self._kubelet.pod(uid).status.phase == "Running":
                return uid
            async for change in changes:
                if change.pod.metadata.uid == uid and change.pod.status.phase != "Pending":
                    break
        return uid

    async def teardown(self, uid: Any) -> None:
        await self._kubelet.delete_pod(uid, 0)
        await self._kubelet.wait_removed(uid)

    async def _add(self, template: Pod) -> str:
        meta = structs.replace(template.metadata, name=f"bench-{next(self._numbers)}", uid=new_uid())
        added = await self._kubelet.add_pod(structs.replace(template, metadata=meta))
        return added.metadata.uid
