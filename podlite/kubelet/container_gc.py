"""Which dead containers and sandboxes are removed while their pod is kept, and which log directories are nobody's.

Source: pkg/kubelet/kuberuntime/kuberuntime_gc.go and container/container_gc.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from podlite import log
from podlite.cri.errors import CRIError
from podlite.cri.types import ContainerState, PodSandboxState
from podlite.kubelet.gotime import NANOSECONDS
from podlite.kubelet.paths import pod_uid_of_logs_dir

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from podlite.cri.services import RuntimeService
    from podlite.kubelet.pod_parts import PodParts
    from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus
    from podlite.kubelet.types import KubeletConfig


class GarbagePlan(msgspec.Struct, frozen=True):
    """What to remove, oldest first. Containers in an unknown state are stopped before."""

    containers: tuple[RuntimeContainerStatus, ...] = ()
    sandboxes: tuple[str, ...] = ()


def garbage_plan(pods: Iterable[RuntimePodStatus], config: KubeletConfig, now_ns: int) -> GarbagePlan:
    """Keeps so many dead instances of each container, and so many in all, and the newest sandbox of each pod. Pure."""
    units: list[list[RuntimeContainerStatus]] = []
    sandboxes: list[str] = []
    oldest = now_ns - int(config.minimum_container_gc_age * NANOSECONDS)
    for pod in pods:
        by_name: dict[str, list[RuntimeContainerStatus]] = {}
        for each in pod.containers:
            if not each.running and each.created_at <= oldest:
                by_name.setdefault(each.name, []).append(each)
        units += by_name.values()
        used = {each.sandbox_id for each in pod.containers}
        sandboxes += [
            each.id for each in pod.sandboxes[1:] if each.state != PodSandboxState.SANDBOX_READY and each.id not in used
        ]
    return GarbagePlan(tuple(_containers_to_remove(units, config)), tuple(sandboxes))


def _containers_to_remove(
    units: Sequence[list[RuntimeContainerStatus]], config: KubeletConfig
) -> list[RuntimeContainerStatus]:
    removed: list[RuntimeContainerStatus] = []

    def cut(unit: list[RuntimeContainerStatus], keep: int) -> None:
        removed.extend(unit[keep:])
        del unit[keep:]

    if config.max_dead_containers_per_container >= 0:
        for unit in units:
            cut(unit, config.max_dead_containers_per_container)
    most = config.max_dead_containers
    if most >= 0 and sum(map(len, units)) > most:
        for unit in units:
            cut(unit, max(most // len(units), 1))
        rest = sorted((each for unit in units for each in unit), key=lambda each: -each.created_at)
        removed.extend(rest[most:])
    return sorted(removed, key=lambda each: each.created_at)


def orphaned_log_directories(log_dir: str, known: Container[str]) -> list[str]:
    """The log directories of pods whose UID is not among `known`. Blocking.

    Other kubelets and podlites may have theirs in the same place: this is for `prune`, which knows all of them.
    """
    try:
        names = sorted(os.listdir(log_dir))
    except FileNotFoundError:
        return []
    uids = [(name, pod_uid_of_logs_dir(name)) for name in names]
    return [f"{log_dir}/{name}" for name, uid in uids if uid and uid not in known]


async def collect_garbage(plan: GarbagePlan, runtime: RuntimeService, parts: PodParts) -> None:
    """Carries out a plan; what cannot be removed is logged, and left for the next time."""
    for container in plan.containers:
        try:
            if container.state == ContainerState.CONTAINER_UNKNOWN:
                await runtime.stop_container(container.id, 2)
            await parts.remove_container_logs(container)
            await runtime.remove_container(container.id)
        except CRIError as error:
            log.warning("a dead container cannot be removed", container=container.name, why=str(error))
    for sandbox_id in plan.sandboxes:
        try:
            await runtime.stop_pod_sandbox(sandbox_id)
            await runtime.remove_pod_sandbox(sandbox_id)
        except CRIError as error:
            log.warning("a dead sandbox cannot be removed", sandbox_id=sandbox_id, why=str(error))
