"""What plugins are given and what is read from them. Expected values are the examples of SPEC.md (CNI 1.1.0)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import DNSConfig
from podlite.runtime.network.cni.attachment import read_result
from podlite.runtime.network.cni.cache import Attachment
from podlite.runtime.network.cni.errors import PluginError
from podlite.runtime.network.cni.invoke import Output, failure
from podlite.runtime.network.cni.network import pod_interfaces
from podlite.runtime.network.cni.request import (
    bandwidth,
    environment,
    pod_args,
    pod_capabilities,
    request_configuration,
)
from podlite.runtime.network.cni.selection import (
    Selection,
    additional_networks,
    default_network,
    status_annotation,
)
from podlite.runtime.network.hostports import HostPort
from podlite.runtime.network.interface import PodInterface, PodNetworkRequest

TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "capabilities": {"mac": True}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
MAPPINGS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
CAPABILITIES = {"portMappings": MAPPINGS, "mac": "00:11:22:33:44:66"}
# SPEC.md, "Add example": what bridge answers.
RESULT: dict[str, Any] = {
    "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "interfaces": [
        {"name": "cni0", "mac": "00:11:22:33:44:55"},
        {"name": "veth3243", "mac": "55:44:33:22:11:11"},
        {"name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": "/var/run/netns/blue"},
    ],
    "dns": {"nameservers": ["10.1.0.1"]},
}


def attachment(**fields: Any) -> Attachment:
    return Attachment(
        network="dbnet",
        version="1.0.0",
        plugins=[],
        directories=[],
        container_id="c",
        interface=fields.pop("interface", "eth0"),
        netns="/var/run/netns/blue",
        default=True,
        **fields,
    )


def test_the_requests_of_the_example() -> None:
    """ "Add example", steps 2 and 3."""
    assert request_configuration("dbnet", "1.1.0", TUNING, capabilities=CAPABILITIES, previous=RESULT) == {
        "cniVersion": "1.1.0",
        "name": "dbnet",
        "type": "tuning",
        "sysctl": {"net.core.somaxconn": "500"},
        "runtimeConfig": {"mac": "00:11:22:33:44:66"},
        "prevResult": RESULT,
    }
    assert request_configuration("dbnet", "1.1.0", PORTMAP, capabilities=CAPABILITIES, previous=RESULT) == {
        "cniVersion": "1.1.0",
        "name": "dbnet",
        "type": "portmap",
        "runtimeConfig": {"portMappings": MAPPINGS},
        "prevResult": RESULT,
    }


def test_the_first_plugin_gets_no_previous_result_and_no_capability_it_does_not_declare() -> None:
    made = request_configuration("n", "1.0.0", {"type": "x", "capabilities": {"mac": False}}, capabilities=CAPABILITIES)
    assert made == {"cniVersion": "1.0.0", "name": "n", "type": "x"}


def test_reserved_keys_of_a_configuration_are_not_passed_on_and_unknown_ones_are() -> None:
    plugin = {"type": "x", "prevResult": {}, "runtimeConfig": {}, "anything": [1], "capabilities": {"mac": True}}
    expected = {"cniVersion": "1.0.0", "name": "n", "type": "x", "anything": [1]}
    assert request_configuration("n", "1.0.0", plugin, capabilities={}) == expected
    # What they may not have is `capabilities` in an operation on an attachment.
    assert request_configuration("n", "1.0.0", plugin) == expected | {"capabilities": {"mac": True}}


def test_the_environment() -> None:
    """Section 2, "Parameters"; what the caller's own environment says of CNI is not passed on."""
    made = environment(
        {"PATH": "/bin", "HOME": "/root", "CNI_ARGS": "X=Y", "CNI_NETNS": "/other"},
        "ADD",
        ["/opt/cni/bin", "/usr/lib/cni"],
        container_id="c1",
        netns="/var/run/netns/blue",
        interface="eth0",
        args=[["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]],
    )
    assert {key: value for key, value in made.items() if key.startswith("CNI_")} == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/var/run/netns/blue",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web",
        "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
    }
    assert made["HOME"] == "/root" and made["PATH"].startswith("/bin:") and "/usr/sbin" in made["PATH"].split(":")
    assert environment({}, "DEL", [], container_id="c1")["CNI_NETNS"] == ""


def test_the_pods_arguments() -> None:
    request = PodNetworkRequest(
        sandbox_id="abc",
        pod_namespace="default",
        pod_name="web",
        pod_uid="u1",
        annotations={"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1Gi"},
        dns=DNSConfig(servers=["192.0.2.53"], searches=["example.org"]),
        ips=["10.1.0.9"],
        mac="02:00:00:00:00:01",
        cgroup_path="/podlite/kubepods/podu1",
    )
    assert dict(map(tuple, pod_args(request))) == {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": "web",
        "K8S_POD_INFRA_CONTAINER_ID": "abc",
        "K8S_POD_UID": "u1",
    }
    port = HostPort(protocol="UDP", host_ip="192.0.2.1", host_port=53, container_port=5353)
    # The names and forms of CONVENTIONS.md, "Well-known Capabilities".
    assert pod_capabilities(request, [port], ["10.1.0.0/16", "fd00::/64"]) == {
        "portMappings": [{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1"}],
        "bandwidth": {
            "ingressRate": 10_000_000,
            "ingressBurst": 4294967295,
            "egressRate": 1 << 30,
            "egressBurst": 4294967295,
        },
        "dns": {"servers": ["192.0.2.53"], "searches": ["example.org"], "options": []},
        "ips": ["10.1.0.9"],
        "mac": "02:00:00:00:00:01",
        "ipRanges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00::/64"}]],
        "cgroupPath": "/podlite/kubepods/podu1",
    }
    assert pod_capabilities(PodNetworkRequest(sandbox_id="abc"), []) == {}


