"""How one instance of a container ended, by the status of its pod. Pure.

A container's name stays, its instances come and go: who waits for the end of one may find the next running already, or
ended too. What a status knows is its newest instance (`state`) and the one before (`lastState`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.log_source import find_status
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStateTerminated


class ForgottenInstanceError(KubeletError):
    """The instance has ended, and the status knows only later ones."""


def bare_id(container_id: str) -> str:
    """Of `<runtime>://<id>` the id."""
    return container_id.partition("://")[2]


def instance_end(pod: Pod, container: str, instance: str) -> ContainerStateTerminated | None:
    """How the instance with that id ended; None while it has not, or while nothing is known of the container.

    Raises ForgottenInstanceError.
    """
    status = find_status(pod, container)
    if status is None:
        return None
    ended, before = status.state.terminated, status.last_state.terminated
    if ended is not None and bare_id(ended.container_id or status.container_id) == instance:
        return ended
    if before is not None and bare_id(before.container_id) == instance:
        return before
    if status.container_id and bare_id(status.container_id) != instance:
        raise ForgottenInstanceError(f"container {container} has ended, and has been started more than once since")
    return None
