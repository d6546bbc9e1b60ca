"""States that no retry can change: who waits for a pod to get anywhere may give up on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.restart import effective_policy

if TYPE_CHECKING:
    from podlite.api.pod import Pod

# The manifest has to be changed, or an image loaded, before any of these goes away.
_ALWAYS = frozenset(("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"))
# These may be a passing trouble of the machine, which is waited for if the policy says to start again.
_UNLESS_RESTARTED = frozenset(("CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"))


class Hopeless(NamedTuple):
    """The container that keeps a pod from getting anywhere, and why."""

    container: str
    reason: str
    message: str


def hopeless(pod: Pod) -> Hopeless | None:
    """The first container of the pod that will never run as things are, or None. Pure; `pod` has its status."""
    specs = {each.name: each for each in (*pod.spec.init_containers, *pod.spec.containers)}
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting, ended = status.state.waiting, status.state.terminated
        reason, message = ("", "")
        if waiting is not None:
            reason, message = waiting.reason, waiting.message
        elif ended is not None:
            reason, message = ended.reason, ended.message
        if reason in _ALWAYS:
            return Hopeless(status.name, reason, message)
        container = specs.get(status.name)
        never = container is not None and effective_policy(container, pod.spec) == "Never"
        if reason in _UNLESS_RESTARTED and never:
            return Hopeless(status.name, reason, message)
    return None
