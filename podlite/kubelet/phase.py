"""The phase of a pod, from the statuses of its containers.

Source: pkg/kubelet/kubelet_pods.go (getPhase), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet import restart
from podlite.kubelet.labels import is_sidecar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.container import Container
    from podlite.api.pod import Pod, PodSpec
    from podlite.api.status import ContainerStateTerminated, ContainerStatus

PENDING = "Pending"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"

TERMINAL = (SUCCEEDED, FAILED)

# 128 + SIGKILL: what a process of its that was killed for memory returned.
OOM_EXIT_CODE = 137


def pod_phase(pod: Pod, statuses: Mapping[str, ContainerStatus], *, terminal: bool, initialized: bool) -> str:
    """The phase; `statuses` are those of init and app containers by name.

    `terminal`: nothing of the pod will be started again, whatever its restart policy. `initialized`: an app
    container of the current sandbox has been made, so sidecars that restart do not make the pod Pending again.
    """
    pending_init = pending_sidecars = waiting = running = unknown = 0
    for container in pod.spec.init_containers:
        status = statuses.get(container.name)
        if is_sidecar(container):
            state = _app_state(status)
            running += state == "running"
            # An ended sidecar has no part in the phase.
            waiting += state == "waiting"
            unknown += state == "unknown"
            pending_sidecars += status is not None and (
                state in ("waiting", "unknown") or (state == "running" and not status.started)
            )
            continue
        exit_code = _init_exit_code(status)
        if exit_code is None:
            pending_init += 1
        elif exit_code != 0 and not restart.restarts_after(container, pod.spec, exit_code):
            return FAILED
    stopped = succeeded = final = 0
    for container in pod.spec.containers:
        status = statuses.get(container.name)
        state = _app_state(status)
        running += state == "running"
        waiting += state == "waiting"
        unknown += state == "unknown"
        if state == "stopped" and status is not None:
            stopped += 1
            succeeded += status.state.terminated is not None and status.state.terminated.exit_code == 0
            final += _is_final(container, pod.spec, status)
    if pending_init or (pending_sidecars and not initialized) or waiting:
        return PENDING
    if running and not unknown:
        return RUNNING
    if not running and stopped and not unknown:
        if not terminal and stopped != final:
            return RUNNING  # something is about to be started again
        return SUCCEEDED if stopped == succeeded else FAILED
    return PENDING


def _app_state(status: ContainerStatus | None) -> str:
    if status is None:
        return "unknown"
    if status.state.running is not None:
        return "running"
    if status.state.terminated is not None:
        return "stopped"
    if status.state.waiting is not None:
        return "stopped" if status.last_state.terminated is not None else "waiting"
    return "unknown"


def _is_final(container: Container, spec: PodSpec, status: ContainerStatus) -> bool:
    """Whether a container that has ended, or waits after an end, will not be started again."""
    ended = status.state.terminated or status.last_state.terminated
    return ended is not None and not restart.restarts_after(container, spec, ended.exit_code)


def _init_exit_code(status: ContainerStatus | None) -> int | None:
    """What an init container ended with; None while it has not."""
    if status is None or status.state.running is not None:
        return None
    ended = status.state.terminated
    if ended is None and status.state.waiting is not None:
        ended = status.last_state.terminated
    if ended is None:
        return None
    return ended.exit_code if init_container_completed(ended) else ended.exit_code or OOM_EXIT_CODE


def init_container_completed(ended: ContainerStateTerminated) -> bool:
    """Whether an init container did what the next one waits for. One that memory ran out in did not, whatever its own
    process returned (isInitContainerFailed in pkg/kubelet/kuberuntime/helpers.go).

    The kubelet begins nothing after it, yet its getPhase calls such a pod Pending for ever, which is not what it is.
    """
    return ended.exit_code == 0 and ended.reason != "OOMKilled"
