"""The netlink socket where it needs privilege: namespaces, refusals in the kernel's own words."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct

import pytest
from network_hosts import Host, inside, sh

from podlite.linux import conntrack
from podlite.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RTM_NEWADDR,
    NetlinkSocket,
    attribute,
    delete_link,
    find_link,
    links,
    message,
    open_inside,
    routes,
    set_link_up,
)
from podlite.linux.syscalls import CLONE_NEWNET, unshare


def test_a_refusal_has_the_kernels_own_words(lonely: Host) -> None:
    address = attribute(2, socket.inet_aton("192.0.2.1"))
    header = struct.pack("=BBBBi", socket.AF_INET, 33, 0, 0, 1)  # a prefix of 33 bits
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    with NetlinkSocket() as netlink:
        (error,) = netlink.submit(message(RTM_NEWADDR, flags, 1, header + address), 1)
    assert error.errno == errno.EINVAL
    assert "prefix" in str(error.strerror).lower()


def test_a_socket_stays_where_it_was_opened(lonely: Host) -> None:
    other: list[int] = []
    inside(lonely.own, lambda: (unshare(CLONE_NEWNET), other.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))))
    with open_inside(other[0]) as netlink:
        lo = find_link(netlink, "lo")
        assert lo is not None and not lo.flags & 1
        set_link_up(netlink, 1)
        lo = find_link(netlink, "lo")
        assert lo is not None and lo.flags & 1
        assert [link.name for link in links(netlink)] == ["lo"]
        assert "127.0.0.0/8" in [str(route) for route in routes(netlink, socket.AF_INET)]
    os.close(other[0])


def test_what_is_no_namespace_is_refused(lonely: Host) -> None:
    with open("/dev/null", "rb") as file, pytest.raises(OSError) as caught:
        open_inside(file.fileno())
    assert caught.value.errno == errno.EINVAL


def test_a_link_is_deleted_once(lonely: Host) -> None:
    sh("ip link add one type veth peer name two")
    with NetlinkSocket() as netlink:
        assert delete_link(netlink, "one")
        assert not delete_link(netlink, "one")
        assert [link.name for link in links(netlink)] == ["lo"]


def test_routes_of_every_table_are_listed(lonely: Host) -> None:
    sh(
        """
        ip link add one type veth peer name two; ip link set one up; ip link set two up
        ip route add 198.51.100.0/24 dev one table 7777 metric 5 proto 99
        ip route add blackhole 203.0.113.0/24
        ip -6 route add 2001:db8:7::/48 dev one
        """
    )
    with NetlinkSocket() as netlink:
        four = {str(route): route for route in routes(netlink, socket.AF_INET)}
        six = {str(route): route for route in routes(netlink, socket.AF_INET6)}
        one = find_link(netlink, "one")
    assert one is not None
    route = four["198.51.100.0/24"]
    assert (route.table, route.metric, route.protocol, route.interface) == (7777, 5, 99, one.index)
    assert (four["203.0.113.0/24"].type, four["203.0.113.0/24"].interface) == (6, 0)  # RTN_BLACKHOLE
    assert six["2001:db8:7::/48"].interface == one.index


def test_connections_to_one_port_are_forgotten_and_no_others(lonely: Host) -> None:
    sh("nft 'table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }'")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for port in (5353, 5354):
            client.sendto(b"x", ("127.0.0.1", port))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("::1", 5353))

    def remembered() -> set[tuple[str, str]]:
        said = sh("conntrack -L -f ipv4 -p udp 2>/dev/null; conntrack -L -f ipv6 -p udp 2>/dev/null")
        # udp 17 29 src=127.0.0.1 dst=127.0.0.1 sport=50000 dport=5353 [UNREPLIED] …
        return {(words[3], words[6]) for line in said.splitlines() if len(words := line.split()) > 6}

    if shutil.which("conntrack") is None:
        pytest.skip("needs conntrack(8)")
    assert remembered() == {("src=127.0.0.1", "dport=5353"), ("src=127.0.0.1", "dport=5354"), ("src=::1", "dport=5353")}
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        assert conntrack.forget(netlink, socket.IPPROTO_UDP, 5353)
    assert remembered() == {("src=127.0.0.1", "dport=5354")}
