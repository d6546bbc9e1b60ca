"""Host ports by real connections, from everywhere they can come from."""

from __future__ import annotations

import socket

import pytest
from network_hosts import HOST4, HOST6, OUTSIDE4, OUTSIDE6, Host, Pod, ask, refused, serving, sh

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.cri.types import PortMapping, Protocol

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
PROTOCOLS = {TCP: Protocol.TCP, UDP: Protocol.UDP}
PORT, CONTAINER_PORT = 18080, 8000
ANY = {4: "0.0.0.0", 6: "::"}
HOST = {4: HOST4, 6: HOST6}
OUTSIDE = {4: OUTSIDE4, 6: OUTSIDE6}
GATEWAY = {4: "169.254.1.1", 6: "fd85::1"}

families = pytest.mark.parametrize("family", [4, 6])
kinds = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


def publish(host: Host, kind: socket.SocketKind = TCP, host_ip: str = "", port: int = PORT) -> Pod:
    return host.pod(
        PortMapping(protocol=PROTOCOLS[kind], host_ip=host_ip, host_port=port, container_port=CONTAINER_PORT)
    )


@families
@kinds
def test_from_everywhere(host: Host, family: int, kind: socket.SocketKind) -> None:
    pod, other = publish(host, kind), host.pod()
    assert host.outside is not None
    with serving(pod.fd, "pod", ANY[family], CONTAINER_PORT, kind):
        # From outside and from other pods the pod sees who it is; from the host, one of the host's addresses.
        assert ask(host.outside, HOST[family], PORT, kind) == f"pod|{OUTSIDE[family]}"
        assert ask(other.fd, HOST[family], PORT, kind) == f"pod|{other.ip(family)}"
        assert ask(other.fd, GATEWAY[family], PORT, kind) == f"pod|{other.ip(family)}"
        assert ask(host.own, HOST[family], PORT, kind) == f"pod|{HOST[family]}"
        if family == 4:
            assert ask(host.own, "127.0.0.1", PORT, kind) == "pod|169.254.1.1"
        # Hairpin: through its own host port the pod meets itself, as the gateway.
        assert ask(pod.fd, HOST[family], PORT, kind) == f"pod|{GATEWAY[family]}"


@kinds
def test_on_a_host_with_only_lo(lonely: Host, kind: socket.SocketKind) -> None:
    pod, other = publish(lonely, kind), lonely.pod()
    with serving(pod.fd, "pod", "0.0.0.0", CONTAINER_PORT, kind):
        assert ask(lonely.own, "127.0.0.1", PORT, kind) == "pod|169.254.1.1"
        assert ask(other.fd, "169.254.1.1", PORT, kind) == f"pod|{other.ip4}"
        assert ask(pod.fd, "169.254.1.1", PORT, kind) == "pod|169.254.1.1"
    with serving(pod.fd, "pod", "::", CONTAINER_PORT, kind):
        assert ask(other.fd, "fd85::1", PORT, kind) == f"pod|{other.ip6}"
        assert ask(pod.fd, "fd85::1", PORT, kind) == "pod|fd85::1"


@families
@kinds
def test_on_one_address_of_the_host(host: Host, family: int, kind: socket.SocketKind) -> None:
    host_ip = HOST[family]
    second = {4: "192.0.2.9", 6: "2001:db8::9"}[family]
    sh(f"ip address add {second}/{24 if family == 4 else 64} dev up0 {'nodad' if family == 6 else ''}")
    one, two = publish(host, kind, host_ip), publish(host, kind, second)
    assert host.outside is not None
    with (
        serving(one.fd, "one", ANY[family], CONTAINER_PORT, kind),
        serving(two.fd, "two", ANY[family], CONTAINER_PORT, kind),
    ):
        assert ask(host.outside, host_ip, PORT, kind).startswith("one|")
        assert ask(host.outside, second, PORT, kind).startswith("two|")
        assert refused(host.own, GATEWAY[family], PORT, kind)


