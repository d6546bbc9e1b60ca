"""What there is to say about a pod's state, in the order in which it is said. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.log_source import newest_instance
from podlite.kubelet.phase import TERMINAL

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus

# What every container goes through, so that it says nothing; and a container that there never was.
_UNSAID_WAITS = frozenset(("ContainerCreating", "PodInitializing", ""))
_NEVER_MADE = "ContainerStatusUnknown"


class Change(NamedTuple):
    """A sentence about a pod, or about one of its containers.

    It belongs after the output of that container's instances up to `after`; -1: after nothing. `container` is empty
    for the pod itself, whose end belongs after the output of all.
    """

    container: str
    after: int
    text: str


def describe(pod: Pod) -> list[Change]:
    """The state of a pod and its containers; whoever prints it leaves out what has been said already."""
    name = pod.metadata.name
    found = []
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if text := _container_text(status):
            newest = newest_instance(status)
            after = newest - 1 if status.state.running is not None else newest
            found.append(Change(status.name, after, f"{name}/{status.name} {text}"))
    if text := _phase_text(pod):
        phase = Change("", 0, f"{pod.metadata.namespace}/{name} {text}")
        found.insert(len(found) if pod.status.phase in TERMINAL else 0, phase)
    return found


def _phase_text(pod: Pod) -> str:
    status = pod.status
    if status.phase == "Pending":
        return ""
    reason = f" ({status.reason})" if status.reason else ""
    return f"is {status.phase}{reason}"


def _container_text(status: ContainerStatus) -> str:
    state = status.state
    if state.running is not None:
        return "started" if not status.restart_count else f"started again (restart {status.restart_count})"
    if state.terminated is not None:
        ended = state.terminated
        return "" if ended.reason == _NEVER_MADE else f"ended: {ended.reason}, exit code {ended.exit_code}"
    if state.waiting is not None and state.waiting.reason not in _UNSAID_WAITS:
        message = f": {state.waiting.message}" if state.waiting.message else ""
        return f"waits: {state.waiting.reason}{message}"
    return ""
