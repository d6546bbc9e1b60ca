"""Which sysctls a pod may set: the safe ones, and those that the machine's owner allows.

Sources: pkg/kubelet/sysctl and component-helpers/node/util/sysctl, Kubernetes 1.36. The kernels in which each became
the network namespace's own (4.15 at the latest) are older than any that podlite runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation.security import normalized_sysctl, sysctl_namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.api.pod import Pod

SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
_NAMES = {"ipc": "IPC", "net": "Net"}


def forbidden_sysctl(pod: Pod, unsafe: Iterable[str] = ()) -> str:
    """The kubelet's message for the first sysctl of the pod that is not allowed, or an empty string. Pure.

    `unsafe` are names, or prefixes that end in `*`, that are allowed besides the safe ones; of those only what the
    kernel keeps apart for each namespace, so that no pod can change the host.
    """
    context = pod.spec.security_context
    if context is None or not context.sysctls:
        return ""
    allowed = [normalized_sysctl(each) for each in unsafe]
    patterns = [*SAFE, *[each for each in allowed if sysctl_namespace(each.removesuffix("*"))]]
    for sysctl in context.sysctls:
        name = normalized_sysctl(sysctl.name)
        if not any(name.startswith(each[:-1]) if each.endswith("*") else name == each for each in patterns):
            return f'forbidden sysctl: "{name}" not allowlisted'
        namespace = sysctl_namespace(name)
        shared = pod.spec.host_ipc if namespace == "ipc" else pod.spec.host_network if namespace == "net" else False
        if shared:
            return f'forbidden sysctl: "{name}" not allowed with host {_NAMES[namespace]} enabled'
    return ""


def pod_sysctls(pod: Pod) -> dict[str, str]:
    """The pod's sysctls for RunPodSandbox. Pure."""
    context = pod.spec.security_context
    return {} if context is None else {each.name: each.value for each in context.sysctls}
