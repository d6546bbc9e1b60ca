"""Claims for persistent volumes, and the volumes that bring their own claim (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from podlite.api.base import Object, constant
from podlite.api.meta import ObjectMeta

if TYPE_CHECKING:
    from podlite.api.base import Quantity
    from podlite.api.references import TypedLocalObjectReference, TypedObjectReference
    from podlite.api.selectors import LabelSelector


class VolumeResourceRequirements(Object):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class PersistentVolumeClaimSpec(Object):
    access_modes: list[str] = []
    selector: LabelSelector | None = None
    resources: VolumeResourceRequirements = field(default_factory=VolumeResourceRequirements)
    volume_name: str = ""
    storage_class_name: str | None = None
    volume_mode: str | None = None
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    volume_attributes_class_name: str | None = None


class PersistentVolumeClaimTemplate(Object):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)


class EphemeralVolumeSource(Object):
    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class PersistentVolumeClaim(Object):
    """Only as a template of a StatefulSet."""

    kind: str = field(default_factory=constant("PersistentVolumeClaim"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)
    status: Any | None = None
