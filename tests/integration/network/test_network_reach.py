"""Who reaches whom, with real sockets: pods, the host, and an outside that knows no way back to the pods."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from network_hosts import HOST4, HOST6, OUTSIDE4, OUTSIDE6, Host, ask, inside, refused, serving, sh

from podlite.cri.types import PortMapping
from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
ANY = {4: "0.0.0.0", 6: "::"}
GATEWAY = {4: "169.254.1.1", 6: "fd85::1"}
HOST = {4: HOST4, 6: HOST6}
OUTSIDE = {4: OUTSIDE4, 6: OUTSIDE6}

families = pytest.mark.parametrize("family", [4, 6])
kinds = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@families
@kinds
def test_pod_to_pod_with_its_own_address(host: Host, family: int, kind: socket.SocketKind) -> None:
    one, two = host.pod(), host.pod()
    with serving(two.fd, "two", ANY[family], 0, kind) as server:
        assert ask(one.fd, two.ip(family), server.port, kind) == f"two|{one.ip(family)}"


@families
@kinds
def test_pod_to_host(host: Host, family: int, kind: socket.SocketKind) -> None:
    pod = host.pod()
    for address in (GATEWAY[family], HOST[family]):
        with serving(host.own, "host", address, 0, kind) as server:
            assert ask(pod.fd, address, server.port, kind) == f"host|{pod.ip(family)}"


@families
@kinds
def test_host_to_pod(host: Host, family: int, kind: socket.SocketKind) -> None:
    pod = host.pod()
    with serving(pod.fd, "pod", ANY[family], 0, kind) as server:
        assert ask(host.own, pod.ip(family), server.port, kind) == f"pod|{GATEWAY[family]}"


@families
@kinds
def test_pod_to_outside_as_the_host(host: Host, family: int, kind: socket.SocketKind) -> None:
    pod = host.pod()
    assert host.outside is not None
    with serving(host.outside, "outside", ANY[family], 0, kind) as server:
        assert ask(pod.fd, OUTSIDE[family], server.port, kind) == f"outside|{HOST[family]}"


@families
@kinds
def test_on_a_host_with_only_lo(lonely: Host, family: int, kind: socket.SocketKind) -> None:
    one, two = lonely.pod(), lonely.pod()
    with serving(one.fd, "one", ANY[family], 0, kind) as server:
        assert ask(two.fd, one.ip(family), server.port, kind) == f"one|{two.ip(family)}"
        assert ask(lonely.own, one.ip(family), server.port, kind) == f"one|{GATEWAY[family]}"
    with serving(lonely.own, "host", ANY[family], 0, kind) as server:
        assert ask(one.fd, GATEWAY[family], server.port, kind) == f"host|{one.ip(family)}"


@families
def test_pod_to_itself(lonely: Host, family: int) -> None:
    pod = lonely.pod()
    for address in ({4: "127.0.0.1", 6: "::1"}[family], pod.ip(family)):
        with serving(pod.fd, "self", address, 0, TCP) as server:
            assert ask(pod.fd, address, server.port) == f"self|{address}"


def test_ping(host: Host) -> None:
    one, two = host.pod(), host.pod()
    for address in (two.ip4, two.ip6, GATEWAY[4], GATEWAY[6], OUTSIDE4, OUTSIDE6):
        assert "1 received" in one.sh(f"ping -c 1 -W 5 {address}")


def test_the_first_packet_waits_for_nobody(host: Host) -> None:
    """Static neighbours: there is never an entry that has to be resolved, on either end."""
    pod = host.pod()
    with serving(pod.fd, "pod", "::", 0, TCP) as server:
        ask(host.own, pod.ip6, server.port)
    unresolved = "ip neigh show nud incomplete nud stale nud reachable nud delay nud probe nud failed"
    assert pod.sh(unresolved) == ""
    assert pod.record["host_interface"] not in pod.sh(unresolved)
    flags = pod.sh("ip -6 address show dev eth0")
    assert "tentative" not in flags and "scope link" not in flags


@families
def test_not_even_the_very_first_packet_is_lost(host: Host, family: int) -> None:
    """One datagram each way, sent as soon as the set-up returns, from sockets that were there before it."""
    af, any_address = (socket.AF_INET, "0.0.0.0") if family == 4 else (socket.AF_INET6, "::")
    with socket.socket(af, UDP) as outer:
        outer.bind((any_address, 0))
        outer.settimeout(5)
        for turn in range(60):
            request = host.request()
            record = host.network.plan(request)
            ip = record["ips"][0 if family == 4 else 1]
            opened: list[socket.socket] = []

            def open_inside(opened: list[socket.socket] = opened) -> NetlinkSocket:
                opened.append(socket.socket(af, UDP))
                return NetlinkSocket()

            with netns.create(request.netns_path, host.own, open_inside) as inside_netlink, opened[0] as inner:
                inner.bind((any_address, 0))
                inner.settimeout(5)
                host.network.setup_pod_network(request, record, inside_netlink)
                if turn % 2:
                    inner.sendto(b"out", (GATEWAY[family], outer.getsockname()[1]))
                    assert outer.recvfrom(10)[1][0] == ip
                else:
                    outer.sendto(b"in", (ip, inner.getsockname()[1]))
                    assert inner.recv(10) == b"in"
            host.network.teardown_pod_network(record)
            netns.remove(request.netns_path)


@families
def test_loopback_of_the_host_is_out_of_reach(host: Host, family: int) -> None:
    """A service bound to the host's loopback, and a pod that does what it can to get there."""
    with serving(host.own, "free", ANY[family], 0, TCP) as free:
        # With a wildcard host port the pod's host end has route_localnet, which opens the way.
        pod = host.pod(PortMapping(host_port=18080, container_port=80))
        loopback = {4: "127.0.0.1", 6: "::1"}[family]
        with serving(host.own, "secret", loopback, 0, TCP) as secret:
            via = {4: "169.254.1.1", 6: "fd85::1"}[family]
            pod.sh(
                "ip link set lo down; ip route flush table local || true; ip -6 route flush table local || true;"
                f"ip -{family} route add {loopback} via {via} dev eth0 onlink;"
                f"ip -{family} route replace local {pod.ip(family)} dev eth0 table local;"
                "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"
            )
            assert refused(pod.fd, loopback, secret.port)
            assert refused(pod.fd, via, secret.port)
            assert secret.seen == []
            assert ask(pod.fd, via, free.port) == f"free|{pod.ip(family)}"


