"""What a plugin is given: the request configuration, its environment, and the arguments that depend on the pod. Pure.

Sources: SPEC.md section 3 ("Deriving request configuration from plugin configuration"), CONVENTIONS.md, and for
what Kubernetes' runtimes pass by custom containerd's internal/cri/server/sandbox_run.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.api import quantity
from podlite.cri.errors import InvalidArgumentError
from podlite.runtime.network.cni.config import Plugin, declares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from podlite.runtime.network.hostports import HostPort
    from podlite.runtime.network.interface import PodNetworkRequest

INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
# The kubelet's bounds for these (pkg/util/bandwidth): 1k and 1P bits per second.
_BANDWIDTH = (1_000, 10**15)
_MAX_UINT32 = 0xFFFFFFFF

# Plugins run iptables and the like, and the caller may have an environment without the administrator's directories.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CniArgs = list[list[str]]
Result = dict[str, Any]


def request_configuration(
    name: str,
    version: str,
    plugin: Plugin,
    *,
    capabilities: Mapping[str, Any] | None = None,
    previous: Result | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A plugin's own configuration with what the specification has the runtime insert and leave out.

    `capabilities` are the capability arguments of an attachment, of which the plugin gets those that it declares;
    None for an operation that concerns no attachment. `extra` is inserted as it is.
    """
    left_out = {"runtimeConfig", "prevResult", "cniVersions"} | (
        {"capabilities"} if capabilities is not None else set()
    )
    made = {key: value for key, value in plugin.items() if key not in left_out}
    made |= {"cniVersion": version, "name": name}
    runtime_config = {key: value for key, value in (capabilities or {}).items() if declares(plugin, key)}
    if runtime_config:
        made["runtimeConfig"] = runtime_config
    if previous is not None:
        made["prevResult"] = previous
    return made | dict(extra or {})


def environment(
    base: Mapping[str, str],
    command: str,
    directories: Sequence[str],
    *,
    container_id: str = "",
    netns: str = "",
    interface: str = "",
    args: CniArgs | None = None,
) -> dict[str, str]:
    """`base` with the protocol's parameters (SPEC.md section 2); those without a value are there and empty, as libcni
    has them."""
    made = {key: value for key, value in base.items() if not key.startswith("CNI_")}
    made["PATH"] = f"{base['PATH']}:{_PATH}" if base.get("PATH") else _PATH
    return made | {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": netns,
        "CNI_IFNAME": interface,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in args or []),
        "CNI_PATH": ":".join(directories),
    }


def pod_args(request: PodNetworkRequest) -> CniArgs:
    """CNI_ARGS as every Kubernetes runtime sets them."""
    return [
        ["IgnoreUnknown", "1"],
        ["K8S_POD_NAMESPACE", request.pod_namespace],
        ["K8S_POD_NAME", request.pod_name],
        ["K8S_POD_INFRA_CONTAINER_ID", request.sandbox_id],
        ["K8S_POD_UID", request.pod_uid],
    ]


def pod_capabilities(
    request: PodNetworkRequest, ports: Iterable[HostPort], ranges: Iterable[str] = ()
) -> dict[str, Any]:
    """The capability arguments of a pod's own network, by their names in CONVENTIONS.md; those without anything to
    say are left out. `ranges` are what the pods' addresses are to be of, one of each. Raises InvalidArgumentError for
    a bandwidth that is none."""
    found: dict[str, Any] = {}
    mappings = [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            **({"hostIP": port.host_ip} if port.host_ip else {}),
        }
        for port in ports
    ]
    if mappings:
        found["portMappings"] = mappings
    if (limits := bandwidth(request.annotations)) is not None:
        found["bandwidth"] = limits
    if request.dns is not None:
        dns = {"servers": request.dns.servers, "searches": request.dns.searches, "options": request.dns.options}
        if any(dns.values()):
            found["dns"] = dns
    if request.mac:
        found["mac"] = request.mac
    if request.ips:
        found["ips"] = list(request.ips)
    if sets := [[{"subnet": each}] for each in ranges]:
        found["ipRanges"] = sets
    if request.cgroup_path:
        found["cgroupPath"] = request.cgroup_path
    return found


def bandwidth(annotations: Mapping[str, str]) -> dict[str, int] | None:
    """The `bandwidth` capability for a pod's annotations, bits per second and bits; None if they do not ask."""
    found: dict[str, int] = {}
    for annotation, direction in ((INGRESS, "ingress"), (EGRESS, "egress")):
        text = annotations.get(annotation)
        if text is None:
            continue
        try:
            rate = quantity.parse(text).value()
        except quantity.QuantityError as error:
            raise InvalidArgumentError(f"The annotation {annotation} is no quantity: {text!r}.") from error
        if not _BANDWIDTH[0] <= rate <= _BANDWIDTH[1]:
            raise InvalidArgumentError(f"The annotation {annotation} is not between 1k and 1P bits per second: {text}.")
        found[f"{direction}Rate"] = rate
        # The burst is not the pod's to say; containerd passes this, the most that tc takes.
        found[f"{direction}Burst"] = _MAX_UINT32
    return found or None
