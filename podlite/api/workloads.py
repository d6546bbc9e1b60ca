"""The workloads whose pod templates podlite runs (apps/v1 and batch/v1), without their status.

Source: k8s.io/api/apps/v1/types.go and k8s.io/api/batch/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from podlite.api.base import Object, constant, empty_list, null
from podlite.api.meta import ObjectMeta
from podlite.api.pod import PodTemplateSpec

if TYPE_CHECKING:
    from podlite.api.base import Int32, IntOrString
    from podlite.api.claims import PersistentVolumeClaim
    from podlite.api.selectors import LabelSelector


class RollingUpdateDeployment(Object):
    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None


class DeploymentStrategy(Object):
    type: str = ""
    rolling_update: RollingUpdateDeployment | None = None


class DeploymentSpec(Object):
    replicas: Int32 | None = None
    selector: LabelSelector | None = field(default_factory=null)
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    strategy: DeploymentStrategy = field(default_factory=DeploymentStrategy)
    min_ready_seconds: Int32 = 0
    revision_history_limit: Int32 | None = None
    paused: bool = False
    progress_deadline_seconds: Int32 | None = None


class Deployment(Object):
    kind: str = field(default_factory=constant("Deployment"))
    api_version: str = field(default_factory=constant("apps/v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: DeploymentSpec = field(default_factory=DeploymentSpec)
    status: Any | None = None


class ReplicaSetSpec(Object):
    replicas: Int32 | None = None
    min_ready_seconds: Int32 = 0
    selector: LabelSelector | None = field(default_factory=null)
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)


class ReplicaSet(Object):
    kind: str = field(default_factory=constant("ReplicaSet"))
    api_version: str = field(default_factory=constant("apps/v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ReplicaSetSpec = field(default_factory=ReplicaSetSpec)
    status: Any | None = None


class RollingUpdateStatefulSetStrategy(Object):
    partition: Int32 | None = None
    max_unavailable: IntOrString | None = None


class StatefulSetUpdateStrategy(Object):
    type: str = ""
    rolling_update: RollingUpdateStatefulSetStrategy | None = None


class StatefulSetPersistentVolumeClaimRetentionPolicy(Object):
    when_deleted: str = ""
    when_scaled: str = ""


class StatefulSetOrdinals(Object):
    start: Int32 = field(default_factory=int)


class StatefulSetSpec(Object):
    replicas: Int32 | None = None
    selector: LabelSelector | None = field(default_factory=null)
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    volume_claim_templates: list[PersistentVolumeClaim] = []
    service_name: str = field(default_factory=str)
    pod_management_policy: str = ""
    update_strategy: StatefulSetUpdateStrategy = field(default_factory=StatefulSetUpdateStrategy)
    revision_history_limit: Int32 | None = None
    min_ready_seconds: Int32 = 0
    persistent_volume_claim_retention_policy: StatefulSetPersistentVolumeClaimRetentionPolicy | None = None
    ordinals: StatefulSetOrdinals | None = None


class StatefulSet(Object):
    kind: str = field(default_factory=constant("StatefulSet"))
    api_version: str = field(default_factory=constant("apps/v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: StatefulSetSpec = field(default_factory=StatefulSetSpec)
    status: Any | None = None


class RollingUpdateDaemonSet(Object):
    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None


class DaemonSetUpdateStrategy(Object):
    type: str = ""
    rolling_update: RollingUpdateDaemonSet | None = None


class DaemonSetSpec(Object):
    selector: LabelSelector | None = field(default_factory=null)
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    update_strategy: DaemonSetUpdateStrategy = field(default_factory=DaemonSetUpdateStrategy)
    min_ready_seconds: Int32 = 0
    revision_history_limit: Int32 | None = None


class DaemonSet(Object):
    kind: str = field(default_factory=constant("DaemonSet"))
    api_version: str = field(default_factory=constant("apps/v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: DaemonSetSpec = field(default_factory=DaemonSetSpec)
    status: Any | None = None


class PodFailurePolicyOnExitCodesRequirement(Object):
    container_name: str | None = None
    operator: str = field(default_factory=str)
    values: list[Int32] = field(default_factory=empty_list)


class PodFailurePolicyOnPodConditionsPattern(Object):
    type: str = field(default_factory=str)
    status: str = field(default_factory=str)


class PodFailurePolicyRule(Object):
    action: str = field(default_factory=str)
    on_exit_codes: PodFailurePolicyOnExitCodesRequirement | None = None
    on_pod_conditions: list[PodFailurePolicyOnPodConditionsPattern] = []


class PodFailurePolicy(Object):
    rules: list[PodFailurePolicyRule] = field(default_factory=empty_list)


class SuccessPolicyRule(Object):
    succeeded_indexes: str | None = None
    succeeded_count: Int32 | None = None


class SuccessPolicy(Object):
    rules: list[SuccessPolicyRule] = field(default_factory=empty_list)


class JobSpec(Object):
    parallelism: Int32 | None = None
    completions: Int32 | None = None
    active_deadline_seconds: int | None = None
    pod_failure_policy: PodFailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    backoff_limit: Int32 | None = None
    backoff_limit_per_index: Int32 | None = None
    max_failed_indexes: Int32 | None = None
    selector: LabelSelector | None = None
    manual_selector: bool | None = None
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    ttl_seconds_after_finished: Int32 | None = None
    completion_mode: str | None = None
    suspend: bool | None = None
    pod_replacement_policy: str | None = None
    managed_by: str | None = None


class Job(Object):
    kind: str = field(default_factory=constant("Job"))
    api_version: str = field(default_factory=constant("batch/v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: JobSpec = field(default_factory=JobSpec)
    status: Any | None = None
