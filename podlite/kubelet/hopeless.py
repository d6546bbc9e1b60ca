"""States that no retry can change: who waits for a pod to get anywhere may give up on it.

What keeps a pod from having containers at all (volumes, the sandbox) is in no container's status: its events tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.events import FAILED_CREATE_POD_CONTAINER, FAILED_CREATE_POD_SANDBOX, FAILED_MOUNT
from podlite.kubelet.restart import effective_policy

if TYPE_CHECKING:
    from podlite.api.events import Event
    from podlite.api.pod import Pod

# The manifest has to be changed, or an image loaded, before any of these goes away. A pull tries again by itself where
# that may help, for seconds: a person who waits for it wants to hear then, as from podman and docker.
_ALWAYS = frozenset(
    ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "ErrImagePull", "RegistryUnavailable")
)
# These may be a passing trouble of the machine, which is waited for if the policy says to start again.
_UNLESS_RESTARTED = frozenset(("CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"))


# Everything a volume is made of is on this machine, and so is all that a sandbox needs: nothing else will turn up.
_EVENTS = frozenset((FAILED_MOUNT, FAILED_CREATE_POD_SANDBOX, FAILED_CREATE_POD_CONTAINER))


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


def hopeless_event(event: Event) -> bool:
    """Whether an event of a pod says that it will never get a container as things are. Pure."""
    return event.reason in _EVENTS