def test_a_pod_cannot_send_from_addresses_that_are_not_its_own(host: Host) -> None:
    pod, other = host.pod(), host.pod()
    assert host.outside is not None
    with (
        serving(host.own, "host4", "0.0.0.0", 0, UDP) as four,
        serving(host.own, "host6", "::", 0, UDP) as six,
        serving(other.fd, "other", "0.0.0.0", 0, UDP) as pod4,
        serving(other.fd, "other", "::", 0, UDP) as pod6,
    ):
        for source in ("127.0.0.5", "10.85.77.7", other.ip4, "fd85::7777", "2001:db8::77", other.ip6):
            family = 6 if ":" in source else 4
            pod.sh(f"ip address add {source}/{128 if family == 6 else 32} dev eth0 {'nodad' if family == 6 else ''}")
            for server, address in {
                4: ((four, GATEWAY[4]), (pod4, other.ip4)),
                6: ((six, GATEWAY[6]), (pod6, other.ip6)),
            }[family]:
                pod.sh(
                    "python3 -c 'import socket; s = socket.socket("
                    f"socket.AF_INET{'6' if family == 6 else ''}, socket.SOCK_DGRAM);"
                    f's.bind(("{source}", 0)); s.sendto(b"spoofed", ("{address}", {server.port}))\' || true'
                )
            pod.sh(f"ip address del {source}/{128 if family == 6 else 32} dev eth0")
        # The control: the same from the pod's own address arrives, and has overtaken nothing.
        for server, address, source in (
            (four, GATEWAY[4], pod.ip4),
            (six, GATEWAY[6], pod.ip6),
            (pod4, other.ip4, pod.ip4),
            (pod6, other.ip6, pod.ip6),
        ):
            assert ask(pod.fd, address, server.port, UDP).endswith(source)
            assert server.seen == [source]


def test_a_pod_cannot_give_the_host_a_route(host: Host) -> None:
    """A router advertisement from a pod (RFC 4861, type 134), with everything a host asks of one."""
    pod = host.pod()
    pod.sh(
        "ip -6 address add fe80::bad/64 dev eth0 nodad;"
        """python3 -c '
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex("eth0")
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
s.bind(("fe80::bad", 0, 0, index))
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, index))
'"""
    )
    # The same way, a ping after it: once that has been answered, the advertisement has been dealt with.
    assert "1 received" in pod.sh("ping -c 1 -W 5 fd85::1")
    assert "fe80::bad" not in sh("ip -6 route show table all")


def test_mtu_is_that_of_the_way_out(host: Host) -> None:
    assert host.outside is not None
    sh("ip link set up0 mtu 1400")
    inside(host.outside, lambda: sh("ip link set out0 mtu 1400"))
    pod = host.pod()
    assert pod.status.interfaces[0].mtu == 1400
    assert "mtu 1400" in pod.sh("ip link show eth0")
    assert "mtu 1400" in sh(f"ip link show {pod.record['host_interface']}")
    # 28 bytes of IPv4 and ICMP header; a packet that just fits passes unfragmented, all the way.
    assert "1 received" in pod.sh(f"ping -c 1 -W 5 -M do -s {1400 - 28} {OUTSIDE4}")


def test_settings_of_the_host_end(host: Host) -> None:
    """Kernel: ip-sysctl.rst, conf/interface/*."""
    plain, published = host.pod(), host.pod(PortMapping(host_port=18081, container_port=80))
    for pod, localnet in ((plain, "0"), (published, "1")):
        base = f"/proc/sys/net/ipv4/conf/{pod.record['host_interface']}"
        expected = {
            "forwarding": "1",
            "rp_filter": "1",
            "accept_redirects": "0",
            "send_redirects": "0",
            "route_localnet": localnet,
            "proxy_arp": "0",
        }
        assert {key: Path(f"{base}/{key}").read_text().strip() for key in expected} == expected


def test_status_and_record_say_what_is_there(host: Host) -> None:
    pod = host.pod()
    (interface,) = pod.status.interfaces
    assert pod.status.ips == [pod.ip4, pod.ip6] == pod.record["ips"] == interface.ips
    assert interface.host_interface == pod.record["host_interface"] == f"pl{pod.record['sandbox_id'][:8]}"
    assert pod.record["network"] == "builtin"
    shown = pod.sh("ip address show dev eth0")
    assert f"link/ether {interface.mac} " in shown
    assert f"inet {pod.ip4}/32" in shown and f"inet6 {pod.ip6}/128" in shown


def test_a_pod_can_wish_for_addresses(host: Host) -> None:
    pod = host.pod(ips=["fd85::9:9", "10.85.9.9"], mac="02:00:00:00:00:99")
    assert pod.status.ips == ["10.85.9.9", "fd85::9:9"]
    assert pod.status.interfaces[0].mac == "02:00:00:00:00:99"
    with serving(pod.fd, "pod", "0.0.0.0", 0, TCP) as server:
        assert ask(host.own, "10.85.9.9", server.port).startswith("pod|")
