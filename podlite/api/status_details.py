"""The rarer parts of a pod's status: users, mounts, allocated resources and claims (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, empty_dict, empty_list

if TYPE_CHECKING:
    from podlite.api.base import Quantity


class LinuxContainerUser(Object):
    uid: int = field(default_factory=int)
    gid: int = field(default_factory=int)
    supplemental_groups: list[int] = []


class ContainerUser(Object):
    linux: LinuxContainerUser | None = None


class ImageVolumeStatus(Object):
    image_ref: str = ""


class VolumeStatus(Object):
    image: ImageVolumeStatus | None = None


class VolumeMountStatus(Object):
    name: str = field(default_factory=str)
    mount_path: str = field(default_factory=str)
    read_only: bool = False
    recursive_read_only: str | None = None
    volume_status: VolumeStatus | None = None


class ResourceHealth(Object):
    resource_id: str = field(default_factory=str)
    health: str = ""
    message: str | None = None


class ResourceStatus(Object):
    name: str = field(default_factory=str)
    resources: list[ResourceHealth] = []


class PodResourceClaimStatus(Object):
    name: str = field(default_factory=str)
    resource_claim_name: str | None = None


class ContainerExtendedResourceRequest(Object):
    container_name: str = field(default_factory=str)
    resource_name: str = field(default_factory=str)
    request_name: str = field(default_factory=str)


class PodExtendedResourceClaimStatus(Object):
    request_mappings: list[ContainerExtendedResourceRequest] = field(default_factory=empty_list)
    resource_claim_name: str = field(default_factory=str)


class NodeAllocatableResourceClaimStatus(Object):
    resource_claim_name: str = field(default_factory=str)
    containers: list[str] = []
    resources: dict[str, Quantity] = field(default_factory=empty_dict)
