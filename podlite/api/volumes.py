"""Volumes whose content is this machine's or the API's own (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, empty_list

if TYPE_CHECKING:
    from podlite.api.base import Int32, Quantity
    from podlite.api.claims import EphemeralVolumeSource
    from podlite.api.env import ObjectFieldSelector, ResourceFieldSelector
    from podlite.api.selectors import LabelSelector
    from podlite.api.volumes_network import (
        AWSElasticBlockStoreVolumeSource,
        AzureDiskVolumeSource,
        AzureFileVolumeSource,
        CephFSVolumeSource,
        CinderVolumeSource,
        CSIVolumeSource,
        FCVolumeSource,
        FlexVolumeSource,
        FlockerVolumeSource,
        GCEPersistentDiskVolumeSource,
        GitRepoVolumeSource,
        GlusterfsVolumeSource,
        ISCSIVolumeSource,
        NFSVolumeSource,
        PhotonPersistentDiskVolumeSource,
        PortworxVolumeSource,
        QuobyteVolumeSource,
        RBDVolumeSource,
        ScaleIOVolumeSource,
        StorageOSVolumeSource,
        VsphereVirtualDiskVolumeSource,
    )


class EmptyDirVolumeSource(Object):
    """`medium` is empty (the disk), Memory, HugePages or HugePages-SIZE."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolumeSource(Object):
    """`type` empty: no check; DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice."""

    path: str = field(default_factory=str)
    type: str | None = None


class KeyToPath(Object):
    key: str = field(default_factory=str)
    path: str = field(default_factory=str)
    mode: Int32 | None = None


class ConfigMapVolumeSource(Object):
    name: str = ""
    items: list[KeyToPath] = []
    default_mode: Int32 | None = None
    optional: bool | None = None


class SecretVolumeSource(Object):
    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: Int32 | None = None
    optional: bool | None = None


class DownwardAPIVolumeFile(Object):
    path: str = field(default_factory=str)
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Int32 | None = None


class DownwardAPIVolumeSource(Object):
    items: list[DownwardAPIVolumeFile] = []
    default_mode: Int32 | None = None


class PersistentVolumeClaimVolumeSource(Object):
    claim_name: str = field(default_factory=str)
    read_only: bool = False


class ImageVolumeSource(Object):
    reference: str = ""
    pull_policy: str = ""


class ConfigMapProjection(Object):
    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class SecretProjection(Object):
    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class DownwardAPIProjection(Object):
    items: list[DownwardAPIVolumeFile] = []


class ServiceAccountTokenProjection(Object):
    audience: str = ""
    expiration_seconds: int | None = None
    path: str = field(default_factory=str)


class ClusterTrustBundleProjection(Object):
    name: str | None = None
    signer_name: str | None = None
    label_selector: LabelSelector | None = None
    optional: bool | None = None
    path: str = field(default_factory=str)


class PodCertificateProjection(Object):
    signer_name: str = ""
    key_type: str = ""
    max_expiration_seconds: Int32 | None = None
    credential_bundle_path: str = ""
    key_path: str = ""
    certificate_chain_path: str = ""
    user_annotations: dict[str, str] = {}


class VolumeProjection(Object):
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = None
    config_map: ConfigMapProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    pod_certificate: PodCertificateProjection | None = None


class ProjectedVolumeSource(Object):
    sources: list[VolumeProjection] = field(default_factory=empty_list)
    default_mode: Int32 | None = None


class Volume(Object):
    """Exactly one of the sources is set; none at all means an empty directory."""

    name: str = field(default_factory=str)
    host_path: HostPathVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    git_repo: GitRepoVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    glusterfs: GlusterfsVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    rbd: RBDVolumeSource | None = None
    flex_volume: FlexVolumeSource | None = None
    cinder: CinderVolumeSource | None = None
    cephfs: CephFSVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = None
    fc: FCVolumeSource | None = None
    azure_file: AzureFileVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    scale_io: ScaleIOVolumeSource | None = None
    storageos: StorageOSVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    image: ImageVolumeSource | None = None
