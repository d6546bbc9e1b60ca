"""Which containers are to be started again once they have ended.

A container's own restartPolicy goes before the pod's; a policy that is neither counts as Always.
Source: pkg/api/v1/pod/util.go and pkg/kubelet/container/helpers.go, Kubernetes 1.36. restartPolicyRules are
refused when a pod is loaded, so they have no part in this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.types import ContainerState

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod, PodSpec
    from podlite.kubelet.pod_status import RuntimePodStatus


def effective_policy(container: Container, spec: PodSpec) -> str:
    """Always, OnFailure or Never."""
    for policy in (container.restart_policy, spec.restart_policy):
        if policy in ("Always", "OnFailure", "Never"):
            return policy
    return "Always"


def restarts_after(container: Container, spec: PodSpec, exit_code: int) -> bool:
    """Whether a container that ended with `exit_code` is to be started again."""
    policy = effective_policy(container, spec)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def restarts_on_failure(container: Container, spec: PodSpec) -> bool:
    """Whether a container that is killed for a failed probe, or that was lost, is to be started again."""
    return effective_policy(container, spec) != "Never"


def to_be_started(container: Container, pod: Pod, status: RuntimePodStatus) -> bool:
    """Whether the container does not run and should: for the first time or again. Nothing of a deleted pod is."""
    if pod.metadata.deletion_timestamp is not None:
        return False
    newest = status.container(container.name)
    if newest is None:
        return True
    if newest.state == ContainerState.CONTAINER_RUNNING:
        return False
    if newest.state in (ContainerState.CONTAINER_UNKNOWN, ContainerState.CONTAINER_CREATED):
        return True
    return restarts_after(container, pod.spec, newest.exit_code)
