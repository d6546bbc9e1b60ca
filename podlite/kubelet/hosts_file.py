"""The content of a pod's /etc/hosts.

Source: managedHostsFileContent and nodeHostsFileContent in pkg/kubelet/kubelet_pods.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.pod import HostAlias

HOSTS_PATH = "/etc/hosts"

_HEADER = "# Kubernetes-managed hosts file.\n"
_HOST_NETWORK_HEADER = "# Kubernetes-managed hosts file (host network).\n"
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def pod_hosts(pod_ips: Sequence[str], hostname: str, domain: str, aliases: Sequence[HostAlias]) -> str:
    """For a pod with a network of its own. Pure."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    return _HEADER + _LOCAL + "".join([f"{ip}\t{names}\n" for ip in pod_ips]) + _aliases(aliases)


def host_network_hosts(node_hosts: str, aliases: Sequence[HostAlias]) -> str:
    """For a pod with the host's network: the node's own file, and the pod's aliases. Pure."""
    return _HOST_NETWORK_HEADER + node_hosts + _aliases(aliases)


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = [f"{each.ip}\t" + "\t".join(each.hostnames) + "\n" for each in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(lines)
