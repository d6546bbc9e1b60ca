"""A container's environment variables.

First the variables of `envFrom`, in order, then those of `env`, in order, each of which may refer to the ones
before it with $(NAME); a later variable replaces an earlier one of the same name. There are no services here, so
there are no service links.

Source: makeEnvironmentVariables in pkg/kubelet/kubelet_pods.go, Kubernetes 1.36. Since 1.34 (relaxed environment
variable validation) no key of a ConfigMap or Secret is left out for its spelling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.expansion import expand
from podlite.kubelet.types import ContainerConfigError, KubeletError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podlite.api.config import ConfigMap, Secret
    from podlite.api.container import Container
    from podlite.api.env import EnvFromSource, EnvVarSource, ObjectFieldSelector
    from podlite.api.pod import Pod
    from podlite.kubelet.field_refs import Allocatable
    from podlite.kubelet.types import ObjectStore


def make_environment(
    pod: Pod,
    container: Container,
    *,
    pod_ips: Sequence[str],
    host_ips: Sequence[str],
    node_name: str,
    objects: ObjectStore,
    allocatable: Callable[[], Allocatable],
) -> list[tuple[str, str]]:
    """The variables in order, each name once. Bytes of a Secret that are no UTF-8 are kept as surrogates.

    `allocatable` is asked only if a variable needs it. Raises ContainerConfigError with the kubelet's text.
    """
    builder = _Builder(pod, container, pod_ips, host_ips, node_name, objects, allocatable)
    try:
        for source in container.env_from:
            builder.add_all(source)
        for variable in container.env:
            value: str | None = variable.value
            if value:
                value = expand(value, builder.variables)
            elif variable.value_from is not None:
                value = builder.value_from(variable.name, variable.value_from)
            if value is not None:
                builder.variables[variable.name] = value
    except KubeletError as error:
        raise ContainerConfigError(error.message, hint=error.hint) from error
    return list(builder.variables.items())


class _Builder:
    __slots__ = ("allocatable", "container", "host_ips", "node_name", "objects", "pod", "pod_ips", "variables")

    def __init__(
        self,
        pod: Pod,
        container: Container,
        pod_ips: Sequence[str],
        host_ips: Sequence[str],
        node_name: str,
        objects: ObjectStore,
        allocatable: Callable[[], Allocatable],
    ) -> None:
        self.pod = pod
        self.container = container
        self.pod_ips = pod_ips
        self.host_ips = host_ips
        self.node_name = node_name
        self.objects = objects
        self.allocatable = allocatable
        self.variables: dict[str, str] = {}

    def add_all(self, source: EnvFromSource) -> None:
        """Every key of a ConfigMap's text, or of a Secret."""
        if source.config_map_ref is not None:
            config_map = self.config_map(source.config_map_ref.name, bool(source.config_map_ref.optional))
            if config_map is not None:
                for key, value in config_map.data.items():
                    self.variables[source.prefix + key] = value
        elif source.secret_ref is not None:
            secret = self.secret(source.secret_ref.name, bool(source.secret_ref.optional))
            if secret is not None:
                for key, data in secret.data.items():
                    self.variables[source.prefix + key] = _text(data)

    def value_from(self, name: str, source: EnvVarSource) -> str | None:
        """The value of a variable that comes from elsewhere; None for one that is not to be."""
        if source.field_ref is not None:
            return self.field(source.field_ref)
        if source.resource_field_ref is not None:
            from podlite.kubelet.field_refs import resource_value

            return resource_value(source.resource_field_ref, self.pod, self.container, self.allocatable())
        if source.config_map_key_ref is not None:
            reference = source.config_map_key_ref
            config_map = self.config_map(reference.name, bool(reference.optional))
            if config_map is None:
                return None
            if reference.key not in config_map.data:
                self.absent("ConfigMap", reference.name, reference.key, bool(reference.optional))
                return None
            return config_map.data[reference.key]
        if source.secret_key_ref is not None:
            selector = source.secret_key_ref
            secret = self.secret(selector.name, bool(selector.optional))
            if secret is None:
                return None
            if selector.key not in secret.data:
                self.absent("Secret", selector.name, selector.key, bool(selector.optional))
                return None
            return _text(secret.data[selector.key])
        if source.file_key_ref is not None:
            raise ContainerConfigError(
                f"the variable {name} comes from a file (fileKeyRef), which podlite does not support",
                hint="put the value into a ConfigMap or Secret and use configMapKeyRef or secretKeyRef",
            )
        return ""

    def field(self, reference: ObjectFieldSelector) -> str:
        path = reference.field_path
        if path in ("spec.nodeName", "spec.host"):
            return self.pod.spec.node_name or self.node_name
        if path == "spec.serviceAccountName":
            return self.pod.spec.service_account_name
        if path == "status.hostIP":
            return self.host_ips[0] if self.host_ips else ""
        if path == "status.hostIPs":
            return ",".join(self.host_ips)
        if path == "status.podIP":
            return self.pod_ips[0] if self.pod_ips else ""
        if path == "status.podIPs":
            return ",".join(self.pod_ips)
        from podlite.kubelet.field_refs import field_value

        return field_value(self.pod, path)

    def config_map(self, name: str, optional: bool) -> ConfigMap | None:
        found = self.objects.config_map(self.pod.metadata.namespace, name)
        if found is None and not optional:
            raise ContainerConfigError(f'configmap "{name}" not found')
        return found

    def secret(self, name: str, optional: bool) -> Secret | None:
        found = self.objects.secret(self.pod.metadata.namespace, name)
        if found is None and not optional:
            raise ContainerConfigError(f'secret "{name}" not found')
        return found

    def absent(self, kind: str, name: str, key: str, optional: bool) -> None:
        if not optional:
            raise ContainerConfigError(f"couldn't find key {key} in {kind} {self.pod.metadata.namespace}/{name}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
