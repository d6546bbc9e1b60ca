"""Whether this machine can run a pod at all: what the kubelet checks before it makes anything.

A pod that is not admitted is Failed, with the reason and message given here.

Sources: pkg/kubelet/lifecycle/predicate.go and handlers.go, pkg/kubelet/sysctl/allowlist.go, pkg/security/apparmor,
Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podlite.api.pod import Pod
    from podlite.kubelet.field_refs import Allocatable
    from podlite.kubelet.types import KubeletConfig

_MILLI, _NANO = 10**6, 10**9


class Rejection(NamedTuple):
    """Why a pod is not admitted: the `reason` and `message` of its status."""

    reason: str
    message: str


def check_admission(
    pod: Pod, config: KubeletConfig, *, others: Iterable[Pod] = (), allocatable: Callable[[], Allocatable] | None = None
) -> Rejection | None:
    """None for a pod that can run. `others` are the active pods whose requests count too.

    Blocking only if the pod asks for resources, or for AppArmor.
    """
    if pod.spec.os is not None and pod.spec.os.name != "linux":
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if pod.metadata.labels.get("kubernetes.io/os", "linux") != "linux":
        return Rejection(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )
    if pod.spec.security_context is not None and pod.spec.security_context.sysctls:
        from podlite.kubelet.sysctls import forbidden_sysctl

        message = forbidden_sysctl(pod, config.allowed_unsafe_sysctls)
        if message:
            return Rejection("SysctlForbidden", message)
    if needs_app_armor(pod):
        problem = app_armor_problem()
        if problem:
            return Rejection("AppArmor", f"Cannot enforce AppArmor: {problem}")
    from podlite.kubelet.resources import has_resources, pod_requests

    if not has_resources(pod):
        return None
    if allocatable is None:
        from podlite.kubelet import node

        there = node.allocatable(config)
    else:
        there = allocatable()
    return insufficient(pod_requests(pod), [pod_requests(each) for each in others], there)


def insufficient(requested: dict[str, int], others: list[dict[str, int]], allocatable: Allocatable) -> Rejection | None:
    """The first resource, in the order of cpu, memory, ephemeral-storage, the rest, of which there is too little. Pure.

    A resource that the node does not have at all (a vendor's device) counts as 0: on a cluster the scheduler would
    find no node for such a pod.
    """
    order = ("cpu", "memory", "ephemeral-storage")
    for name in (*order, *sorted(each for each in requested if each not in order)):
        wanted = requested.get(name, 0)
        used = sum(each.get(name, 0) for each in others)
        capacity = allocatable.get(name, 0)
        if wanted and wanted + used > capacity:
            unit = _MILLI if name == "cpu" else _NANO
            return Rejection(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {-(-wanted // unit)}, "
                f"used: {-(-used // unit)}, capacity: {capacity // unit}",
            )
    return None


def needs_app_armor(pod: Pod) -> bool:
    """Whether the pod, or any of its containers, asks for a profile other than none. Pure."""
    contexts = [pod.spec.security_context]
    for containers in (pod.spec.init_containers, pod.spec.containers, pod.spec.ephemeral_containers):
        contexts += [container.security_context for container in containers]  # type: ignore[misc]
    profiles = [context.app_armor_profile for context in contexts if context is not None]
    if any(profile is not None and profile.type != "Unconfined" for profile in profiles):
        return True
    prefix = "container.apparmor.security.beta.kubernetes.io/"
    return any(key.startswith(prefix) and value != "unconfined" for key, value in pod.metadata.annotations.items())


def app_armor_problem() -> str:
    """Why AppArmor cannot be had on this machine, in the kubelet's words, or an empty string. Blocking."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="utf-8") as file:
            enabled = file.read(1) == "Y"
    except OSError:
        enabled = False
    if enabled and os.path.isdir("/sys/kernel/security/apparmor"):
        return ""
    return "AppArmor is not enabled on the host"
