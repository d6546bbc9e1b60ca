"""What is made of the host's routes; messages as the kernel sends them (rtnetlink(7), struct rtmsg)."""

from __future__ import annotations

import socket
import struct

import pytest

from podlite.linux.netlink import RTA_DST, RTA_MULTIPATH, RTA_OIF, RTA_PRIORITY, RTA_TABLE, Route, attribute
from podlite.runtime.network.addresses import Subnet
from podlite.runtime.network.survey import default_interface, overlapping_route, uplink_indices

UNICAST, LOCAL, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 6, 7, 8
MAIN, LOCAL_TABLE = 254, 255
RTPROT_KERNEL, RTPROT_BOOT, PODLITE = 2, 3, 112


def route(
    text: str,
    *,
    device: int = 2,
    type: int = UNICAST,
    table: int = MAIN,
    protocol: int = RTPROT_BOOT,
    metric: int = 0,
    hops: tuple[int, ...] = (),
) -> Route:
    address, _, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    body = struct.pack("=BBBBBBBBI", family, int(length), 0, 0, min(table, 252), protocol, 0, type, 0)
    body += attribute(RTA_TABLE, struct.pack("=I", table))
    if int(length):
        body += attribute(RTA_DST, socket.inet_pton(family, address))
    if device:
        body += attribute(RTA_OIF, struct.pack("=i", device))
    if metric:
        body += attribute(RTA_PRIORITY, struct.pack("=I", metric))
    if hops:
        body += attribute(RTA_MULTIPATH, b"".join(struct.pack("=HBBi", 8, 0, 0, hop) for hop in hops))
    return Route(body)


def test_a_route_is_read() -> None:
    one = route("10.0.0.0/8", device=7, metric=100)
    assert (str(one), one.interface, one.metric, one.table, one.protocol, one.type) == (
        "10.0.0.0/8",
        7,
        100,
        MAIN,
        RTPROT_BOOT,
        UNICAST,
    )
    assert str(route("::/0")) == "::/0"
    assert route("0.0.0.0/0", device=0, hops=(5, 6)).interface == 5


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("10.85.0.0/16", {}),
        ("10.85.3.0/24", {}),
        ("10.0.0.0/8", {}),
        ("10.85.255.255/32", {"table": LOCAL_TABLE, "type": LOCAL}),
        ("10.84.0.0/15", {"table": 51820}),
    ],
)
def test_overlap(text: str, options: dict[str, int]) -> None:
    assert overlapping_route([route("192.0.2.0/24"), route(text, **options)], Subnet("10.85.0.0/16")) is not None


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("0.0.0.0/0", {}),
        ("0.0.0.0/1", {}),
        ("10.86.0.0/16", {}),
        ("10.84.0.0/16", {}),
        ("10.85.0.7/32", {"protocol": PODLITE}),
        ("10.85.0.0/16", {"type": BLACKHOLE, "device": 0}),
        ("10.0.0.0/8", {"type": UNREACHABLE, "device": 0}),
        ("10.85.0.0/16", {"type": PROHIBIT, "device": 0}),
    ],
)
def test_no_overlap(text: str, options: dict[str, int]) -> None:
    assert overlapping_route([route(text, **options)], Subnet("10.85.0.0/16")) is None


def test_ipv6_overlap_but_for_our_own_gateway() -> None:
    subnet = Subnet("fd85::/64")
    gateway = route("fd85::1/128", table=LOCAL_TABLE, type=LOCAL, protocol=RTPROT_KERNEL, device=1)
    assert overlapping_route([gateway], subnet) is None
    assert overlapping_route([gateway, route("fd00::/8")], subnet) is not None
    assert overlapping_route([route("fd85::7/128", table=LOCAL_TABLE, type=LOCAL)], subnet) is not None
    assert overlapping_route([route("fe80::/64"), route("::/0")], subnet) is None


def test_uplinks_are_devices_with_routes_but_lo_and_pods() -> None:
    listed = [
        route("0.0.0.0/0", device=2),
        route("192.0.2.0/24", device=2, protocol=RTPROT_KERNEL),
        route("198.51.100.0/24", device=5, table=100),
        route("127.0.0.0/8", device=1, type=LOCAL, table=LOCAL_TABLE),
        route("192.0.2.9/32", device=9, type=LOCAL, table=LOCAL_TABLE),
        route("10.85.0.2/32", device=1000002, protocol=PODLITE),
        route("10.9.0.0/16", device=0, type=BLACKHOLE),
    ]
    assert uplink_indices(listed) == {2, 5}


def test_the_default_route_is_the_most_specific_then_the_cheapest() -> None:
    assert default_interface([]) == 0
    assert default_interface([route("192.0.2.0/24", device=4)]) == 0
    assert default_interface([route("0.0.0.0/0", device=2, metric=200), route("0.0.0.0/0", device=3, metric=100)]) == 3
    assert default_interface([route("0.0.0.0/0", device=2), route("128.0.0.0/1", device=8, metric=50)]) == 8
