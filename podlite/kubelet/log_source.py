"""Which instance of a container `logs` is about, and where its log is. Pure: a pod with its status is enough, so
that another terminal can read logs too.

Source: pkg/kubelet/kubelet_pods.go (validateContainerLogStatus), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.paths import container_log_path, pod_logs_dir
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus
    from podlite.kubelet.types import KubeletConfig


class LogSource(NamedTuple):
    """`running` is whether more may come."""

    container_id: str
    path: str
    running: bool


def log_source(pod: Pod, config: KubeletConfig, container: str, *, previous: bool = False) -> LogSource:
    """The log of the running instance of a container, else of the last one; with `previous` of the one before.

    Raises KubeletError with the kubelet's message where there is no such instance.
    """
    status = find_status(pod, container)
    name = pod.metadata.name
    if status is None:
        raise KubeletError(f'container "{container}" in pod "{name}" is not available')
    chosen = _container_id(status, name, previous)
    # The instance before the one that the status is about has one restart less.
    count = status.restart_count if chosen == status.container_id else status.restart_count - 1
    path = f"{pod_logs_dir(config, pod)}/{container_log_path(container, max(count, 0))}"
    running = status.state.running is not None and chosen == status.container_id
    return LogSource(chosen.partition("://")[2], path, running)


def find_status(pod: Pod, container: str) -> ContainerStatus | None:
    """The status of a container of any kind."""
    status = pod.status
    every = (*status.container_statuses, *status.init_container_statuses, *status.ephemeral_container_statuses)
    return next((each for each in every if each.name == container), None)


def newest_instance(status: ContainerStatus) -> int:
    """The number of the newest instance of a container that was started; -1 if none was."""
    state = status.state
    started = state.running is not None or (state.terminated is not None and bool(status.container_id))
    # Waiting to be started again: the count is still that of the instance that has ended.
    started = started or (state.waiting is not None and status.last_state.terminated is not None)
    return status.restart_count if started else status.restart_count - 1


def ended_for_good(pod: Pod, name: str) -> bool:
    """Whether no instance of a container runs, and none will be started any more."""
    from podlite.kubelet.labels import find_container, is_sidecar
    from podlite.kubelet.restart import restarts_after

    if pod.status.phase in ("Succeeded", "Failed"):
        return True
    status, container = find_status(pod, name), find_container(pod, name)
    if status is None or container is None or status.state.terminated is None:
        return False
    code = status.state.terminated.exit_code
    if any(each.name == name for each in pod.spec.ephemeral_containers):
        return True  # whatever the pod's restart policy
    is_init = any(each.name == name for each in pod.spec.init_containers)
    if is_init and not is_sidecar(container) and code == 0:
        return True
    return not restarts_after(container, pod.spec, code)


def _container_id(status: ContainerStatus, pod: str, previous: bool) -> str:
    state, last = status.state, status.last_state.terminated
    last_id = last.container_id if last is not None else ""
    if previous:
        if not last_id:
            raise KubeletError(f'previous terminated container "{status.name}" in pod "{pod}" not found')
        return last_id
    if state.running is not None:
        return status.container_id
    if state.terminated is not None or last is not None:
        found = (state.terminated.container_id if state.terminated is not None else "") or last_id
        if not found:
            raise KubeletError(f'container "{status.name}" in pod "{pod}" is terminated')
        return found
    waiting = f'container "{status.name}" in pod "{pod}" is waiting to start'
    if state.waiting is None:
        raise KubeletError(f"{waiting} - no logs yet")
    reasons = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }
    raise KubeletError(f"{waiting}: {reasons.get(state.waiting.reason, state.waiting.reason)}")
