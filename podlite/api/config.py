"""ConfigMaps and Secrets (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from msgspec import field

from podlite.api.base import Object, constant
from podlite.api.meta import ObjectMeta


class ConfigMap(Object):
    """Text in `data`, bytes in `binary_data`; a key may be in only one of them."""

    kind: str = field(default_factory=constant("ConfigMap"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    immutable: bool | None = None
    data: dict[str, str] = {}
    binary_data: dict[str, bytes] = {}


class Secret(Object):
    """Bytes in `data`; `string_data` is merged into it when the object is read, and wins."""

    kind: str = field(default_factory=constant("Secret"))
    api_version: str = field(default_factory=constant("v1"))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    immutable: bool | None = None
    data: dict[str, bytes] = {}
    string_data: dict[str, str] = {}
    type: str = ""
