"""What a runtime says of a pod, for tests of decisions: a base object, and functions that change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from podlite.cri.types import (
    ContainerState,
    NamespaceMode,
    NamespaceOption,
    PodSandboxMetadata,
    PodSandboxNetworkStatus,
    PodSandboxState,
    PodSandboxStatus,
)
from podlite.kubelet.labels import find_container, hash_container
from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus, pod_status
from tests.support.clock import START_NS
from tests.support.pods import UID, Pod

Change = Callable[[RuntimePodStatus], RuntimePodStatus]

SECOND = 1_000_000_000
SANDBOX = "sandbox-0"


def states(pod: Pod, *changes: Change) -> RuntimePodStatus:
    """A ready sandbox, and whatever the changes add."""
    status = with_sandboxes(a_sandbox())(RuntimePodStatus(uid=UID))
    for change in changes:
        status = change(status)
    hashes = {each.name: hash_container(each) for each in _all(pod)}
    fixed = [structs.replace(each, hash=each.hash or hashes.get(each.name, 0)) for each in status.containers]
    return structs.replace(status, containers=tuple(fixed))


def _all(pod: Pod) -> list[Any]:
    return [*pod.spec.containers, *pod.spec.init_containers, *pod.spec.ephemeral_containers]


def a_sandbox(attempt: int = 0, *, ready: bool = True, ip: str = "10.85.0.2", host: bool = False) -> PodSandboxStatus:
    return PodSandboxStatus(
        id=f"sandbox-{attempt}",
        metadata=PodSandboxMetadata(name="web", namespace="default", uid=UID, attempt=attempt),
        state=PodSandboxState.SANDBOX_READY if ready else PodSandboxState.SANDBOX_NOTREADY,
        created_at=START_NS + attempt * SECOND,
        network=PodSandboxNetworkStatus(ip=ip),
        namespaces=NamespaceOption(network=NamespaceMode.NODE if host else NamespaceMode.POD),
    )


def with_sandboxes(*sandboxes: PodSandboxStatus) -> Change:
    """Replaces the sandboxes."""

    def change(status: RuntimePodStatus) -> RuntimePodStatus:
        return pod_status(UID, sandboxes, status.containers, timestamp=START_NS)

    return change


def _add(**fields: Any) -> Change:
    def change(status: RuntimePodStatus) -> RuntimePodStatus:
        count = len([each for each in status.containers if each.name == fields["name"]])
        defaults: dict[str, Any] = {
            "id": f"{fields['name']}-{count}",
            "sandbox_id": SANDBOX,
            "created_at": START_NS + len(status.containers) * SECOND,
            "image": "img:1",
            "image_ref": "sha256:1",
            "restart_count": count,
        }
        added = RuntimeContainerStatus(**{**defaults, **fields})
        return pod_status(UID, status.sandboxes, [*status.containers, added], timestamp=START_NS)

    return change


def running(name: str, **fields: Any) -> Change:
    return _add(name=name, state=ContainerState.CONTAINER_RUNNING, started_at=START_NS + SECOND, **fields)


def exited(name: str, code: int = 0, **fields: Any) -> Change:
    defaults = {
        "reason": "Completed" if code == 0 else "Error",
        "started_at": START_NS + SECOND,
        "finished_at": START_NS + 2 * SECOND,
    }
    return _add(name=name, state=ContainerState.CONTAINER_EXITED, exit_code=code, **{**defaults, **fields})


def created(name: str, **fields: Any) -> Change:
    return _add(name=name, state=ContainerState.CONTAINER_CREATED, **fields)


def unknown(name: str, **fields: Any) -> Change:
    return _add(name=name, state=ContainerState.CONTAINER_UNKNOWN, **fields)


__all__ = [
    "SANDBOX",
    "SECOND",
    "a_sandbox",
    "created",
    "exited",
    "find_container",
    "running",
    "states",
    "unknown",
    "with_sandboxes",
]
