"""How one object names another, and who set which of its fields.

Source: k8s.io/apimachinery/pkg/apis/meta/v1/types.go and k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from podlite.api.base import Object, null

if TYPE_CHECKING:
    from podlite.api.base import Time


class OwnerReference(Object):
    """Names an object that this one depends on; at most one of them has `controller` true."""

    api_version: str = field(default_factory=str)
    kind: str = field(default_factory=str)
    name: str = field(default_factory=str)
    uid: str = field(default_factory=str)
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ManagedFieldsEntry(Object):
    """Which manager set which fields; `fields_v1` is kept as it came."""

    manager: str = ""
    operation: str = ""
    api_version: str = ""
    time: Time | None = None
    fields_type: str = ""
    fields_v1: Any | None = None
    subresource: str = ""


class ObjectReference(Object):
    """Names any object, or a part of one by `field_path`."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class LocalObjectReference(Object):
    """Names an object in the same namespace."""

    name: str = ""


class TypedLocalObjectReference(Object):
    api_group: str | None = field(default_factory=null)
    kind: str = field(default_factory=str)
    name: str = field(default_factory=str)


class TypedObjectReference(Object):
    api_group: str | None = field(default_factory=null)
    kind: str = field(default_factory=str)
    name: str = field(default_factory=str)
    namespace: str | None = None
