"""The metadata that every object carries (metav1.ObjectMeta).

Source: k8s.io/apimachinery/pkg/apis/meta/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.base import Object

if TYPE_CHECKING:
    from podlite.api.base import Time
    from podlite.api.references import ManagedFieldsEntry, OwnerReference


class ObjectMeta(Object):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []
    managed_fields: list[ManagedFieldsEntry] = []
