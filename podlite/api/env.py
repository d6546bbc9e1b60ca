"""Where the value of an environment variable may come from (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, zero_quantity

if TYPE_CHECKING:
    from podlite.api.base import Quantity


class ObjectFieldSelector(Object):
    api_version: str = ""
    field_path: str = field(default_factory=str)


class ResourceFieldSelector(Object):
    container_name: str = ""
    resource: str = field(default_factory=str)
    divisor: Quantity = field(default_factory=zero_quantity)


class ConfigMapKeySelector(Object):
    name: str = ""
    key: str = field(default_factory=str)
    optional: bool | None = None


class SecretKeySelector(Object):
    name: str = ""
    key: str = field(default_factory=str)
    optional: bool | None = None


class FileKeySelector(Object):
    volume_name: str = field(default_factory=str)
    path: str = field(default_factory=str)
    key: str = field(default_factory=str)
    optional: bool | None = None


class EnvVarSource(Object):
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None
    file_key_ref: FileKeySelector | None = None


class ConfigMapEnvSource(Object):
    name: str = ""
    optional: bool | None = None


class SecretEnvSource(Object):
    name: str = ""
    optional: bool | None = None


class EnvFromSource(Object):
    prefix: str = ""
    config_map_ref: ConfigMapEnvSource | None = None
    secret_ref: SecretEnvSource | None = None