@pytest.mark.parametrize("text", ["fast", "999", "2P", "-1M"])
def test_a_bandwidth_that_is_none(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"kubernetes\.io/egress-bandwidth"):
        bandwidth({"kubernetes.io/egress-bandwidth": text})


def test_the_result_of_the_example() -> None:
    [found] = pod_interfaces(RESULT, attachment())
    assert found == PodInterface(
        name="eth0",
        mac="99:88:77:66:55:44",
        ips=["10.1.0.5"],
        host_interface="veth3243",
        network="dbnet",
        default=True,
        gateway=["10.1.0.1"],
        dns={"nameservers": ["10.1.0.1"]},
    )


def test_addresses_without_an_interface_are_the_attachments() -> None:
    """And those of a bridge are nobody's in the pod; 0.3.x says the version of each."""
    result = {
        "interfaces": RESULT["interfaces"],
        "ips": [
            {"version": "4", "address": "10.1.0.5/16", "interface": 2},
            {"version": "4", "address": "10.1.0.1/16", "interface": 0},
            {"version": "6", "address": "fd00::5/64"},
        ],
    }
    assert [each.ips for each in pod_interfaces(result, attachment())] == [["10.1.0.5", "fd00::5"]]


def test_a_result_without_a_version_has_the_one_that_was_asked_for() -> None:
    assert read_result(b'{"ips": []}', {"type": "x"}, attachment()) == {"cniVersion": "1.0.0", "ips": []}
    assert read_result(b'{"cniVersion": "0.4.0"}', {"type": "x"}, attachment()) == {"cniVersion": "0.4.0"}


@pytest.mark.parametrize(
    "printed",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"ips": {}}',
        b'{"interfaces": [1]}',
        b'{"ips": [{"address": 4}]}',
        b"\xff",
        # Section 5, "Success": an address is in CIDR notation; dns is a dictionary.
        b'{"ips": [{"address": "10.1.0.5"}]}',
        b'{"ips": [{"address": "10.1.0.5/33"}]}',
        b'{"ips": [{"address": "10.1.0/24"}]}',
        b'{"ips": [{"address": "fd00::5/129"}]}',
        b'{"ips": [{"address": "web/24"}]}',
        b'{"ips": [{"address": "10.1.0.5\\u0000/24"}]}',
        b'{"ips": [{}]}',
        b'{"dns": ["192.0.2.53"]}',
        # Two hundred bytes that end within a character.
        ('["' + "\u00e9" * 200 + '"]').encode(),
    ],
)
def test_a_result_that_is_none(printed: bytes) -> None:
    with pytest.raises(PluginError, match="ADD by the CNI plugin x, network dbnet,"):
        read_result(printed, {"type": "x"}, attachment())


