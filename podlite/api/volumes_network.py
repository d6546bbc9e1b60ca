"""Volumes that live on other machines or in a cloud (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, empty_list, null

if TYPE_CHECKING:
    from podlite.api.base import Int32
    from podlite.api.references import LocalObjectReference


class AWSElasticBlockStoreVolumeSource(Object):
    volume_id: str = field(default_factory=str)
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False


class AzureDiskVolumeSource(Object):
    disk_name: str = field(default_factory=str)
    disk_uri: str = field(default_factory=str)
    caching_mode: str | None = None
    fs_type: str | None = None
    read_only: bool | None = None
    kind: str | None = None


class AzureFileVolumeSource(Object):
    secret_name: str = field(default_factory=str)
    share_name: str = field(default_factory=str)
    read_only: bool = False


class CephFSVolumeSource(Object):
    monitors: list[str] = field(default_factory=empty_list)
    path: str = ""
    user: str = ""
    secret_file: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False


class CinderVolumeSource(Object):
    volume_id: str = field(default_factory=str)
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class CSIVolumeSource(Object):
    driver: str = field(default_factory=str)
    read_only: bool | None = None
    fs_type: str | None = None
    volume_attributes: dict[str, str] = {}
    node_publish_secret_ref: LocalObjectReference | None = None


class FCVolumeSource(Object):
    target_wwns: list[str] = []
    lun: Int32 | None = None
    fs_type: str = ""
    read_only: bool = False
    wwids: list[str] = []


class FlexVolumeSource(Object):
    driver: str = field(default_factory=str)
    fs_type: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False
    options: dict[str, str] = {}


class FlockerVolumeSource(Object):
    dataset_name: str = ""
    dataset_uuid: str = ""


class GCEPersistentDiskVolumeSource(Object):
    pd_name: str = field(default_factory=str)
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False


class GitRepoVolumeSource(Object):
    repository: str = field(default_factory=str)
    revision: str = ""
    directory: str = ""


class GlusterfsVolumeSource(Object):
    endpoints: str = field(default_factory=str)
    path: str = field(default_factory=str)
    read_only: bool = False


class ISCSIVolumeSource(Object):
    target_portal: str = field(default_factory=str)
    iqn: str = field(default_factory=str)
    lun: Int32 = field(default_factory=int)
    iscsi_interface: str = ""
    fs_type: str = ""
    read_only: bool = False
    portals: list[str] = []
    chap_auth_discovery: bool = False
    chap_auth_session: bool = False
    secret_ref: LocalObjectReference | None = None
    initiator_name: str | None = None


class NFSVolumeSource(Object):
    server: str = field(default_factory=str)
    path: str = field(default_factory=str)
    read_only: bool = False


class PhotonPersistentDiskVolumeSource(Object):
    pd_id: str = field(default_factory=str)
    fs_type: str = ""


class PortworxVolumeSource(Object):
    volume_id: str = field(default_factory=str)
    fs_type: str = ""
    read_only: bool = False


class QuobyteVolumeSource(Object):
    registry: str = field(default_factory=str)
    volume: str = field(default_factory=str)
    read_only: bool = False
    user: str = ""
    group: str = ""
    tenant: str = ""


class RBDVolumeSource(Object):
    monitors: list[str] = field(default_factory=empty_list)
    image: str = field(default_factory=str)
    fs_type: str = ""
    pool: str = ""
    user: str = ""
    keyring: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False


class ScaleIOVolumeSource(Object):
    gateway: str = field(default_factory=str)
    system: str = field(default_factory=str)
    secret_ref: LocalObjectReference | None = field(default_factory=null)
    ssl_enabled: bool = False
    protection_domain: str = ""
    storage_pool: str = ""
    storage_mode: str = ""
    volume_name: str = ""
    fs_type: str = ""
    read_only: bool = False


class StorageOSVolumeSource(Object):
    volume_name: str = ""
    volume_namespace: str = ""
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class VsphereVirtualDiskVolumeSource(Object):
    volume_path: str = field(default_factory=str)
    fs_type: str = ""
    storage_policy_name: str = ""
    storage_policy_id: str = ""
