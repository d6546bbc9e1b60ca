"""What the runtime says about one pod: its sandboxes and containers, newest first (kubecontainer.PodStatus).

Everything here is immutable, so that a decision, a status and a cache may share one object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podlite.cri.types import ContainerState, NamespaceMode, PodSandboxState
from podlite.kubelet import labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podlite.api.pod import Pod
    from podlite.cri.types import (
        ContainerStatus,
        LinuxContainerResources,
        LinuxContainerUser,
        Mount,
        PodSandboxStatus,
    )


class RuntimeContainerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a container. Times are nanoseconds since the epoch, 0 for not yet.

    `message` has the runtime's own message and the container's termination message, joined by a colon.
    """

    id: str
    name: str
    sandbox_id: str = ""
    state: ContainerState = ContainerState.CONTAINER_UNKNOWN
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_id: str = ""
    image_ref: str = ""
    hash: int = 0
    restart_count: int = 0
    log_path: str = ""
    stop_signal: str = ""
    user: LinuxContainerUser | None = None
    resources: LinuxContainerResources | None = None
    mounts: tuple[Mount, ...] = ()

    @property
    def running(self) -> bool:
        return self.state == ContainerState.CONTAINER_RUNNING

    @property
    def exited(self) -> bool:
        return self.state == ContainerState.CONTAINER_EXITED


class RuntimePodStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`timestamp` is when this was true, in nanoseconds since the epoch; whatever happened before is in it."""

    uid: str
    name: str = ""
    namespace: str = ""
    ips: tuple[str, ...] = ()
    sandboxes: tuple[PodSandboxStatus, ...] = ()
    containers: tuple[RuntimeContainerStatus, ...] = ()
    timestamp: int = 0

    def container(self, name: str) -> RuntimeContainerStatus | None:
        """The newest instance of a container."""
        for each in self.containers:
            if each.name == name:
                return each
        return None

    def running_containers(self) -> list[RuntimeContainerStatus]:
        return [each for each in self.containers if each.running]

    def active_containers(self) -> list[RuntimeContainerStatus]:
        """The containers of the newest sandbox, if that is ready."""
        if not self.sandboxes or self.sandboxes[0].state != PodSandboxState.SANDBOX_READY:
            return []
        return [each for each in self.containers if each.sandbox_id == self.sandboxes[0].id]

    @property
    def stopped(self) -> bool:
        """Whether nothing of the pod runs any more."""
        return not self.running_containers() and all(
            each.state != PodSandboxState.SANDBOX_READY for each in self.sandboxes
        )


def container_status(
    status: ContainerStatus, sandbox_id: str, termination_messages: Mapping[str, str]
) -> RuntimeContainerStatus:
    """From the CRI's message; `termination_messages` are by container id."""
    exited = status.state == ContainerState.CONTAINER_EXITED
    message = status.message if exited else ""
    said = termination_messages.get(status.id, "") if exited else ""
    return RuntimeContainerStatus(
        id=status.id,
        name=status.labels.get(labels.CONTAINER_NAME) or status.metadata.name,
        sandbox_id=sandbox_id,
        state=status.state,
        created_at=status.created_at,
        started_at=status.started_at if status.state != ContainerState.CONTAINER_CREATED else 0,
        finished_at=status.finished_at if exited else 0,
        exit_code=status.exit_code if exited else 0,
        reason=status.reason if exited else "",
        message=f"{message}: {said}" if message and said else message or said,
        image=status.image.image if status.image is not None else "",
        image_id=status.image_id or status.image_ref,
        image_ref=status.image_ref,
        hash=labels.number(status.annotations, labels.HASH, 16),
        restart_count=labels.number(status.annotations, labels.RESTART_COUNT),
        log_path=status.log_path,
        stop_signal=status.stop_signal,
        user=status.user,
        resources=status.resources,
        mounts=tuple(status.mounts),
    )


