"""What a pod is called: its hostname, its domain, and what uname(2) says in it.

Source: GeneratePodHostNameAndDomain in pkg/kubelet/kubelet_pods.go and GetNodenameForKernel in
pkg/kubelet/util/util.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from podlite.api.pod import Pod

# A name of 64 bytes, its end included, is what the kernel keeps (__NEW_UTS_LEN).
_MAX_HOSTNAME = 63
_MAX_FQDN = 64


class PodNames(NamedTuple):
    """`domain` is empty for a pod without subdomain; `kernel` is what its uts namespace gets."""

    hostname: str
    domain: str
    kernel: str


def pod_names(pod: Pod, cluster_domain: str) -> PodNames:
    """The names of a pod. Pure. Raises KubeletError where setHostnameAsFQDN asks for more than the kernel can keep."""
    spec = pod.spec
    if spec.hostname_override is not None:
        hostname = _truncate(pod.metadata.name, spec.hostname_override)
        return PodNames(hostname, "", hostname)
    hostname = _truncate(pod.metadata.name, spec.hostname or pod.metadata.name)
    domain = f"{spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}" if spec.subdomain else ""
    kernel = hostname
    if domain and spec.set_hostname_as_fqdn:
        kernel = f"{hostname}.{domain}"
        if len(kernel) > _MAX_FQDN:
            raise KubeletError(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {kernel} is too long "
                f"({_MAX_FQDN} characters is the max, {len(kernel)} characters requested)",
                reason="FailedCreatePodSandBox",
            )
    return PodNames(hostname, domain, kernel)


def _truncate(pod_name: str, hostname: str) -> str:
    if len(hostname) <= _MAX_HOSTNAME:
        return hostname
    short = hostname[:_MAX_HOSTNAME].rstrip("-.")
    if not short:
        raise KubeletError(f'hostname for pod "{pod_name}" was invalid: "{hostname}"', reason="FailedCreatePodSandBox")
    return short
