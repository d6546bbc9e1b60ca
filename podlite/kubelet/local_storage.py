"""Pods that take more of the disk than they may: emptyDirs beyond their size limit, and what containers write and log
beyond their limits of `ephemeral-storage`. Such a pod is evicted.

Source: localStorageEviction in pkg/kubelet/eviction/eviction_manager.go, Kubernetes 1.36. Writable layers and logs are
on the same file system here, as on a node without a dedicated one for images.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from podlite.api import quantity
from podlite.cri.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.cri.services import RuntimeService
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.types import KubeletConfig

RESOURCE = "ephemeral-storage"


class ContainerUsage(NamedTuple):
    """What a container's writable layer and logs take of the disk, in bytes."""

    name: str
    layer: int
    logs: int


def is_limited(pod: Pod) -> bool:
    """Whether anything of the pod has a limit that its use of the disk could exceed. Pure."""
    return _has_limits(pod) or any(
        each.empty_dir is not None and each.empty_dir.size_limit for each in pod.spec.volumes
    )


def _has_limits(pod: Pod) -> bool:
    return any(RESOURCE in each.resources.limits for each in _containers(pod))


def _containers(pod: Pod) -> list[Container]:
    return [*pod.spec.containers, *pod.spec.init_containers]


async def exceeded_limit(pod: Pod, status: RuntimePodStatus, runtime: RuntimeService, config: KubeletConfig) -> str:
    """The kubelet's message for the first limit that the pod exceeds, or nothing. Raises CRIError.

    To be asked every ten seconds or so; it walks through the files of what is limited.
    """
    from podlite.kubelet.volumes.usage import exceeded_limit as exceeded_volume_limit

    message = await to_thread.run_sync(exceeded_volume_limit, pod, config)
    if message or not _has_limits(pod):
        return message
    used = []
    for each in status.running_containers():
        try:
            stats = await runtime.container_stats(each.id)
        except NotFoundError:
            continue  # it has ended and been removed meanwhile
        layer = stats.writable_layer.used_bytes or 0 if stats.writable_layer is not None else 0
        used.append(ContainerUsage(each.name, layer, await to_thread.run_sync(_logs, each.log_path)))
    volumes = await to_thread.run_sync(_volumes, pod, config)
    return exceeded_storage(pod, used, volumes)


def exceeded_storage(pod: Pod, used: Sequence[ContainerUsage], volumes: int) -> str:
    """The message for the pod, else for the first of its containers; `volumes` are bytes in emptyDirs. Pure."""
    from podlite.kubelet.resources import pod_limits

    limit = pod_limits(pod).get(RESOURCE)
    if limit is not None and (sum(each.layer + each.logs for each in used) + volumes) * 10**9 > limit:
        # A sum is printed in the format of its first part.
        first = next(each.resources.limits[RESOURCE] for each in _containers(pod) if RESOURCE in each.resources.limits)
        shown = quantity.Amount(limit, quantity.parse(first).format)
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
    limits = {each.name: each.resources.limits.get(RESOURCE) for each in pod.spec.containers}
    for each in used:
        text = limits.get(each.name)
        own = quantity.parse(text) if text else None
        if own is not None and own.nanos and each.layer + each.logs > own.value():
            return f'Container {each.name} exceeded its local ephemeral storage limit "{own}". '
    return ""


def _logs(path: str) -> int:
    """What a container's logs take, those of earlier instances among them. Blocking."""
    from podlite.kubelet.volumes.usage import disk_usage

    return disk_usage(os.path.dirname(path)) if path else 0


def _volumes(pod: Pod, config: KubeletConfig) -> int:
    """What is in the pod's emptyDirs on disk. Blocking."""
    from podlite.kubelet.volumes import layout
    from podlite.kubelet.volumes.usage import disk_usage

    uid = pod.metadata.uid
    return sum(
        disk_usage(layout.volume_dir(config, uid, layout.EMPTY_DIR, each.name))
        for each in pod.spec.volumes
        if each.empty_dir is not None and each.empty_dir.medium != "Memory"
    )
