"""From a pod to the request of RunPodSandbox.

Source: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go and MakePortMappings in pkg/kubelet/container/helpers.go,
Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.types import LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol
from podlite.kubelet import labels
from podlite.kubelet.dns import make_dns_config, node_dns_config
from podlite.kubelet.hostname import pod_names
from podlite.kubelet.paths import pod_logs_dir
from podlite.kubelet.resources import sandbox_resources
from podlite.kubelet.security import pod_user_namespace, sandbox_security

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.kubelet.dns import Record
    from podlite.kubelet.types import KubeletConfig


def make_sandbox_config(
    pod: Pod, config: KubeletConfig, *, attempt: int, cgroup_parent: str, record: Record
) -> PodSandboxConfig:
    """The sandbox of a pod. `record` gets the pod's events: (type, reason, message).

    Blocking: it reads resolv.conf and, for a pod with a user namespace of its own, allocates its ids. Raises
    KubeletError, which the kubelet reports as `Failed to generate sandbox config for pod …`.
    """
    meta = pod.metadata
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=meta.name, uid=meta.uid, namespace=meta.namespace, attempt=attempt),
        hostname="" if pod.spec.host_network else pod_names(pod, config.cluster_domain).kernel,
        log_directory=pod_logs_dir(config, pod),
        dns_config=make_dns_config(
            pod,
            node_dns_config(config.resolv_conf),
            cluster_dns=config.cluster_dns,
            cluster_domain=config.cluster_domain,
            record=record,
        ),
        port_mappings=[mapping for container in pod.spec.containers for mapping in port_mappings(container)],
        labels=labels.pod_labels(pod),
        annotations=labels.pod_annotations(pod),
        linux=_linux(pod, config, cgroup_parent),
    )


def _linux(pod: Pod, config: KubeletConfig, cgroup_parent: str) -> LinuxPodSandboxConfig:
    resources, overhead = sandbox_resources(pod, config)
    result = LinuxPodSandboxConfig(
        cgroup_parent=cgroup_parent,
        security_context=sandbox_security(pod, pod_user_namespace(pod, config)),
        resources=resources,
        overhead=overhead,
    )
    if pod.spec.security_context is not None and pod.spec.security_context.sysctls:
        from podlite.kubelet.sysctls import pod_sysctls

        result.sysctls = pod_sysctls(pod)
    return result


def port_mappings(container: Container) -> list[PortMapping]:
    """A container's ports, each once: a name, or the same port of the same address, that comes again is left out. Pure.

    Those without a host port are among them; a runtime publishes nothing for these.
    """
    found: dict[object, PortMapping] = {}
    for port in container.ports:
        family = "any" if not port.host_ip else "v6" if ":" in port.host_ip else "v4"
        key = port.name or (family, port.protocol, port.host_ip, port.container_port, port.host_port)
        mapping = PortMapping(
            protocol=Protocol.__members__.get(port.protocol, Protocol.TCP),
            container_port=port.container_port,
            host_port=port.host_port,
            host_ip=port.host_ip,
        )
        found.setdefault(key, mapping)
    return list(found.values())
