"""/etc/hosts, hostname and resolver configuration of pods.

Expected values from the documentation ("Adding entries to Pod /etc/hosts with HostAliases", "DNS for Services and
Pods", Pod API reference) and pkg/kubelet/kubelet_pods.go, network/dns/dns.go, util/util.go.
"""

from __future__ import annotations

import pytest

from podlite.api.meta import ObjectMeta
from podlite.api.pod import HostAlias, Pod, PodDNSConfig, PodDNSConfigOption, PodSpec
from podlite.cri.types import DNSConfig
from podlite.kubelet import dns
from podlite.kubelet.dns import make_dns_config, node_dns_config, parse_resolv_conf
from podlite.kubelet.hostname import PodNames, pod_names
from podlite.kubelet.hosts_file import host_network_hosts, pod_hosts
from podlite.kubelet.types import KubeletError

Events = list[tuple[str, str, str]]

# The example of the HostAliases page, with its addresses.
MANAGED = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
10.200.0.5\thostaliases-pod
"""
ALIASES = """
# Entries added by HostAliases.
127.0.0.1\tfoo.local\tbar.local
10.1.2.3\tfoo.remote\tbar.remote
"""


def aliases() -> list[HostAlias]:
    return [
        HostAlias(ip="127.0.0.1", hostnames=["foo.local", "bar.local"]),
        HostAlias(ip="10.1.2.3", hostnames=["foo.remote", "bar.remote"]),
    ]


def test_hosts_file_of_a_pod() -> None:
    assert pod_hosts(["10.200.0.5"], "hostaliases-pod", "", []) == MANAGED
    assert pod_hosts(["10.200.0.5"], "hostaliases-pod", "", aliases()) == MANAGED + ALIASES


def test_hosts_file_with_a_domain_names_the_pod_twice_for_each_address() -> None:
    text = pod_hosts(["10.0.0.2", "fd00::2"], "web", "sub.ns.svc.cluster.local", [])
    assert text.endswith(
        "fe00::2\tip6-allrouters\n10.0.0.2\tweb.sub.ns.svc.cluster.local\tweb\nfd00::2\tweb.sub.ns.svc.cluster.local\tweb\n"
    )


def test_hosts_file_of_a_pod_with_the_hosts_network() -> None:
    header = "# Kubernetes-managed hosts file (host network).\n"
    assert host_network_hosts("127.0.0.1 box\n", []) == f"{header}127.0.0.1 box\n"
    assert host_network_hosts("127.0.0.1 box\n", aliases()) == f"{header}127.0.0.1 box\n{ALIASES}"


def pod(name: str = "p", **spec: object) -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace="ns"), spec=PodSpec(**spec))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (pod(), PodNames("p", "", "p")),
        (pod(hostname="h"), PodNames("h", "", "h")),
        (pod(hostname="busybox-1", subdomain="s"), PodNames("busybox-1", "s.ns.svc.cluster.local", "busybox-1")),
        (
            pod(hostname="busybox-1", subdomain="s", set_hostname_as_fqdn=True),
            PodNames("busybox-1", "s.ns.svc.cluster.local", "busybox-1.s.ns.svc.cluster.local"),
        ),
        # Without a subdomain there is no FQDN to be set.
        (pod(set_hostname_as_fqdn=True), PodNames("p", "", "p")),
        # hostnameOverride goes before all of them, and has no domain.
        (pod(hostname="h", subdomain="s", hostname_override="a.b"), PodNames("a.b", "", "a.b")),
        # 63 characters, not ending in a dash or a dot.
        (pod("a" * 70), PodNames("a" * 63, "", "a" * 63)),
        (pod("a" * 62 + "-" + "b" * 7), PodNames("a" * 62, "", "a" * 62)),
        (pod("a" * 60 + ".-." + "b" * 7), PodNames("a" * 60, "", "a" * 60)),
    ],
)
def test_names(given: Pod, names: PodNames) -> None:
    assert pod_names(given, "cluster.local") == names


def test_an_fqdn_has_64_characters_at_most() -> None:
    # "s.ns.svc.cluster.local" and a dot are 23.
    fits = pod("a" * 41, subdomain="s", set_hostname_as_fqdn=True)
    assert len(pod_names(fits, "cluster.local").kernel) == 64
    name = "a" * 42
    with pytest.raises(KubeletError) as failure:
        pod_names(pod(name, subdomain="s", set_hostname_as_fqdn=True), "cluster.local")
    assert failure.value.message == (
        "failed to construct FQDN from pod hostname and cluster domain, "
        f"FQDN {name}.s.ns.svc.cluster.local is too long (64 characters is the max, 65 characters requested)"
    )


# --- DNS --------------------------------------------------------------------------------------

NODE = DNSConfig(servers=["192.0.2.53"], searches=["example.com"], options=["timeout:2"])


def resolver(given: Pod, cluster_dns: tuple[str, ...] = (), node: DNSConfig = NODE) -> tuple[DNSConfig, Events]:
    events: Events = []
    config = make_dns_config(
        given, node, cluster_dns=cluster_dns, cluster_domain="cluster.local", record=lambda *said: events.append(said)
    )
    return config, events


@pytest.mark.parametrize("policy", ["Default", "ClusterFirst", "ClusterFirstWithHostNet"])
def test_without_a_cluster_pods_resolve_as_the_node_does(policy: str) -> None:
    assert resolver(pod(dns_policy=policy)) == (NODE, [])


def test_with_a_cluster_dns() -> None:
    # "DNS for Services and Pods": nameserver, search and ndots:5; the node's search list comes after.
    expected = DNSConfig(
        servers=["10.32.0.10"],
        searches=["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"],
        options=["ndots:5"],
    )
    assert resolver(pod(dns_policy="ClusterFirst"), ("10.32.0.10",))[0] == expected
    assert resolver(pod(dns_policy="ClusterFirstWithHostNet", host_network=True), ("10.32.0.10",))[0] == expected
    assert resolver(pod(dns_policy="ClusterFirst", host_network=True), ("10.32.0.10",))[0] == NODE
    assert resolver(pod(dns_policy="Default"), ("10.32.0.10",))[0] == NODE


def test_pod_dns_config() -> None:
    # The example of "Pod's DNS Config".
    config = PodDNSConfig(
        nameservers=["192.0.2.1"],
        searches=["ns1.svc.cluster-domain.example", "my.dns.search.suffix"],
        options=[PodDNSConfigOption(name="ndots", value="2"), PodDNSConfigOption(name="edns0")],
    )
    alone, _ = resolver(pod(dns_policy="None", dns_config=config))
    assert alone == DNSConfig(
        servers=["192.0.2.1"],
        searches=["ns1.svc.cluster-domain.example", "my.dns.search.suffix"],
        options=["ndots:2", "edns0"],
    )
    merged, _ = resolver(
        pod(
            dns_policy="Default",
            dns_config=PodDNSConfig(
                nameservers=["192.0.2.1", "192.0.2.53"],
                searches=["example.com"],
                options=[PodDNSConfigOption(name="timeout", value="9")],
            ),
        )
    )
    # Duplicates are removed, and the pod's options replace those of the same name.
    assert merged == DNSConfig(servers=["192.0.2.53", "192.0.2.1"], searches=["example.com"], options=["timeout:9"])


def test_limits_of_resolvers_are_kept_and_told() -> None:
    # pkg/apis/core/validation: 3 name servers, 32 search paths, 2048 characters; a path has at most 253 characters.
    node = DNSConfig(servers=["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"], searches=[f"s{n}" for n in range(33)])
    config, events = resolver(pod(dns_policy="Default"), node=node)
    assert config.servers == ["1.1.1.1", "2.2.2.2", "3.3.3.3"]
    assert config.searches == [f"s{n}" for n in range(32)]
    assert events == [
        (
            "Warning",
            "DNSConfigForming",
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            "the applied nameserver line is: 1.1.1.1 2.2.2.2 3.3.3.3",
        ),
        (
            "Warning",
            "DNSConfigForming",
            "Search Line limits were exceeded, some search paths have been omitted, "
            "the applied search line is: " + " ".join(f"s{n}" for n in range(32)),
        ),
    ]
    too_long = DNSConfig(searches=["a" * 254, "b"])
    assert resolver(pod(dns_policy="Default"), node=too_long)[0].searches == ["b"]
    # 9 of 230 characters and their spaces are more than 2048, 8 are not.
    wide = DNSConfig(searches=[str(n) + "x" * 229 for n in range(9)])
    assert len(resolver(pod(dns_policy="Default"), node=wide)[0].searches) == 8


def test_resolv_conf() -> None:
    text = """\
