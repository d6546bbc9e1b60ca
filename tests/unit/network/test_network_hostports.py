"""Host ports: which are valid, which collide, what they become.

Collisions as in the scheduler's HostPortInfo (staging/src/k8s.io/kube-scheduler/framework): same protocol and
port, and the same address or one of the two every address.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.cri.types import PortMapping, Protocol
from podlite.linux.netlink import NETLINK_NETFILTER, SocketPool
from podlite.runtime.network.hostports import HostPort, HostPorts, elements_of, needs_route_localnet, read_mappings

A, B = "a" * 64, "b" * 64


def port(host_ip: str = "", host_port: int = 8080, protocol: str = "TCP") -> HostPort:
    return HostPort(protocol=protocol, host_ip=host_ip, host_port=host_port, container_port=80)


def mapping(host_ip: str = "", host_port: int = 8080, container_port: int = 80) -> PortMapping:
    return PortMapping(host_ip=host_ip, host_port=host_port, container_port=container_port)


@pytest.fixture
def host_ports(tmp_path: Path) -> HostPorts:
    return HostPorts(str(tmp_path), SocketPool(NETLINK_NETFILTER))


@pytest.mark.parametrize(
    ("one", "other", "collides"),
    [
        (port(), port(), True),
        (port(), port("127.0.0.1"), True),
        (port("0.0.0.0"), port("192.0.2.1"), True),
        (port("192.0.2.1"), port("192.0.2.1"), True),
        (port(), port("::1:2"), True),
        (port("::"), port("fd00::1"), True),
        (port("192.0.2.1"), port("192.0.2.2"), False),
        (port("0.0.0.0"), port("::"), False),
        (port("0.0.0.0"), port("fd00::1"), False),
        (port(), port(protocol="UDP"), False),
        (port(), port(host_port=8081), False),
    ],
)
def test_collisions(one: HostPort, other: HostPort, collides: bool) -> None:
    assert one.collides_with(other) is collides
    assert other.collides_with(one) is collides


def test_mappings_without_a_host_port_are_no_concern() -> None:
    assert read_mappings([mapping(host_port=0)], [4]) == []


def test_mappings_are_read() -> None:
    mappings = [
        PortMapping(protocol=Protocol.UDP, host_port=53, container_port=5353, host_ip="FD00::0:1"),
        mapping("127.0.0.1"),
    ]
    assert read_mappings(mappings, [4, 6]) == [
        HostPort(protocol="UDP", host_ip="fd00::1", host_port=53, container_port=5353),
        HostPort(protocol="TCP", host_ip="127.0.0.1", host_port=8080, container_port=80),
    ]


@pytest.mark.parametrize(
    ("mappings", "said"),
    [
        ([mapping("localhost")], "no address"),
        ([mapping("::1")], "nothing from ::1 can leave"),
        ([mapping(host_port=70000)], "not between 1 and 65535"),
        ([mapping(container_port=0)], "not between 1 and 65535"),
        ([mapping("fd00::1")], "the pod has no IPv6 address"),
        ([mapping(), mapping("127.0.0.1")], "twice"),
    ],
)
def test_what_cannot_be_published(mappings: list[PortMapping], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        read_mappings(mappings, [4])


@pytest.mark.parametrize(
    ("host_ip", "needed"),
    [("", True), ("0.0.0.0", True), ("127.0.0.1", True), ("127.1.2.3", True), ("192.0.2.1", False), ("::", False)],
)
def test_route_localnet_only_for_the_hosts_loopback(host_ip: str, needed: bool) -> None:
    assert needs_route_localnet([port(host_ip)]) is needed


def test_a_port_on_every_address_becomes_an_element_in_each_family() -> None:
    four, six = socket.inet_aton("10.85.0.2"), socket.inet_pton(socket.AF_INET6, "fd85::2")
    # The parts of a concatenation are padded to four bytes, numbers in network order (libnftnl).
    key = struct.pack(">BxxxHxx", socket.IPPROTO_TCP, 8080)
    assert sorted(elements_of([port()], ["10.85.0.2", "fd85::2"])) == sorted(
        [
            ("hostports4", key, four + struct.pack(">Hxx", 80)),
            ("hostports6", key, six + struct.pack(">Hxx", 80)),
            ("hairpin4", four + four, b""),
            ("hairpin6", six + six, b""),
        ]
    )


def test_a_port_on_one_address_has_it_in_its_key() -> None:
    elements = elements_of([port("192.0.2.1", protocol="SCTP")], ["10.85.0.2", "fd85::2"])
    key = socket.inet_aton("192.0.2.1") + struct.pack(">BxxxHxx", 132, 8080)
    assert [element[:2] for element in elements if element[0] != "hairpin4"] == [("hostports4_ip", key)]


def test_two_ports_share_the_hairpin_element() -> None:
    elements = elements_of([port(), port(host_port=8081)], ["10.85.0.2"])
    assert sorted(element[0] for element in elements) == ["hairpin4", "hostports4", "hostports4"]


def test_a_reservation_keeps_others_out_and_names_the_pod(host_ports: HostPorts, tmp_path: Path) -> None:
    wanted = [port(host_port=free_port())]
    host_ports.reserve(wanted, A, ["10.85.0.2"], "default/web")
    host_ports.reserve(wanted, A, ["10.85.0.2"], "default/web")
    with pytest.raises(NetworkSetupError, match="is taken by the pod default/web"):
        host_ports.check_free([port("127.0.0.1", wanted[0].host_port)], B)
    (name,) = os.listdir(tmp_path / "hostports")
    assert os.readlink(tmp_path / "hostports" / name) == f"{A} 80 10.85.0.2 - default/web"
    host_ports.withdraw(wanted, B, ["10.85.0.2"])
    assert os.listdir(tmp_path / "hostports") == [name]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_the_host_listens_on_is_refused(host_ports: HostPorts, kind: socket.SocketKind) -> None:
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        number = taken.getsockname()[1]
        for host_ip in ("", "127.0.0.1", "0.0.0.0"):
            with pytest.raises(NetworkSetupError, match="a process of the host listens on it") as caught:
                host_ports.check_free([port(host_ip, number, protocol)], A)
            assert f":{number}" in caught.value.hint


def test_an_address_that_the_host_does_not_have(host_ports: HostPorts) -> None:
    with pytest.raises(NetworkSetupError, match=r"192\.0\.2\.77 is not an address of this host"):
        host_ports.check_free([port("192.0.2.77")], A)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