def test_errors_are_sentences() -> None:
    """Section 5, "Error", and plugins that do not keep to it."""
    spec = {
        "cniVersion": "1.1.0",
        "code": 7,
        "msg": "Invalid Configuration",
        "details": "Network 192.168.0.0/31 too small to allocate from.",
    }
    error = failure("ADD by the CNI plugin x", Output(1, json.dumps(spec).encode(), b"", ""))
    assert error.code == 7
    assert error.message == (
        "ADD by the CNI plugin x failed: Invalid Configuration; Network 192.168.0.0/31 too small to allocate from"
        " (code 7)."
    )
    said = failure("ADD by x", Output(2, b"", b"panic: nil\ngoroutine 1\n", ""))
    assert said.message == (
        "ADD by x failed with exit status 2, without saying why. On standard error it said: panic: nil\ngoroutine 1"
    )
    assert "was killed by signal 11" in failure("ADD by x", Output(-11, b"", b"", "")).message
    assert "printed what is no error of CNI's: '<html>'" in failure("ADD by x", Output(1, b"<html>", b"", "")).message
    assert failure("ADD by x", Output(1, b'{"code": 11, "msg": "busy"}', b"", "")).hint


def test_networks_in_short() -> None:
    found = additional_networks({"k8s.v1.cni.cncf.io/networks": "storage, default/fast@eth5,other"})
    assert [(each.name, each.namespace, each.interface) for each in found] == [
        ("storage", "", "net1"),
        ("fast", "default", "eth5"),
        ("other", "", "net3"),
    ]
    assert additional_networks({}) == additional_networks({"k8s.v1.cni.cncf.io/networks": " "}) == []


def test_networks_as_json() -> None:
    text = json.dumps(
        [
            {"name": "a", "ips": ["10.2.2.42/24"], "mac": "02:00:00:00:00:02", "interface": "fast0"},
            {"name": "b", "namespace": "x", "portMappings": MAPPINGS, "cni-args": {"vlan": 5}},
        ]
    )
    first, second = additional_networks({"k8s.v1.cni.cncf.io/networks": text})
    assert first.interface == "fast0"
    assert first.capabilities() == {"ips": ["10.2.2.42/24"], "mac": "02:00:00:00:00:02"}
    assert (second.interface, second.cni_args) == ("net2", {"vlan": 5})
    assert second.capabilities() == {"portMappings": MAPPINGS}


@pytest.mark.parametrize(
    "text", ["a@", "/a", "a b", "a@eth0", "a@x,b@x", '[{"name": "a", "default-route": ["1.2.3.4"]}]', "[1]", "{"]
)
def test_networks_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"k8s\.v1\.cni\.cncf\.io/networks"):
        additional_networks({"k8s.v1.cni.cncf.io/networks": text})


def test_a_pods_own_network_by_name() -> None:
    assert default_network({"v1.multus-cni.io/default-network": "other"}) == Selection(name="other")
    assert default_network({}) is None
    with pytest.raises(InvalidArgumentError, match="names 2 networks; a pod has one"):
        default_network({"v1.multus-cni.io/default-network": "a,b"})


def test_the_status_annotation() -> None:
    own = PodInterface(name="eth0", network="builtin", default=True, ips=["10.85.0.2"], mac="0a:58:0a:55:00:02")
    other = PodInterface(name="net1", network="storage", ips=["10.2.0.3"], gateway=["10.2.0.1"])
    assert json.loads(status_annotation([own, other])) == [
        {
            "name": "builtin",
            "interface": "eth0",
            "ips": ["10.85.0.2"],
            "mac": "0a:58:0a:55:00:02",
            "default": True,
            "dns": {},
        },
        {"name": "storage", "interface": "net1", "ips": ["10.2.0.3"], "dns": {}, "gateway": ["10.2.0.1"]},
    ]