# a comment
nameserver 192.0.2.1
nameserver  2001:db8::1  # trailing
search first.example
search a.example b.example. .
options ndots:1 rotate
options ndots:3
domain ignored.example
"""
    assert parse_resolv_conf(text) == DNSConfig(
        servers=["192.0.2.1", "2001:db8::1"], searches=["a.example", "b.example"], options=["ndots:3", "rotate"]
    )
    with pytest.raises(KubeletError, match="nameserver list is empty"):
        parse_resolv_conf("nameserver\n")


def test_the_nodes_resolver(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.53\nsearch lan\n")
    upstream = tmp_path / "upstream"
    monkeypatch.setattr(dns, "_STUB_UPSTREAM", str(upstream))
    # A stub on a loopback address cannot be reached from a pod; what it asks can.
    assert node_dns_config(str(file)).servers == ["127.0.0.53"]
    upstream.write_text("nameserver 192.0.2.9\nsearch lan\n")
    assert node_dns_config(str(file)).servers == ["192.0.2.9"]
    file.write_text("nameserver 192.0.2.1\nnameserver 127.0.0.53\n")
    assert node_dns_config(str(file)).servers == ["192.0.2.1", "127.0.0.53"]
    assert node_dns_config(str(tmp_path / "none")) == DNSConfig()
    # kubelet --resolv-conf="": the pod's own loopback.
    assert node_dns_config("") == DNSConfig(servers=["127.0.0.1"], searches=["."])
