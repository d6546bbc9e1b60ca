"""The status of a pod as the API shows it. Pure: from the specification, the runtime, and the status before.

Source: pkg/kubelet/kubelet_pods.go (generateAPIPodStatus), status/status_manager.go (TerminatePod,
mergePodStatus, checkContainerStateTransition) and active_deadline.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from podlite.api.qos import qos_class
from podlite.api.status import ContainerState, ContainerStateTerminated, HostIP, PodIP, PodStatus
from podlite.kubelet import conditions, restart
from podlite.kubelet.container_statuses import (
    LOST_MESSAGE,
    STATUS_UNKNOWN,
    Facts,
    apply_init_probes,
    apply_probes,
    container_statuses,
)
from podlite.kubelet.gotime import NANOSECONDS, parse_rfc3339
from podlite.kubelet.labels import is_sidecar
from podlite.kubelet.phase import FAILED, TERMINAL, init_container_completed, pod_phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.types import KubeletConfig, ProbeResults, Waiting

DEADLINE_REASON = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


def generate_api_pod_status(
    pod: Pod,
    runtime: RuntimePodStatus,
    before: PodStatus,
    *,
    config: KubeletConfig,
    probes: ProbeResults,
    waiting: Mapping[str, Waiting],
    now: str,
    terminal: bool = False,
    evicted: tuple[str, str] | None = None,
) -> PodStatus:
    """The pod's whole status.

    `waiting` says by container name why the last attempt to start it failed. `terminal`: nothing of the pod
    will be started again. `evicted` is the reason and message of a pod that is ended from outside. `now` is
    the time of conditions that change, and of the start.
    """
    facts = Facts(
        pod,
        runtime,
        waiting,
        probes,
        runtime_name=config.runtime_name,
        recursive_read_only=config.recursive_read_only,
    )
    spec = pod.spec
    apps = container_statuses(facts, spec.containers, before.container_statuses)
    inits = container_statuses(facts, spec.init_containers, before.init_container_statuses, init=True)
    ephemerals = container_statuses(facts, spec.ephemeral_containers, before.ephemeral_container_statuses)
    by_name = {each.name: each for each in (*inits, *apps)}
    phase = pod_phase(pod, by_name, terminal=terminal, initialized=_has_active_app_container(pod, runtime))
    # A pod never leaves a terminal phase.
    phase = before.phase if before.phase in TERMINAL else phase
    reason, message = (before.reason, before.message) if phase == before.phase else ("", "")
    if evicted is not None and before.phase not in TERMINAL:
        phase, (reason, message) = FAILED, evicted
    apply_probes(facts, apps, spec.containers)
    apply_init_probes(facts, inits)
    others = [each for each in before.conditions if each.type not in conditions.OWNED]
    found = conditions.pod_conditions(pod, runtime, by_name, phase, others)
    # A stopped sandbox has no address any more, but the pod is known by the one it had.
    pod_ips = _pod_ips(pod, runtime, config) or [each.ip for each in before.pod_ips]
    return PodStatus(
        observed_generation=max(pod.metadata.generation, before.observed_generation),
        phase=phase,
        conditions=conditions.with_transition_times(found, before.conditions, now),
        message=message,
        reason=reason,
        host_ip=config.host_ips[0] if config.host_ips else "",
        host_ips=[HostIP(ip=each) for each in config.host_ips],
        pod_ip=pod_ips[0] if pod_ips else "",
        pod_ips=[PodIP(ip=each) for each in pod_ips],
        start_time=before.start_time or now,
        init_container_statuses=inits,
        container_statuses=apps,
        ephemeral_container_statuses=ephemerals,
        qos_class=before.qos_class or qos_class(pod),
    )


def rejected_status(pod: Pod, reason: str, message: str, now: str) -> PodStatus:
    """The status of a pod that is not admitted."""
    return PodStatus(
        observed_generation=pod.metadata.generation,
        phase=FAILED,
        reason=reason,
        message=f"Pod was rejected: {message}",
        start_time=now,
        qos_class=qos_class(pod),
    )


def past_active_deadline(pod: Pod, status: PodStatus, now_ns: int) -> bool:
    """Whether the pod has been active for its activeDeadlineSeconds."""
    due = active_deadline(pod, status)
    return due is not None and now_ns >= due


def active_deadline(pod: Pod, status: PodStatus) -> int | None:
    """When the pod's activeDeadlineSeconds are over, in nanoseconds since the epoch; None without a deadline."""
    if pod.spec.active_deadline_seconds is None or not status.start_time:
        return None
    return parse_rfc3339(status.start_time) + pod.spec.active_deadline_seconds * NANOSECONDS


