"""What every network owes a sandbox, whoever implements it: one set of tests, run on each implementation.

A third party's network is tested by adding its constructor to NETWORKS.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cni_networks import PLUGINS, PORTMAP, bridge, make_cni, ptp
from network_hosts import HOST4, HOST6, OUTSIDE4, OUTSIDE6, Host, Pod, ask, new_host, refused, serving, sh, wait_for

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.cri.types import PortMapping, Protocol
from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.runtime.network.builtin import BuiltinNetwork

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
ANY = {4: "0.0.0.0", 6: "::"}
HOST = {4: HOST4, 6: HOST6}
OUTSIDE = {4: OUTSIDE4, 6: OUTSIDE6}

NETWORKS: dict[str, Callable[[str], Any]] = {
    "builtin": lambda run_dir: BuiltinNetwork(run_dir, ("10.85.0.0/16", "fd85::/64")),
    "cni-bridge": lambda run_dir: make_cni(run_dir, bridge(run_dir), PORTMAP),
    "cni-ptp": lambda run_dir: make_cni(run_dir, ptp(run_dir), PORTMAP),
}

# Every network with either family and with either protocol; podlite's own, and with PODLITE_MATRIX=full each of them,
# with every pair.
WAYS = [
    pytest.param(name, family, kind, id=f"{name}-{'tcp' if kind == TCP else 'udp'}-{family}")
    for number, name in enumerate(NETWORKS)
    for family in (4, 6)
    for kind in (TCP, UDP)
    if name == "builtin"
    or os.environ.get("PODLITE_MATRIX") == "full"
    or (family == 6) == ((kind == UDP) == (number % 2 == 1))
]
ways = pytest.mark.parametrize(("host", "family", "kind"), WAYS, indirect=["host"])
kinds = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@pytest.fixture(params=NETWORKS)
def host(request: pytest.FixtureRequest, run_dir: str) -> Iterator[Host]:
    if request.param.startswith("cni") and not PLUGINS:
        pytest.skip("needs the CNI plugins (package containernetworking-plugins)")
    with new_host(run_dir, uplink=True, make=NETWORKS[request.param]) as made:
        if request.param.startswith("cni"):
            # ptp leaves it to the administrator to switch forwarding on; bridge does it itself.
            sh("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield made


def state(host: Host) -> dict[str, Any]:
    """What a pod's network could leave behind, without what changes by itself: counters, the addresses of a bridge
    that has lost its last port, link-local ones, which the kernel makes a little after the device, and a rule that
    portmap adds twice when two of it come at the same time."""
    found = host.state()
    for key in ("addresses", "routes", "rules"):
        lines = found[key].splitlines() if isinstance(found[key], str) else found[key]
        lines = [each for each in lines if "cni0" not in each and not (key != "rules" and "fe80::" in each)]
        found[key] = sorted({re.sub(r"counter packets \d+ bytes \d+", "", line).strip() for line in lines})
    return found


def settle(host: Host) -> dict[str, Any]:
    """The state with what a network keeps for ever (a bridge, empty chains) there already."""
    host.pod(PortMapping(host_port=18079, container_port=80)).remove()
    host.network.release_unused()
    wait_for(lambda: not any(name.startswith(("veth", "pl")) for name in host.state()["links"]), "the links gone")
    return state(host)


def wait_for_state(host: Host, wanted: dict[str, Any]) -> None:
    try:
        wait_for(lambda: state(host) == wanted, "everything gone", 10.0)
    except AssertionError:
        now = state(host)
        assert {key: now[key] for key in now if now[key] != wanted[key]} == {
            key: wanted[key] for key in now if now[key] != wanted[key]
        }


def test_a_plan_is_plain_and_makes_nothing(host: Host) -> None:
    before = settle(host)
    record = host.network.plan(host.request(PortMapping(host_port=18080, container_port=80)))
    assert json.loads(json.dumps(record)) == record
    assert record["network"] == host.network.name and isinstance(record["version"], int)
    assert state(host) == before


def test_the_pod_has_what_the_status_says(host: Host) -> None:
    pod = host.pod()
    links = {each["ifname"]: each for each in json.loads(pod.sh("ip -j address"))}
    assert "UP" in links["lo"]["flags"], "loopback is up"
    own = pod.status.interfaces[0]
    assert own.name == "eth0" and own.default and own.network
    assert own.mac == links["eth0"]["address"]
    addresses = [each["local"] for each in links["eth0"]["addr_info"] if each["scope"] == "global"]
    assert sorted(pod.status.ips) == sorted(addresses) == sorted(own.ips)
    assert ":" not in pod.status.ips[0], "the first address is the pod's primary one"
    assert own.host_interface in {each["ifname"] for each in json.loads(sh("ip -j link"))}


@ways
def test_pod_to_pod(host: Host, family: int, kind: socket.SocketKind) -> None:
    one, two = host.pod(), host.pod()
    with serving(two.fd, "two", ANY[family], 0, kind) as server:
        assert ask(one.fd, two.ip(family), server.port, kind) == f"two|{one.ip(family)}"


@ways
def test_pod_to_host_and_host_to_pod(host: Host, family: int, kind: socket.SocketKind) -> None:
    pod = host.pod()
    with serving(host.own, "host", HOST[family], 0, kind) as server:
        assert ask(pod.fd, HOST[family], server.port, kind).startswith("host|")
    with serving(pod.fd, "pod", ANY[family], 0, kind) as server:
        assert ask(host.own, pod.ip(family), server.port, kind).startswith("pod|")


@ways
def test_pod_to_outside_as_the_host(host: Host, family: int, kind: socket.SocketKind) -> None:
    pod = host.pod()
    assert host.outside is not None
    with serving(host.outside, "outside", ANY[family], 0, kind) as server:
        assert ask(pod.fd, OUTSIDE[family], server.port, kind) == f"outside|{HOST[family]}"


def test_a_pod_does_not_reach_what_listens_on_the_hosts_loopback(host: Host) -> None:
    pod = host.pod(PortMapping(host_port=18081, container_port=81))
    with serving(host.own, "host", "127.0.0.1", 0, TCP) as server, serving(host.own, "v6", "::1", 0, TCP) as other:
        gateway = pod.sh("ip -4 route show default").split()[2]
        pod.sh(f"ip route add 127.0.0.0/8 via {gateway} dev eth0 onlink table 99; ip rule add to 127.0.0.0/8 table 99")
        assert refused(pod.fd, "127.0.0.1", server.port)
        assert refused(pod.fd, "::1", other.port)
        for address in HOST.values():
            assert refused(pod.fd, address, server.port if ":" not in address else other.port)


@kinds
def test_a_host_port(host: Host, kind: socket.SocketKind) -> None:
    """From outside, from the host by its address and by 127.0.0.1, from another pod, and from the pod itself."""
    protocol = Protocol.TCP if kind == TCP else Protocol.UDP
    pod = host.pod(PortMapping(protocol=protocol, host_port=18080, container_port=80))
    other = host.pod()
    assert host.outside is not None
    with serving(pod.fd, "pod", "0.0.0.0", 80, kind):
        for what, fd, address in (
            ("outside", host.outside, HOST4),
            ("host", host.own, HOST4),
            ("loopback", host.own, "127.0.0.1"),
            ("another pod", other.fd, HOST4),
            ("hairpin", pod.fd, HOST4),
        ):
            assert ask(fd, address, 18080, kind).startswith("pod|"), what
    pod.remove()
    assert refused(host.outside, HOST4, 18080, kind)


def test_a_host_port_by_ipv6(host: Host) -> None:
    pod = host.pod(PortMapping(host_port=18080, container_port=80))
    assert host.outside is not None
    with serving(pod.fd, "pod", "::", 80, TCP):
        assert ask(host.outside, HOST6, 18080).startswith("pod|")
        assert ask(host.own, HOST6, 18080).startswith("pod|")


def test_host_port_conflicts_are_found_by_the_plan(host: Host) -> None:
    host.pod(PortMapping(host_port=18080, container_port=80))
    before = state(host)
    with pytest.raises(NetworkSetupError, match=r"The host port 18080/TCP is taken by the pod default/pod-"):
        host.network.plan(host.request(PortMapping(host_port=18080, container_port=8080)))
    host.network.plan(host.request(PortMapping(protocol=Protocol.UDP, host_port=18080, container_port=80)))
    with (
        serving(host.own, "host", "0.0.0.0", 18099, TCP),
        pytest.raises(NetworkSetupError, match="a process of the host listens on it"),
    ):
        host.network.plan(host.request(PortMapping(host_port=18099, container_port=80)))
    with pytest.raises(InvalidArgumentError):
        host.network.plan(host.request(*[PortMapping(host_port=18100, container_port=80)] * 2))
    assert state(host) == before


def test_teardown_twice_and_of_what_never_was(host: Host) -> None:
    before = settle(host)
    never = host.network.plan(host.request(PortMapping(host_port=18081, container_port=80)))
    pod = host.pod(PortMapping(host_port=18080, container_port=80))
    host.network.teardown_pod_network(pod.record)
    host.network.teardown_pod_network(pod.record)
    pod.close()
    host.network.teardown_pod_network(pod.record)
    host.network.teardown_pod_network(never)
    assert host.network.release_unused()
    wait_for_state(host, before)


def test_teardown_by_another_process(host: Host) -> None:
    before = settle(host)
    pod = host.pod(PortMapping(host_port=18080, container_port=80))
    other = host.make(host.run_dir)
    other.teardown_pod_network(json.loads(json.dumps(pod.record)))
    pod.close()
    assert other.release_unused()
    other.close()
    wait_for_state(host, before)


def test_teardown_after_the_namespace_has_gone(host: Host) -> None:
    """Not all rules: bridge and ptp find those of ipMasq by the addresses in the namespace, and leave them."""
    before = settle(host)
    pod = host.pod(PortMapping(host_port=18080, container_port=80))
    pod.close()
    host.network.teardown_pod_network(pod.record)
    assert host.network.release_unused()
    wait_for(lambda: all(state(host)[key] == before[key] for key in ("links", "files", "routes")), "all gone")


def test_a_failure_takes_everything_back(host: Host) -> None:
    """The pod has an eth0 already, which no implementation may take over (SPEC.md, ADD)."""
    before = settle(host)
    request = host.request(PortMapping(host_port=18080, container_port=80))
    record = host.network.plan(request)

    def occupied() -> NetlinkSocket:
        sh("ip link add eth0 type veth peer name eth9")
        return NetlinkSocket()

    with netns.create(request.netns_path, host.own, occupied) as inside:
        request.netns_fd = inside.fileno()
        with pytest.raises(NetworkSetupError, match=r"The network of pod default/pod-.* could not be set up") as error:
            host.network.setup_pod_network(request, record, inside)
    assert "Taking it back failed" not in str(error.value)
    netns.remove(request.netns_path)
    assert host.network.release_unused()
    wait_for_state(host, before)


def test_pods_in_parallel(host: Host) -> None:
    before = settle(host)
    pods: list[Pod] = []
    errors: list[BaseException] = []

    def make(number: int) -> None:
        try:
            pods.append(host.pod(PortMapping(host_port=19000 + number, container_port=80)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len({ip for pod in pods for ip in pod.status.ips}) == 24
    with serving(pods[0].fd, "first", "0.0.0.0", 0, TCP) as server:
        for pod in pods[1:]:
            assert ask(pod.fd, pods[0].ip4, server.port) == f"first|{pod.ip4}"
    for pod in pods:
        pod.remove()
    assert host.network.release_unused()
    wait_for_state(host, before)


def test_it_is_ready(host: Host) -> None:
    assert host.network.check() == []
