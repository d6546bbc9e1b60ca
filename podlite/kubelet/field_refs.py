"""What the downward API can say: fields of the pod, and resources of its containers.

Sources: pkg/fieldpath, pkg/api/v1/resource/helpers.go and pkg/kubelet/kubelet_resources.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.gotext import quote
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.container import Container
    from podlite.api.env import ResourceFieldSelector
    from podlite.api.pod import Pod

# Nanos of each resource that a container without a limit may use, by name.
Allocatable = dict[str, int]

_DEFAULTED = ("cpu", "memory", "ephemeral-storage")
_RESOURCES = frozenset(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)


def field_value(pod: Pod, path: str) -> str:
    """A field of the pod's metadata as text; maps are sorted `key="value"` lines. Raises KubeletError."""
    meta = pod.metadata
    field, bracket, key = path.removesuffix("']").partition("['") if path.endswith("']") else (path, "", "")
    if bracket and field:
        if field == "metadata.annotations":
            return meta.annotations.get(key, "")
        if field == "metadata.labels":
            return meta.labels.get(key, "")
        raise KubeletError(f"fieldPath {quote(path)} does not support subscript")
    if path == "metadata.name":
        return meta.name
    if path == "metadata.namespace":
        return meta.namespace
    if path == "metadata.uid":
        return meta.uid
    if path == "metadata.labels":
        return format_map(meta.labels)
    if path == "metadata.annotations":
        return format_map(meta.annotations)
    raise KubeletError(f"unsupported fieldPath: {path}")


def format_map(values: Mapping[str, str]) -> str:
    """One sorted line `key="value"` for each, the value quoted as Go does, so that a line break cannot forge one."""
    return "\n".join([f"{key}={quote(values[key])}" for key in sorted(values)])


def find_container(pod: Pod, name: str) -> Container:
    """An app or init container of the pod. Raises KubeletError."""
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        if container.name == name:
            return container
    raise KubeletError(f"container {name} not found")


def resource_value(
    reference: ResourceFieldSelector, pod: Pod, container: Container | None, allocatable: Allocatable
) -> str:
    """A container's limit or request in units of the divisor, rounded up.

    `container` is the one that is meant if the reference names none. A limit of cpu, memory or ephemeral storage
    that is not set is what the node can give; a request that is not set is 0. Raises KubeletError.
    """
    defaulted = True
    if reference.container_name:
        target = find_container(pod, reference.container_name)
        # An init container that a variable names is looked up among the pod's own, which have no defaults.
        defaulted = container is None or any(each is target for each in pod.spec.containers)
    elif container is not None:
        target = container
    else:
        raise KubeletError("container  not found")
    kind, _, name = reference.resource.partition(".")
    if reference.resource not in _RESOURCES and not (kind in ("limits", "requests") and name.startswith("hugepages-")):
        raise KubeletError(f"unsupported container resource : {reference.resource}")
    resources = target.resources.limits if kind == "limits" else target.resources.requests
    nanos = quantity.parse(resources[name]).nanos if name in resources else 0
    if not nanos and kind == "limits" and defaulted and name in _DEFAULTED:
        nanos = allocatable.get(name, 0)
    divisor = quantity.parse(reference.divisor or "0")
    if not divisor.nanos:
        divisor = quantity.Amount(10**9)
    amount = quantity.Amount(nanos)
    if name == "cpu":
        return str(-(-amount.milli_value() // divisor.milli_value()))
    return str(-(-amount.value() // divisor.value()))
