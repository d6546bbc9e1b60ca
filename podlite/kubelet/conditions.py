"""The conditions of a pod.

Source: pkg/kubelet/status/generate.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from podlite.api.status import PodCondition
from podlite.kubelet.labels import is_sidecar
from podlite.kubelet.phase import FAILED, SUCCEEDED
from podlite.kubelet.pod_status import RuntimePodStatus, sandbox_change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus

POD_SCHEDULED = "PodScheduled"
READY_TO_START = "PodReadyToStartContainers"
INITIALIZED = "Initialized"
CONTAINERS_READY = "ContainersReady"
READY = "Ready"
DISRUPTION_TARGET = "DisruptionTarget"

OWNED = frozenset((POD_SCHEDULED, READY_TO_START, INITIALIZED, CONTAINERS_READY, READY))
"""The conditions that only the kubelet sets; others, such as those of readiness gates, it leaves alone."""


def pod_conditions(
    pod: Pod,
    runtime: RuntimePodStatus,
    statuses: Mapping[str, ContainerStatus],
    phase: str,
    others: Sequence[PodCondition],
) -> list[PodCondition]:
    """All conditions in the kubelet's order, without transition times; `others` are those it does not own."""
    ready_to_start = not sandbox_change(pod, runtime).needed
    found = [
        *others,
        _condition(pod, READY_TO_START, ready_to_start),
        initialized(pod, statuses, phase),
    ]
    found.append(ready(pod, statuses, phase, found))
    found.append(containers_ready(pod, statuses, phase))
    found.append(_condition(pod, POD_SCHEDULED, True))
    return found


def initialized(pod: Pod, statuses: Mapping[str, ContainerStatus], phase: str) -> PodCondition:
    """Initialized: every init container has completed, or as a sidecar has started; or an app container ever ran."""
    unknown, incomplete = [], []
    for container in pod.spec.init_containers:
        status = statuses.get(container.name)
        if status is None:
            unknown.append(container.name)
        elif not (status.started if is_sidecar(container) else status.ready):
            incomplete.append(container.name)
    if phase == SUCCEEDED and not unknown:
        return _condition(pod, INITIALIZED, True, "PodCompleted")
    if (unknown or incomplete) and not _any_app_container_started(pod, statuses):
        message = _message(("unknown", unknown), ("incomplete", incomplete))
        return _condition(pod, INITIALIZED, False, "ContainersNotInitialized", message)
    return _condition(pod, INITIALIZED, True)


def containers_ready(
    pod: Pod, statuses: Mapping[str, ContainerStatus], phase: str, type: str = CONTAINERS_READY
) -> PodCondition:
    """ContainersReady: every app container and sidecar is ready."""
    unknown, unready = [], []
    for container in (*(each for each in pod.spec.init_containers if is_sidecar(each)), *pod.spec.containers):
        status = statuses.get(container.name)
        if status is None:
            unknown.append(container.name)
        elif not status.ready:
            unready.append(container.name)
    if phase == SUCCEEDED and not unknown:
        return _condition(pod, type, False, "PodCompleted")
    if phase == FAILED:
        return _condition(pod, type, False, "PodFailed")
    if unknown or unready:
        message = _message(("unknown", unknown), ("unready", unready))
        return _condition(pod, type, False, "ContainersNotReady", message)
    return _condition(pod, type, True)


def ready(
    pod: Pod, statuses: Mapping[str, ContainerStatus], phase: str, conditions: Sequence[PodCondition]
) -> PodCondition:
    """Ready: the containers are, and every readiness gate's condition among `conditions` is True."""
    containers = containers_ready(pod, statuses, phase, READY)
    if containers.status != "True":
        return containers
    problems = []
    for gate in pod.spec.readiness_gates:
        met = next((each for each in conditions if each.type == gate.condition_type), None)
        if met is None:
            problems.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif met.status != "True":
            problems.append(f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {met.status}')
    if problems:
        return _condition(pod, READY, False, "ReadinessGatesNotReady", ", ".join(problems))
    return containers


def with_transition_times(
    conditions: Sequence[PodCondition], before: Sequence[PodCondition], now: str
) -> list[PodCondition]:
    """The same conditions, each with the time since when it has its status: `now` if that has changed."""
    since = {each.type: each for each in before}
    result = []
    for each in conditions:
        old = since.get(each.type)
        time = old.last_transition_time if old is not None and old.status == each.status else now
        result.append(structs.replace(each, last_transition_time=time or now))
    return result


def _any_app_container_started(pod: Pod, statuses: Mapping[str, ContainerStatus]) -> bool:
    found = [statuses.get(each.name) for each in pod.spec.containers]
    return any(
        each is not None and (each.state.running is not None or each.state.terminated is not None) for each in found
    )


def _message(*groups: tuple[str, list[str]]) -> str:
    return ", ".join([f"containers with {what} status: [{' '.join(names)}]" for what, names in groups if names])


def _condition(pod: Pod, type: str, value: bool, reason: str = "", message: str = "") -> PodCondition:
    return PodCondition(
        type=type,
        observed_generation=pod.metadata.generation,
        status="True" if value else "False",
        reason=reason,
        message=message,
    )
