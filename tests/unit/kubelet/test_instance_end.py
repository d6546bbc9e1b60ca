"""The end of one instance of a container, by the status of its pod: `state` and `lastState` of v1.ContainerStatus."""

from __future__ import annotations

import pytest

from podlite.api.pod import Pod
from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    PodStatus,
)
from podlite.kubelet.instance_end import ForgottenInstanceError, instance_end


def ended(id: str, code: int) -> ContainerState:
    return ContainerState(
        terminated=ContainerStateTerminated(exit_code=code, container_id=f"containerd://{id}" if id else "")
    )


RUNNING = ContainerState(running=ContainerStateRunning())
BACKING_OFF = ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff"))


def code(instance: str, now: str, state: ContainerState, last: ContainerState | None = None) -> int | None:
    status = ContainerStatus(name="c", container_id=f"containerd://{now}" if now else "", state=state)
    if last is not None:
        status.last_state = last
    end = instance_end(Pod(status=PodStatus(container_statuses=[status])), "c", instance)
    return end.exit_code if end is not None else None


def test_it_is_the_newest_instance() -> None:
    assert code("a", "a", RUNNING) is None
    assert code("a", "a", ended("a", 3)) == 3
    assert code("a", "a", ended("", 3)) == 3  # a status that names its container once
    assert code("b", "b", RUNNING, last=ended("a", 3)) is None
    assert code("b", "b", RUNNING, last=ended("", 3)) is None
    assert code("b", "b", ended("b", 4), last=ended("a", 3)) == 4


def test_it_is_the_one_before() -> None:
    assert code("a", "b", RUNNING, last=ended("a", 3)) == 3
    assert code("a", "b", ended("b", 4), last=ended("a", 3)) == 3
    # Between two instances: the status' ID is still that of the one that has ended.
    assert code("a", "a", BACKING_OFF, last=ended("a", 3)) == 3
    assert code("a", "", BACKING_OFF, last=ended("a", 3)) == 3


def test_it_is_older() -> None:
    for state, last in ((RUNNING, ended("b", 4)), (ended("c", 5), ended("b", 4)), (RUNNING, None)):
        with pytest.raises(ForgottenInstanceError, match="container c has ended, and has been started more than once"):
            code("a", "c", state, last)


def test_nothing_is_known_yet() -> None:
    assert instance_end(Pod(), "c", "a") is None
    assert code("a", "", ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))) is None
