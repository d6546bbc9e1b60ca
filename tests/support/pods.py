"""Pods for tests: a base object, and functions that change it, so that a case shows only what matters to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podlite.api.container import Container, EphemeralContainer
from podlite.api.defaults import set_pod_defaults
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.probes import ExecAction, Lifecycle, LifecycleHandler, Probe, SleepAction

Mutator = Callable[[Pod], None]

UID = "12345678-1234-4234-8234-123456789012"


def a_pod(*mutators: Mutator, name: str = "web", uid: str = UID, containers: int = 1, **spec: Any) -> Pod:
    """A pod `default/web` with containers c1, c2 … of the image `img:1`, defaulted after the mutators."""
    pod = Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=uid, generation=1),
        spec=PodSpec(containers=[container(f"c{index + 1}") for index in range(containers)], **spec),
    )
    for mutate in mutators:
        mutate(pod)
    set_pod_defaults(pod)
    return pod


def container(name: str, **fields: Any) -> Container:
    return Container(name=name, image=fields.pop("image", "img:1"), **fields)


def policy(value: str) -> Mutator:
    def mutate(pod: Pod) -> None:
        pod.spec.restart_policy = value

    return mutate


def container_policy(name: str, value: str) -> Mutator:
    return with_fields(name, restart_policy=value)


def init(*names: str, **fields: Any) -> Mutator:
    """Adds init containers."""

    def mutate(pod: Pod) -> None:
        pod.spec.init_containers += [container(name, **fields) for name in names]

    return mutate


def sidecar(*names: str, **fields: Any) -> Mutator:
    """Adds init containers with restartPolicy Always."""
    return init(*names, restart_policy="Always", **fields)


def ephemeral(*names: str, **fields: Any) -> Mutator:
    def mutate(pod: Pod) -> None:
        pod.spec.ephemeral_containers += [EphemeralContainer(name=name, image="img:1", **fields) for name in names]

    return mutate


def with_fields(name: str, **fields: Any) -> Mutator:
    """Sets fields of a container."""

    def mutate(pod: Pod) -> None:
        for each in (*pod.spec.containers, *pod.spec.init_containers, *pod.spec.ephemeral_containers):
            if each.name == name:
                for field, value in fields.items():
                    setattr(each, field, value)

    return mutate


def deleted(grace: int = 30) -> Mutator:
    def mutate(pod: Pod) -> None:
        pod.metadata.deletion_timestamp = "2026-11-23T20:00:30Z"
        pod.metadata.deletion_grace_period_seconds = grace

    return mutate


def exec_probe(**fields: Any) -> Probe:
    return Probe(exec=ExecAction(command=["probe"]), **fields)


def pre_stop(name: str, seconds: int) -> Mutator:
    """Gives a container a preStop hook that sleeps."""
    return with_fields(name, lifecycle=Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=seconds))))


def post_start_exec(name: str, *command: str) -> Mutator:
    handler = LifecycleHandler(exec=ExecAction(command=list(command)))
    return with_fields(name, lifecycle=Lifecycle(post_start=handler))
