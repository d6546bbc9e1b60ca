"""Containers and what they are made of (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object

if TYPE_CHECKING:
    from podlite.api.base import Int32, Quantity
    from podlite.api.env import EnvFromSource, EnvVarSource
    from podlite.api.probes import Lifecycle, Probe
    from podlite.api.restarts import ContainerResizePolicy, ContainerRestartRule
    from podlite.api.security import SecurityContext


class ContainerPort(Object):
    """A port that the container listens on; `host_port` 0 publishes nothing."""

    name: str = ""
    host_port: Int32 = 0
    container_port: Int32 = field(default_factory=int)
    protocol: str = ""
    host_ip: str = ""


class EnvVar(Object):
    """Either `value`, in which $(NAME) is expanded and $$ is a dollar sign, or `value_from`."""

    name: str = field(default_factory=str)
    value: str = ""
    value_from: EnvVarSource | None = None


class ResourceClaim(Object):
    name: str = field(default_factory=str)
    request: str = ""


class ResourceRequirements(Object):
    """Quantities by resource name (`cpu`, `memory`, `hugepages-2Mi`, `vendor.example/device`)."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}
    claims: list[ResourceClaim] = []


class VolumeMount(Object):
    """Mounts the volume `name` at `mount_path`; `sub_path` lies inside the volume."""

    name: str = field(default_factory=str)
    read_only: bool = False
    recursive_read_only: str | None = None
    mount_path: str = field(default_factory=str)
    sub_path: str = ""
    mount_propagation: str | None = None
    sub_path_expr: str = ""


class VolumeDevice(Object):
    name: str = field(default_factory=str)
    device_path: str = field(default_factory=str)


class Container(Object):
    """A container of a pod; `restart_policy` Always on an init container makes it a sidecar."""

    name: str = field(default_factory=str)
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    ports: list[ContainerPort] = []
    env_from: list[EnvFromSource] = []
    env: list[EnvVar] = []
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)
    resize_policy: list[ContainerResizePolicy] = []
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] = []
    volume_mounts: list[VolumeMount] = []
    volume_devices: list[VolumeDevice] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    image_pull_policy: str = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container):
    """A container added to a running pod for debugging."""

    target_container_name: str = ""