@kinds
def test_on_the_loopback_address_alone(host: Host, kind: socket.SocketKind) -> None:
    pod = publish(host, kind, "127.0.0.1")
    assert host.outside is not None
    with serving(pod.fd, "pod", "0.0.0.0", CONTAINER_PORT, kind) as server:
        assert refused(host.outside, HOST4, PORT, kind)
        assert refused(host.own, HOST4, PORT, kind)
        assert server.seen == []
        assert ask(host.own, "127.0.0.1", PORT, kind) == "pod|169.254.1.1"


def test_tcp_and_udp_of_the_same_number_are_two_ports(host: Host) -> None:
    tcp, udp = publish(host, TCP), publish(host, UDP)
    with serving(tcp.fd, "tcp", "0.0.0.0", CONTAINER_PORT, TCP), serving(udp.fd, "udp", "0.0.0.0", CONTAINER_PORT, UDP):
        assert ask(host.own, "127.0.0.1", PORT, TCP).startswith("tcp|")
        assert ask(host.own, "127.0.0.1", PORT, UDP).startswith("udp|")


def test_sctp_gets_its_element(host: Host) -> None:
    host.pod(PortMapping(protocol=Protocol.SCTP, host_port=PORT, container_port=CONTAINER_PORT))
    assert f"sctp . {PORT}" in sh("nft list map inet podlite hostports4")


def test_elements_carry_the_pods_name(host: Host) -> None:
    pod = publish(host)
    assert f'comment "default/pod-{pod.record["sandbox_id"][:4]}"' in sh("nft list map inet podlite hostports4")


def test_a_udp_sender_that_never_pauses_finds_the_next_pod(host: Host) -> None:
    first = publish(host, UDP)
    with serving(first.fd, "first", "0.0.0.0", CONTAINER_PORT, UDP), socket.socket(socket.AF_INET, UDP) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", PORT))
        client.send(b"hello")
        assert client.recv(100) == b"first|169.254.1.1"
        first.remove()
        second = publish(host, UDP)
        with serving(second.fd, "second", "0.0.0.0", CONTAINER_PORT, UDP):
            client.send(b"hello")
            assert client.recv(100) == b"second|169.254.1.1"


def test_a_port_of_another_pod_is_refused_before_anything_is_made(host: Host) -> None:
    pod = publish(host)
    before = host.state()
    with pytest.raises(
        NetworkSetupError, match=r"The host port 127\.0\.0\.1:18080/TCP is taken by the pod default/pod-"
    ):
        publish(host, host_ip="127.0.0.1")
    assert host.state() == before
    pod.remove()
    publish(host)


def test_a_port_of_a_host_process_is_refused(host: Host) -> None:
    with serving(host.own, "host", "127.0.0.1", PORT, TCP):
        before = host.state()
        with pytest.raises(NetworkSetupError, match="a process of the host listens on it"):
            publish(host)
        assert host.state() == before


def test_two_that_planned_the_same_port_do_not_both_get_it(host: Host) -> None:
    mapping = PortMapping(host_port=PORT, container_port=CONTAINER_PORT)
    one, two = host.request(mapping), host.request(mapping)
    first, second = host.network.plan(one), host.network.plan(two)
    from podlite.linux import netns
    from podlite.linux.netlink import NetlinkSocket

    for request, record in ((one, first), (two, second)):
        with netns.create(request.netns_path, host.own, NetlinkSocket) as inside:
            if request is one:
                host.network.setup_pod_network(request, record, inside)
                continue
            with pytest.raises(NetworkSetupError, match="is taken by the pod"):
                host.network.setup_pod_network(request, record, inside)
    host.network.teardown_pod_network(second)
    assert f"tcp . {PORT}" in sh("nft list map inet podlite hostports4")
    host.network.teardown_pod_network(first)
    assert f"tcp . {PORT}" not in sh("nft list map inet podlite hostports4")
    for request in (one, two):
        netns.remove(request.netns_path)


def test_the_loopback_address_of_ipv6_is_an_explicit_no(host: Host) -> None:
    with pytest.raises(InvalidArgumentError, match="nothing from ::1 can leave"):
        publish(host, host_ip="::1")
