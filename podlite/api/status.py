"""The status of a pod and of its containers (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, null

if TYPE_CHECKING:
    from podlite.api.base import Int32, Quantity, Time
    from podlite.api.container import ResourceRequirements
    from podlite.api.status_details import (
        ContainerUser,
        NodeAllocatableResourceClaimStatus,
        PodExtendedResourceClaimStatus,
        PodResourceClaimStatus,
        ResourceStatus,
        VolumeMountStatus,
    )


class HostIP(Object):
    ip: str = field(default_factory=str)


class PodIP(Object):
    ip: str = field(default_factory=str)


class PodCondition(Object):
    """`type` is PodScheduled, PodReadyToStartContainers, Initialized, ContainersReady, Ready or a gate's own."""

    type: str = field(default_factory=str)
    observed_generation: int = 0
    status: str = field(default_factory=str)
    last_probe_time: Time | None = field(default_factory=null)
    last_transition_time: Time | None = field(default_factory=null)
    reason: str = ""
    message: str = ""


class ContainerStateWaiting(Object):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(Object):
    started_at: Time | None = field(default_factory=null)


class ContainerStateTerminated(Object):
    """`signal` is 0 unless a signal ended the container."""

    exit_code: Int32 = field(default_factory=int)
    signal: Int32 = 0
    reason: str = ""
    message: str = ""
    started_at: Time | None = field(default_factory=null)
    finished_at: Time | None = field(default_factory=null)
    container_id: str = ""


class ContainerState(Object):
    """At most one of the three is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Object):
    name: str = field(default_factory=str)
    state: ContainerState = field(default_factory=ContainerState)
    last_state: ContainerState = field(default_factory=ContainerState)
    ready: bool = field(default_factory=bool)
    restart_count: Int32 = field(default_factory=int)
    image: str = field(default_factory=str)
    image_id: str = field(default_factory=str)
    container_id: str = ""
    started: bool | None = None
    allocated_resources: dict[str, Quantity] = {}
    resources: ResourceRequirements | None = None
    volume_mounts: list[VolumeMountStatus] = []
    user: ContainerUser | None = None
    allocated_resources_status: list[ResourceStatus] = []
    stop_signal: str | None = None


class PodStatus(Object):
    """`phase` is Pending, Running, Succeeded, Failed or Unknown."""

    observed_generation: int = 0
    phase: str = ""
    conditions: list[PodCondition] = []
    message: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    host_ip: str = ""
    host_ips: list[HostIP] = []
    pod_ip: str = ""
    pod_ips: list[PodIP] = []
    start_time: Time | None = None
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []
    qos_class: str = ""
    ephemeral_container_statuses: list[ContainerStatus] = []
    resize: str = ""
    resource_claim_statuses: list[PodResourceClaimStatus] = []
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None
    allocated_resources: dict[str, Quantity] = {}
    resources: ResourceRequirements | None = None
    node_allocatable_resource_claim_statuses: list[NodeAllocatableResourceClaimStatus] = []
