"""Which module defines which type: how a type that is named in an annotation only is found when it is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podlite.api.base import Object

_TYPES = {
    "claims": (
        "VolumeResourceRequirements PersistentVolumeClaimSpec PersistentVolumeClaimTemplate EphemeralVolumeSource "
        "PersistentVolumeClaim"
    ),
    "config": "ConfigMap Secret",
    "container": (
        "ContainerPort EnvVar ResourceClaim ResourceRequirements VolumeMount VolumeDevice Container EphemeralContainer"
    ),
    "env": (
        "ObjectFieldSelector ResourceFieldSelector ConfigMapKeySelector SecretKeySelector FileKeySelector "
        "EnvVarSource ConfigMapEnvSource SecretEnvSource EnvFromSource"
    ),
    "events": "EventSource EventSeries Event",
    "meta": "ObjectMeta",
    "pod": "HostAlias PodDNSConfigOption PodDNSConfig PodOS PodReadinessGate PodSpec PodTemplateSpec Pod",
    "probes": (
        "ExecAction HTTPHeader HTTPGetAction TCPSocketAction GRPCAction SleepAction Probe LifecycleHandler Lifecycle"
    ),
    "references": (
        "OwnerReference ManagedFieldsEntry ObjectReference LocalObjectReference TypedLocalObjectReference "
        "TypedObjectReference"
    ),
    "responses": "ShardInfo ListMeta List StatusCause StatusDetails Status",
    "restarts": "ContainerResizePolicy ContainerRestartRuleOnExitCodes ContainerRestartRule",
    "scheduling": (
        "NodeSelectorRequirement NodeSelectorTerm NodeSelector PreferredSchedulingTerm NodeAffinity "
        "PodAffinityTerm WeightedPodAffinityTerm PodAffinity PodAntiAffinity Affinity Toleration "
        "TopologySpreadConstraint PodSchedulingGate PodSchedulingGroup PodResourceClaim"
    ),
    "security": (
        "Capabilities SeccompProfile AppArmorProfile SELinuxOptions WindowsSecurityContextOptions Sysctl "
        "SecurityContext PodSecurityContext"
    ),
    "selectors": "LabelSelector LabelSelectorRequirement",
    "status": (
        "HostIP PodIP PodCondition ContainerStateWaiting ContainerStateRunning ContainerStateTerminated "
        "ContainerState ContainerStatus PodStatus"
    ),
    "status_details": (
        "LinuxContainerUser ContainerUser ImageVolumeStatus VolumeStatus VolumeMountStatus ResourceHealth "
        "ResourceStatus PodResourceClaimStatus ContainerExtendedResourceRequest PodExtendedResourceClaimStatus "
        "NodeAllocatableResourceClaimStatus"
    ),
    "volumes": (
        "EmptyDirVolumeSource HostPathVolumeSource KeyToPath ConfigMapVolumeSource SecretVolumeSource "
        "DownwardAPIVolumeFile DownwardAPIVolumeSource PersistentVolumeClaimVolumeSource ImageVolumeSource "
        "ConfigMapProjection SecretProjection DownwardAPIProjection ServiceAccountTokenProjection "
        "ClusterTrustBundleProjection PodCertificateProjection VolumeProjection ProjectedVolumeSource Volume"
    ),
    "volumes_network": (
        "AWSElasticBlockStoreVolumeSource AzureDiskVolumeSource AzureFileVolumeSource CephFSVolumeSource "
        "CinderVolumeSource CSIVolumeSource FCVolumeSource FlexVolumeSource FlockerVolumeSource "
        "GCEPersistentDiskVolumeSource GitRepoVolumeSource GlusterfsVolumeSource ISCSIVolumeSource "
        "NFSVolumeSource PhotonPersistentDiskVolumeSource PortworxVolumeSource QuobyteVolumeSource "
        "RBDVolumeSource ScaleIOVolumeSource StorageOSVolumeSource VsphereVirtualDiskVolumeSource"
    ),
    "workloads": (
        "RollingUpdateDeployment DeploymentStrategy DeploymentSpec Deployment ReplicaSetSpec ReplicaSet "
        "RollingUpdateStatefulSetStrategy StatefulSetUpdateStrategy "
        "StatefulSetPersistentVolumeClaimRetentionPolicy StatefulSetOrdinals StatefulSetSpec StatefulSet "
        "RollingUpdateDaemonSet DaemonSetUpdateStrategy DaemonSetSpec DaemonSet "
        "PodFailurePolicyOnExitCodesRequirement PodFailurePolicyOnPodConditionsPattern PodFailurePolicyRule "
        "PodFailurePolicy SuccessPolicyRule SuccessPolicy JobSpec Job"
    ),
}

_homes: dict[str, str] = {}


def find(name: str) -> type[Object]:
    """The type of that name, importing its module if need be. Raises LookupError for a name that is no type."""
    if not _homes:
        _homes.update({each: module for module, names in _TYPES.items() for each in names.split()})
    home = _homes.get(name)
    if home is None:
        raise LookupError(f"{name!r} is not an API type; add it to podlite.api.registry")
    found: type[Object] = getattr(importlib.import_module(f"podlite.api.{home}"), name)
    return found


def names() -> list[str]:
    """The names of all API types."""
    return [name for group in _TYPES.values() for name in group.split()]
