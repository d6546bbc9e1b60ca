"""A pod's resolver configuration, from dnsPolicy, dnsConfig and the node's own resolv.conf.

Without a cluster's DNS server, ClusterFirst is Default. The kubelet warns of that with every pod
(MissingClusterDNS); here it is how things always are, and nobody is warned.

Sources: pkg/kubelet/network/dns/dns.go and the limits in pkg/apis/core/validation, Kubernetes 1.36; resolv.conf(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.types import DNSConfig
from podlite.kubelet.types import KubeletError
from podlite.linux.fs import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podlite.api.pod import Pod, PodDNSConfigOption

    # Records an event of the pod: its type, reason and message.
    Record = Callable[[str, str, str], None]

MAX_NAMESERVERS = 3
MAX_SEARCH_PATHS = 32
MAX_SEARCH_CHARACTERS = 2048
_MAX_DOMAIN = 253
_MAX_FILE = 10 * 1024 * 1024
_CLUSTER_OPTIONS = ("ndots:5",)

# systemd-resolved's stub listens on a loopback address, which a pod cannot reach; beside it is the real one.
_STUB_UPSTREAM = "/run/systemd/resolve/resolv.conf"


def make_dns_config(
    pod: Pod, node: DNSConfig, *, cluster_dns: Sequence[str], cluster_domain: str, record: Record
) -> DNSConfig:
    """What the sandbox's resolv.conf is to say; events tell what was left out for the resolver's limits. Pure."""
    spec = pod.spec
    servers, searches, options = list(node.servers), list(node.searches), list(node.options)
    cluster_first = spec.dns_policy == "ClusterFirst" and not spec.host_network
    if spec.dns_policy == "None":
        servers, searches, options = [], [], []
    elif cluster_dns and (cluster_first or spec.dns_policy == "ClusterFirstWithHostNet"):
        servers = list(cluster_dns)
        if cluster_domain:
            namespace = pod.metadata.namespace
            own = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
            searches = list(dict.fromkeys([*own, *searches]))
        options = list(_CLUSTER_OPTIONS)
    if spec.dns_config is not None:
        servers = list(dict.fromkeys([*servers, *spec.dns_config.nameservers]))
        searches = list(dict.fromkeys([*searches, *spec.dns_config.searches]))
        options = _merge_options(options, spec.dns_config.options)
    return DNSConfig(
        servers=_fitting_servers(servers, record), searches=_fitting_searches(searches, record), options=options
    )


def _merge_options(options: Iterable[str], own: Iterable[PodDNSConfigOption]) -> list[str]:
    merged: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition(":")
        merged[name] = value
    for each in own:
        merged[each.name] = each.value or ""
    return [f"{name}:{value}" if value else name for name, value in merged.items()]


def _fitting_servers(servers: list[str], record: Record) -> list[str]:
    if len(servers) <= MAX_NAMESERVERS:
        return servers
    kept = servers[:MAX_NAMESERVERS]
    record(
        "Warning",
        "DNSConfigForming",
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        + " ".join(kept),
    )
    return kept


def _fitting_searches(searches: list[str], record: Record) -> list[str]:
    kept = [search for search in searches[:MAX_SEARCH_PATHS] if len(search) <= _MAX_DOMAIN]
    while len(" ".join(kept)) > MAX_SEARCH_CHARACTERS:
        kept.pop()
    if len(kept) < len(searches):
        record(
            "Warning",
            "DNSConfigForming",
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + " ".join(kept),
        )
    return kept


# --- the node's own ---------------------------------------------------------------------------


def node_dns_config(path: str) -> DNSConfig:
    """What the node's resolv.conf says; where it names a stub on a loopback address only, what is behind the stub.

    An empty path means a name server on the pod's own loopback address, as for the kubelet; a file that is not there
    says nothing. Blocking. Raises KubeletError.
    """
    if not path:
        return DNSConfig(servers=["127.0.0.1"], searches=["."])
    found = _read(path)
    if found.servers and all(_is_loopback(server) for server in found.servers):
        upstream = _read(_STUB_UPSTREAM)
        return upstream if upstream.servers else found
    return found


def _read(path: str) -> DNSConfig:
    try:
        text = read_file(path, limit=_MAX_FILE)
    except FileNotFoundError:
        return DNSConfig()
    except OSError as error:
        raise KubeletError(
            f"the resolver configuration {path} cannot be read: {error.strerror}", reason="FailedCreatePodSandBox"
        ) from error
    return parse_resolv_conf(text.decode(errors="replace"))


def parse_resolv_conf(text: str) -> DNSConfig:
    """Name servers add up, the last search line counts, a later option replaces an earlier one. Pure.

    Raises KubeletError for a name server line without a server, as the kubelet does.
    """
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.split("\n"):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if fields[0] == "nameserver":
            if len(fields) < 2:
                raise KubeletError(
                    "Encountered error while parsing resolv conf file. Error: nameserver list is empty ",
                    reason="FailedCreatePodSandBox",
                )
            servers.append(fields[1])
        elif fields[0] == "search":
            searches = [each.removesuffix(".") for each in fields[1:] if each != "."]
        elif fields[0] == "options":
            for option in fields[1:]:
                options[option.partition(":")[0]] = option
    return DNSConfig(servers=servers, searches=searches, options=list(options.values()))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