def final_status(pod: Pod, status: PodStatus) -> PodStatus:
    """The status of a pod that is over: a container without a trace counts as failed, and the phase is terminal."""
    result = structs.replace(status)
    if _has_initialized(pod, status):
        result.container_statuses = [_ended(each) for each in status.container_statuses]
    inits = status.init_container_statuses
    attempted = 0
    for index, each in enumerate(inits):
        if each.state.waiting is None or each.last_state.terminated is not None:
            attempted = index + 1
    result.init_container_statuses = [
        _ended(each) if index < max(attempted, 1) else each for index, each in enumerate(inits)
    ]
    if result.phase not in TERMINAL:
        result.phase = FAILED
    return result


def published_status(before: PodStatus, status: PodStatus, *, could_run: bool, now: str) -> PodStatus:
    """What is shown of a status: a terminal phase only once no container of the pod can run any more.

    `before` is what was shown last. A pod in a terminal phase is never shown as ready.
    """
    if status.phase not in TERMINAL:
        return status
    if before.phase not in TERMINAL and could_run:
        return structs.replace(status, phase=before.phase, reason=before.reason, message=before.message)
    if not any(each.type == conditions.READY and each.status == "True" for each in status.conditions):
        return status
    reason = "PodFailed" if status.phase == FAILED else "PodCompleted"
    found = [
        structs.replace(each, status="False", reason=reason, message="")
        if each.type in (conditions.READY, conditions.CONTAINERS_READY)
        else each
        for each in status.conditions
    ]
    return structs.replace(status, conditions=conditions.with_transition_times(found, before.conditions, now))


def illegal_transition(pod: Pod, before: PodStatus, after: PodStatus) -> str:
    """Says which container went back from terminated though its policy forbids that; empty if none did."""
    for kind, containers, old, new in (
        ("container", pod.spec.containers, before.container_statuses, after.container_statuses),
        ("init container", pod.spec.init_containers, before.init_container_statuses, after.init_container_statuses),
    ):
        name = _resurrected(pod, containers, old, new, init=kind == "init container")
        if name:
            return f"terminated {kind} {name} attempted illegal transition to non-terminated state"
    return ""


def _resurrected(
    pod: Pod,
    containers: Sequence[Container],
    before: Sequence[ContainerStatus],
    after: Sequence[ContainerStatus],
    *,
    init: bool,
) -> str:
    specs = {each.name: each for each in containers}
    now = {each.name: each for each in after}
    for old in before:
        container, new = specs.get(old.name), now.get(old.name)
        if old.state.terminated is None or container is None or new is None or (init and is_sidecar(container)):
            continue
        if restart.restarts_after(container, pod.spec, old.state.terminated.exit_code):
            continue
        if new.state.terminated is None:
            return old.name
    return ""


def _ended(status: ContainerStatus) -> ContainerStatus:
    if status.state.terminated is not None:
        return status
    ended = ContainerStateTerminated(exit_code=137, reason=STATUS_UNKNOWN, message=LOST_MESSAGE)
    return structs.replace(status, state=ContainerState(terminated=ended))


def _has_initialized(pod: Pod, status: PodStatus) -> bool:
    """Whether an app container may have been started."""
    containers = pod.spec.init_containers
    if not containers:
        return True
    if any(each.last_state.terminated is not None or each.state.waiting is None for each in status.container_statuses):
        return True
    if not status.init_container_statuses:
        return False
    last = status.init_container_statuses[-1]
    if is_sidecar(containers[-1]):
        return last.state.running is not None and bool(last.started)
    return any(
        each.terminated is not None and init_container_completed(each.terminated)
        for each in (last.last_state, last.state)
    )


def _has_active_app_container(pod: Pod, runtime: RuntimePodStatus) -> bool:
    names = {each.name for each in pod.spec.containers}
    return any(each.name in names for each in runtime.active_containers())


def _pod_ips(pod: Pod, runtime: RuntimePodStatus, config: KubeletConfig) -> list[str]:
    """At most one address of each family, that of the host's first address first."""
    if pod.spec.host_network:
        return list(config.host_ips[:2])
    prefer_v6 = bool(config.host_ips) and ":" in config.host_ips[0]
    result = []
    for v6 in (prefer_v6, not prefer_v6):
        result += [each for each in runtime.ips if (":" in each) == v6][:1]
    return result
