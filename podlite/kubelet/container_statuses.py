"""The statuses of a pod's containers, from the specification, the runtime and what was reported before.

Source: pkg/kubelet/kubelet_pods.go (convertToAPIContainerStatuses) and prober/prober_manager.go
(UpdatePodStatus), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
)
from podlite.cri.types import ContainerState as RuntimeState
from podlite.kubelet import restart
from podlite.kubelet.actions import has_any_app_container
from podlite.kubelet.gotime import rfc3339
from podlite.kubelet.labels import is_sidecar
from podlite.kubelet.types import ProbeResult, ProbeResults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.status_details import ContainerUser, VolumeMountStatus
    from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus
    from podlite.kubelet.types import Waiting

CONTAINER_CREATING = "ContainerCreating"
POD_INITIALIZING = "PodInitializing"
STATUS_UNKNOWN = "ContainerStatusUnknown"

LOST_MESSAGE = "The container could not be located when the pod was terminated"
_LOST_RUNNING_MESSAGE = "The container could not be located when the pod was deleted.  The container used to be Running"
_INITIALIZED_MESSAGE = (
    "Unable to get init container status from container runtime and pod has been initialized, "
    "treat it as exited normally"
)
# What all termination messages of a pod may have together, in bytes (kubecontainer.MaxPodTerminationMessageLogLength).
_MAX_POD_MESSAGES = 12 * 1024


class Facts:
    """What the statuses of all containers of a pod are made of."""

    __slots__ = ("message_limit", "pod", "probes", "recursive_read_only", "runtime", "runtime_name", "waiting")

    def __init__(
        self,
        pod: Pod,
        runtime: RuntimePodStatus,
        waiting: Mapping[str, Waiting],
        probes: ProbeResults,
        *,
        runtime_name: str,
        recursive_read_only: bool,
    ) -> None:
        self.pod = pod
        self.runtime = runtime
        self.waiting = waiting
        self.probes = probes
        self.runtime_name = runtime_name
        self.recursive_read_only = recursive_read_only
        spec = pod.spec
        count = len(spec.containers) + len(spec.init_containers) + len(spec.ephemeral_containers)
        self.message_limit = _MAX_POD_MESSAGES // max(count, 1)


def container_statuses(
    facts: Facts, containers: Sequence[Container], before: Sequence[ContainerStatus], *, init: bool = False
) -> list[ContainerStatus]:
    """One status per container: init containers in the order of the specification, others by name."""
    known = {each.name: each for each in before}
    result = []
    for container in containers:
        old = known.get(container.name)
        instances = [each for each in facts.runtime.containers if each.name == container.name]
        status = _initial(facts, container, old, bool(instances))
        if instances:
            status = _of_instance(facts, container, instances[0], old)
            if len(instances) > 1:
                last = _state(facts, instances[1], old)
                if instances[1].state != RuntimeState.CONTAINER_UNKNOWN or last.terminated is not None:
                    status.last_state = last
        result.append(_as_waiting(facts, container, status, init))
    return result if init else sorted(result, key=lambda each: each.name)


def _initial(facts: Facts, container: Container, old: ContainerStatus | None, exists: bool) -> ContainerStatus:
    """The status of a container that the runtime does not know."""
    if old is not None and old.state.terminated is not None:
        return structs.replace(old)
    reason = POD_INITIALIZING if facts.pod.spec.init_containers else CONTAINER_CREATING
    status = ContainerStatus(
        name=container.name,
        image=container.image,
        state=ContainerState(waiting=ContainerStateWaiting(reason=reason)),
        volume_mounts=_volume_mounts(facts, container),
    )
    if old is None:
        return status
    status.restart_count = old.restart_count
    status.last_state = old.last_state
    if not exists and old.state.running is not None and old.last_state.terminated is None:
        # It ran, and its end was missed: that is an end, or the pod would seem to have gone back to Pending.
        status.last_state = ContainerState(
            terminated=ContainerStateTerminated(exit_code=137, reason=STATUS_UNKNOWN, message=_LOST_RUNNING_MESSAGE)
        )
        if facts.pod.metadata.deletion_timestamp is None:
            status.restart_count += 1
    return status


def _of_instance(
    facts: Facts, container: Container, instance: RuntimeContainerStatus, old: ContainerStatus | None
) -> ContainerStatus:
    status = ContainerStatus(
        name=container.name,
        state=_state(facts, instance, old),
        restart_count=instance.restart_count,
        image=instance.image,
        image_id=instance.image_ref,
        container_id=f"{facts.runtime_name}://{instance.id}",
        resources=container.resources,
        allocated_resources=container.resources.requests,
        volume_mounts=_volume_mounts(facts, container),
        user=_user(instance),
        stop_signal=_stop_signal(container, instance),
    )
    if old is None:
        return status
    # What the runtime has forgotten since, because the dead container was removed.
    status.restart_count = max(status.restart_count, old.restart_count)
    if old.container_id != status.container_id and old.state.terminated is not None:
        status.last_state = old.state
    elif old.last_state.terminated is not None:
        status.last_state = old.last_state
    if instance.running:
        ended = old.state.terminated
        # An end that was missed has been counted when it was noticed.
        if ended is not None and ended.reason != STATUS_UNKNOWN and old.restart_count >= instance.restart_count:
            status.restart_count = old.restart_count + 1
        if old.container_id == status.container_id:
            status.started = old.started
    elif instance.state == RuntimeState.CONTAINER_UNKNOWN and old.state.running is not None:
        status.restart_count = old.restart_count + 1
    return status


def _state(facts: Facts, instance: RuntimeContainerStatus, old: ContainerStatus | None) -> ContainerState:
    if instance.running:
        return ContainerState(running=ContainerStateRunning(started_at=rfc3339(instance.started_at)))
    if instance.exited:
        return ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=instance.exit_code,
                reason=instance.reason,
                message=_cut(instance.message, facts.message_limit),
                started_at=rfc3339(instance.started_at),
                finished_at=rfc3339(instance.finished_at),
                container_id=f"{facts.runtime_name}://{instance.id}",
            )
        )
    if instance.state == RuntimeState.CONTAINER_UNKNOWN and old is not None and old.state.running is not None:
        return ContainerState(
            terminated=ContainerStateTerminated(exit_code=137, reason=STATUS_UNKNOWN, message=LOST_MESSAGE)
        )
    if (
        instance.state == RuntimeState.CONTAINER_UNKNOWN
        and old is not None
        and old.state.terminated is not None
        and old.container_id == f"{facts.runtime_name}://{instance.id}"
    ):
        # The kubelet says that it waits when it looks once more, and the pod is Pending for a moment.
        return old.state
    return ContainerState(waiting=ContainerStateWaiting())


def _as_waiting(facts: Facts, container: Container, status: ContainerStatus, init: bool) -> ContainerStatus:
    """A container that is about to be started, but could not be, waits; how it ended before is its last state."""
    newest = facts.runtime.container(container.name)
    if init:
        if newest is not None and newest.exited and newest.exit_code == 0:
            return status
        if (
            newest is None
            and status.state.waiting is not None
            and not is_sidecar(container)
            and has_any_app_container(facts.pod, facts.runtime)
        ):
            ended = ContainerStateTerminated(exit_code=0, reason="Completed", message=_INITIALIZED_MESSAGE)
            status.state = ContainerState(terminated=ended)
            return status
    why = facts.waiting.get(container.name)
    if why is None or not restart.to_be_started(container, facts.pod, facts.runtime):
        return status
    if status.state.terminated is not None:
        status.last_state = status.state
    status.state = ContainerState(waiting=ContainerStateWaiting(reason=why.reason, message=why.message))
    return status


def apply_probes(facts: Facts, statuses: Sequence[ContainerStatus], containers: Sequence[Container]) -> None:
    """Sets `started` and `ready` of app containers, or of sidecars among init containers."""
    specs = {each.name: each for each in containers}
    for status in statuses:
        status.started = _started(facts, status, specs[status.name])
        status.ready = status.started and _ready(facts, status, specs[status.name])


def apply_init_probes(facts: Facts, statuses: Sequence[ContainerStatus]) -> None:
    """The same for init containers, where one that is no sidecar is ready once it has completed."""
    for status, container in zip(statuses, facts.pod.spec.init_containers, strict=True):
        status.started = _started(facts, status, container)
        if is_sidecar(container):
            status.ready = status.started and _ready(facts, status, container)
        else:
            ended = status.state.terminated
            status.ready = ended is not None and ended.exit_code == 0


def _started(facts: Facts, status: ContainerStatus, container: Container) -> bool:
    if status.state.running is None:
        return False
    result = facts.probes.startup.get(_id(status))
    if result is not None:
        return result == ProbeResult.SUCCESS
    return bool(status.started) or container.startup_probe is None


def _ready(facts: Facts, status: ContainerStatus, container: Container) -> bool:
    if container.readiness_probe is None:
        return True
    return facts.probes.readiness.get(_id(status)) == ProbeResult.SUCCESS


def _id(status: ContainerStatus) -> str:
    return status.container_id.partition("://")[2]


def _cut(message: str, limit: int) -> str:
    if len(message) <= limit // 4:
        return message
    return message.encode()[:limit].decode(errors="ignore")


def _user(instance: RuntimeContainerStatus) -> ContainerUser | None:
    if instance.user is None:
        return None
    from podlite.api.status_details import ContainerUser, LinuxContainerUser

    user = instance.user
    return ContainerUser(
        linux=LinuxContainerUser(uid=user.uid, gid=user.gid, supplemental_groups=list(user.supplemental_groups))
    )


def _stop_signal(container: Container, instance: RuntimeContainerStatus) -> str | None:
    if container.lifecycle is None or container.lifecycle.stop_signal is None:
        return None
    return instance.stop_signal or container.lifecycle.stop_signal


def _volume_mounts(facts: Facts, container: Container) -> list[VolumeMountStatus]:
    if not container.volume_mounts:
        return []
    from podlite.api.status_details import VolumeMountStatus

    result = []
    for mount in container.volume_mounts:
        status = VolumeMountStatus(name=mount.name, mount_path=mount.mount_path, read_only=mount.read_only)
        if mount.read_only:
            wanted = mount.recursive_read_only in ("IfPossible", "Enabled")
            status.recursive_read_only = "Enabled" if wanted and facts.recursive_read_only else "Disabled"
        result.append(status)
    return result
