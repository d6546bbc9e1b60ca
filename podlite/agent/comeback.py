"""What becomes of a pod that was handed to the agent when the machine has been rebooted: its restart policy decides.

    over before              stays over, as it was
    its deletion was asked   is gone
    Always                   begins anew
    OnFailure                begins anew: it had not succeeded
    Never, not started yet   begins anew
    Never, started           Failed: what its containers came to is not known

Source: pkg/kubelet/kuberuntime/util/util.go and status/status_manager.go (what is not known of a container is
reported as ContainerStatusUnknown with exit code 137), Kubernetes 1.36. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from podlite.api.status import ContainerState, ContainerStateTerminated, PodStatus

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus

UNKNOWN_REASON = "ContainerStatusUnknown"
UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"
REBOOT_REASON = "NodeReboot"
REBOOT_MESSAGE = "The machine was rebooted while the pod ran, and its restart policy is Never"


def after_reboot(pod: Pod) -> Pod | None:
    """The pod as it is to be taken on again, None if it is gone. One that is over has a terminal phase."""
    if pod.metadata.deletion_timestamp is not None:
        return None
    if pod.status.phase in ("Succeeded", "Failed"):
        return pod
    if pod.spec.restart_policy == "Never" and has_started(pod):
        status = structs.replace(
            pod.status,
            phase="Failed",
            reason=REBOOT_REASON,
            message=REBOOT_MESSAGE,
            container_statuses=[_lost(each) for each in pod.status.container_statuses],
            init_container_statuses=[_lost(each) for each in pod.status.init_container_statuses],
        )
        return structs.replace(pod, status=status)
    return structs.replace(pod, status=PodStatus(phase="Pending", qos_class=pod.status.qos_class))


def has_started(pod: Pod) -> bool:
    """Whether any of its containers has ever run."""
    every = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return any(each.state.running is not None or each.container_id for each in every)


def _lost(status: ContainerStatus) -> ContainerStatus:
    if status.state.terminated is not None:
        return status
    ended = ContainerStateTerminated(exit_code=137, reason=UNKNOWN_REASON, message=UNKNOWN_MESSAGE)
    return structs.replace(status, state=ContainerState(terminated=ended), ready=False, started=False)
