"""What there is to say about a pod's state, in the order in which it is said. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.log_source import newest_instance
from podlite.kubelet.phase import TERMINAL

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStateTerminated, ContainerStatus

# What every container goes through, so that it says nothing; a container that there never was, and one that never ran.
_UNSAID_WAITS = frozenset(("ContainerCreating", "PodInitializing", ""))
_NEVER_MADE = "ContainerStatusUnknown"
_NEVER_RAN = frozenset((_NEVER_MADE, "StartError"))


class Change(NamedTuple):
    """A sentence about a pod, or about one of its containers.

    `subject` is what it is about: the pod, or one instance's beginning, end or waiting. Of one subject only what is new
    is news. It belongs after the output of that container's instances up to `after`; -1: after nothing. `container` is
    empty for the pod itself, whose end belongs after the output of all.
    """

    container: str
    after: int
    text: str
    subject: str = ""


def describe(pod: Pod) -> list[Change]:
    """The state of a pod and its containers, and how they came to it: of states that follow each other quickly only
    the last may ever be seen. Whoever prints it leaves out what has been said already."""
    name = pod.metadata.name
    found = [
        change._replace(text=f"{name}/{status.name} {change.text}")
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses)
        for change in _container_changes(status)
    ]
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


def _container_changes(status: ContainerStatus) -> list[Change]:
    name, state, newest = status.name, status.state, newest_instance(status)
    found = []
    if state.running is not None:
        if newest > 0 and status.last_state.terminated is not None:
            found += _end(name, newest - 1, status.last_state.terminated)
        found.append(_beginning(name, newest))
    elif state.terminated is not None:
        if state.terminated.reason not in _NEVER_RAN and state.terminated.started_at:
            found.append(_beginning(name, newest))
        found += _end(name, newest, state.terminated)
    elif state.waiting is not None and state.waiting.reason not in _UNSAID_WAITS:
        message = f": {state.waiting.message}" if state.waiting.message else ""
        found.append(Change(name, newest, f"waits: {state.waiting.reason}{message}", f"{newest} waits"))
    return found


def _beginning(name: str, number: int) -> Change:
    text = f"started again (restart {number})" if number > 0 else "started"
    return Change(name, number - 1, text, f"{number} begins")


def _end(name: str, number: int, ended: ContainerStateTerminated) -> list[Change]:
    if ended.reason == _NEVER_MADE:
        return []
    return [Change(name, number, f"ended: {ended.reason}, exit code {ended.exit_code}", f"{number} ends")]