def pod_status(
    uid: str,
    sandboxes: Iterable[PodSandboxStatus],
    containers: Iterable[RuntimeContainerStatus],
    *,
    timestamp: int,
    before: RuntimePodStatus | None = None,
) -> RuntimePodStatus:
    """The status of a pod, its parts sorted. A pod that is gone or stopped keeps the addresses it had `before`."""
    ordered = tuple(sorted(sandboxes, key=_newest_sandbox))
    return RuntimePodStatus(
        uid=uid,
        name=ordered[0].metadata.name if ordered else before.name if before else "",
        namespace=ordered[0].metadata.namespace if ordered else before.namespace if before else "",
        ips=_ips(ordered, before),
        sandboxes=ordered,
        containers=tuple(sorted(containers, key=_newest_container)),
        timestamp=timestamp,
    )


def with_sandbox(
    before: RuntimePodStatus | None,
    sandbox: PodSandboxStatus,
    containers: Iterable[RuntimeContainerStatus],
    *,
    removed: bool,
    timestamp: int,
) -> RuntimePodStatus:
    """`before`, with everything about one of its sandboxes replaced by what an event said about that one."""
    others = [each for each in before.sandboxes if each.id != sandbox.id] if before else []
    kept = [each for each in before.containers if each.sandbox_id != sandbox.id] if before else []
    return pod_status(
        sandbox.metadata.uid,
        others if removed else [*others, sandbox],
        kept if removed else [*kept, *containers],
        timestamp=timestamp,
        before=before,
    )


def _newest_sandbox(sandbox: PodSandboxStatus) -> tuple[int, int, str]:
    return -sandbox.metadata.attempt, -sandbox.created_at, sandbox.id


def _newest_container(container: RuntimeContainerStatus) -> tuple[int, int]:
    # The count first: a clock that was set back makes a later instance an earlier one.
    return -container.restart_count, -container.created_at


def _ips(sandboxes: tuple[PodSandboxStatus, ...], before: RuntimePodStatus | None) -> tuple[str, ...]:
    if sandboxes and sandboxes[0].state == PodSandboxState.SANDBOX_READY:
        return sandbox_ips(sandboxes[0])
    return before.ips if before else ()


def sandbox_ips(sandbox: PodSandboxStatus) -> tuple[str, ...]:
    """The sandbox's addresses, the first one first; none on the host's network."""
    if sandbox.network is None or not sandbox.network.ip:
        return ()
    return (sandbox.network.ip, *sandbox.network.additional_ips)


def dead_beyond_kept(containers: Iterable[RuntimeContainerStatus], keep: int) -> list[RuntimeContainerStatus]:
    """The dead instances of one container beyond the newest `keep`; `containers` are newest first. Pure."""
    dead = [each for each in containers if not each.running]
    return dead[max(keep, 0) :]


class SandboxChange(msgspec.Struct, frozen=True):
    """Whether a pod needs a new sandbox, which attempt that would be, and the sandbox there is."""

    needed: bool
    attempt: int = 0
    sandbox_id: str = ""


def sandbox_change(pod: Pod, status: RuntimePodStatus) -> SandboxChange:
    """Decides whether the pod's newest sandbox will do.

    It must be ready, the only ready one, on the network that the pod asks for, and have an address there.
    Source: pkg/kubelet/kuberuntime/util/util.go, PodSandboxChanged.
    """
    if not status.sandboxes:
        return SandboxChange(True)
    newest = status.sandboxes[0]
    attempt = newest.metadata.attempt
    ready = sum(each.state == PodSandboxState.SANDBOX_READY for each in status.sandboxes)
    if ready > 1 or newest.state != PodSandboxState.SANDBOX_READY:
        return SandboxChange(True, attempt + 1, newest.id)
    wanted = NamespaceMode.NODE if pod.spec.host_network else NamespaceMode.POD
    if (newest.namespaces.network if newest.namespaces is not None else NamespaceMode.POD) != wanted:
        return SandboxChange(True, attempt + 1)
    if not pod.spec.host_network and newest.network is not None and not newest.network.ip:
        return SandboxChange(True, attempt + 1, newest.id)
    return SandboxChange(False, attempt, newest.id)
