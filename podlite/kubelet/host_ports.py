"""Host ports that two pods cannot both have, found before anything is made.

Source: pkg/scheduler/framework/plugins/nodeports (which the kubelet asks at admission) and
pkg/kubelet/lifecycle/predicate.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.admission import Rejection
from podlite.kubelet.labels import is_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.api.pod import Pod

_EVERY_ADDRESS = ("", "0.0.0.0", "::")


class HostPort(NamedTuple):
    protocol: str
    port: int
    ip: str


def host_ports(pod: Pod) -> list[HostPort]:
    """The ports of this machine that a pod's app containers and sidecars ask for."""
    containers = (*(each for each in pod.spec.init_containers if is_sidecar(each)), *pod.spec.containers)
    return [
        HostPort(port.protocol or "TCP", port.host_port, port.host_ip)
        for container in containers
        for port in container.ports
        if port.host_port
    ]


def check_host_ports(pod: Pod, others: Iterable[Pod]) -> Rejection | None:
    """None if the pod's host ports are free of those of `others`; else why it is not admitted."""
    wanted = host_ports(pod)
    if not wanted:
        return None
    taken = [port for other in others for port in host_ports(other)]
    if any(_conflict(ours, theirs) for ours in wanted for theirs in taken):
        message = "node(s) didn't have free ports for the requested pod ports"
        return Rejection("NodePorts", f"Predicate NodePorts failed: {message}")
    return None


def _conflict(a: HostPort, b: HostPort) -> bool:
    if (a.protocol, a.port) != (b.protocol, b.port):
        return False
    return a.ip == b.ip or a.ip in _EVERY_ADDRESS or b.ip in _EVERY_ADDRESS
