"""The pod itself (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, constant, empty_list
from podlite.api.meta import ObjectMeta
from podlite.api.status import PodStatus

if TYPE_CHECKING:
    from podlite.api.base import Int32, Quantity
    from podlite.api.container import Container, EphemeralContainer, ResourceRequirements
    from podlite.api.references import LocalObjectReference
    from podlite.api.scheduling import (
        Affinity,
        PodResourceClaim,
        PodSchedulingGate,
        PodSchedulingGroup,
        Toleration,
        TopologySpreadConstraint,
    )
    from podlite.api.security import PodSecurityContext
    from podlite.api.volumes import Volume


class HostAlias(Object):
    """One line of the pod's /etc/hosts."""

    ip: str = field(default_factory=str)
    hostnames: list[str] = []


class PodDNSConfigOption(Object):
    name: str = ""
    value: str | None = None


class PodDNSConfig(Object):
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSConfigOption] = []


class PodOS(Object):
    name: str = field(default_factory=str)


class PodReadinessGate(Object):
    condition_type: str = field(default_factory=str)


class PodSpec(Object):
    """What is to run. Unset differs from zero wherever the type allows None."""

    volumes: list[Volume] = []
    init_containers: list[Container] = []
    containers: list[Container] = field(default_factory=empty_list)
    ephemeral_containers: list[EphemeralContainer] = []
    restart_policy: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    dns_policy: str = ""
    node_selector: dict[str, str] = {}
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    node_name: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool | None = None
    security_context: PodSecurityContext | None = None
    image_pull_secrets: list[LocalObjectReference] = []
    hostname: str = ""
    subdomain: str = ""
    affinity: Affinity | None = None
    scheduler_name: str = ""
    tolerations: list[Toleration] = []
    host_aliases: list[HostAlias] = []
    priority_class_name: str = ""
    priority: Int32 | None = None
    dns_config: PodDNSConfig | None = None
    readiness_gates: list[PodReadinessGate] = []
    runtime_class_name: str | None = None
    enable_service_links: bool | None = None
    preemption_policy: str | None = None
    overhead: dict[str, Quantity] = {}
    topology_spread_constraints: list[TopologySpreadConstraint] = []
    set_hostname_as_fqdn: bool | None = None
    os: PodOS | None = None
    host_users: bool | None = None
    scheduling_gates: list[PodSchedulingGate] = []
    resource_claims: list[PodResourceClaim] = []
    resources: ResourceRequirements | None = None
    hostname_override: str | None = None
    scheduling_group: PodSchedulingGroup | None = None


class PodTemplateSpec(Object):
    """The pods that a workload makes."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)


class Pod(Object):
    """Containers that share a machine, an address and volumes."""

    kind: str = field(default_factory=constant("Pod"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)
