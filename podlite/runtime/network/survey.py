"""What the built-in network has to know of the host before the first pod: routes, ways out, IPv6 or not.

One look per process: two route dumps and a few small files. The decisions are pure functions of what was seen.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import msgspec

from podlite.cri.errors import NetworkSetupError
from podlite.linux.netlink import RT_TABLE_LOCAL, RTN_LOCAL, RTN_UNICAST, Link, NetlinkSocket, Route, find_link, routes
from podlite.runtime.network.constants import ROUTE_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.runtime.network.addresses import Subnet

LOOPBACK_INDEX = 1
DEFAULT_MTU = 1500
# RFC 8200: a link with less cannot carry IPv6, and the kernel does not let it.
MINIMUM_IPV6_MTU = 1280

# A VPN that takes over everything halves the default route (0.0.0.0/1 and 128.0.0.0/1), to be more specific than it.
_DEFAULT_ROUTE_BITS = 1


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """`uplinks` are the host's devices that lead elsewhere, by family (4, 6): those that carry a route and are
    neither `lo` nor a pod's. `ipv6` says whether pods can have IPv6 here, `ipv6_links` whether new devices have
    anything of IPv6 at all, which they may even where it is switched off; `mtu` is what fits through the host's own
    outgoing device."""

    uplinks: dict[int, list[str]]
    ipv6: bool
    ipv6_links: bool
    mtu: int


def take_survey(netlink: NetlinkSocket, subnets: Iterable[Subnet]) -> Survey:
    """Looks at the host's network. Raises NetworkSetupError when a subnet overlaps a route; OSError."""
    ipv6 = ipv6_enabled()
    found = {4: routes(netlink, socket.AF_INET), 6: routes(netlink, socket.AF_INET6) if ipv6 else []}
    for subnet in subnets:
        if (route := overlapping_route(found[subnet.family], subnet)) is not None:
            link = find_link(netlink, index=route.interface) if route.interface else None
            device = f" dev {link.name}" if link is not None else ""
            raise NetworkSetupError(
                f"The pod addresses {subnet.text} overlap the route {route}{device} of this host.",
                hint="choose a range that is not in use here with --pod-cidr",
            )
    by_index: dict[int, Link] = {}
    uplinks: dict[int, list[str]] = {}
    for family, listed in found.items():
        indices = uplink_indices(listed)
        for index in indices - by_index.keys():
            if (link := find_link(netlink, index=index)) is not None:
                by_index[index] = link
        uplinks[family] = sorted(by_index[index].name for index in indices if index in by_index)
    outgoing = by_index.get(default_interface(found[4]) or default_interface(found[6]))
    mtu = outgoing.mtu if outgoing is not None and outgoing.mtu else DEFAULT_MTU
    ipv6_links = mtu >= MINIMUM_IPV6_MTU and os.path.isdir("/proc/sys/net/ipv6")
    return Survey(uplinks=uplinks, ipv6=ipv6 and ipv6_links, ipv6_links=ipv6_links, mtu=mtu)


def overlapping_route(listed: Iterable[Route], subnet: Subnet) -> Route | None:
    """The first route that leads addresses of `subnet` somewhere, or whose destination is the subnet's part.

    Not counted: default routes, whole or halved; podlite's own; those that lead nowhere (blackhole and the like);
    and the pods' own gateway.
    """
    width = 4 if subnet.family == 4 else 16
    for route in listed:
        if route.type not in (RTN_UNICAST, RTN_LOCAL) or route.prefix_length <= _DEFAULT_ROUTE_BITS:
            continue
        if route.protocol == ROUTE_PROTOCOL or (route.type == RTN_LOCAL and route.destination == subnet.gateway):
            continue
        shift = width * 8 - min(route.prefix_length, subnet.prefix_length)
        if int.from_bytes(route.destination, "big") >> shift == subnet.base >> shift:
            return route
    return None


def uplink_indices(listed: Iterable[Route]) -> set[int]:
    """The devices that unicast routes lead through, but for `lo` and the pods'."""
    return {
        route.interface
        for route in listed
        if route.type == RTN_UNICAST
        and route.table != RT_TABLE_LOCAL
        and route.protocol != ROUTE_PROTOCOL
        and route.interface not in (0, LOOPBACK_INDEX)
    }


def default_interface(listed: Iterable[Route]) -> int:
    """The device of the best default route, or 0."""
    defaults = [route for route in listed if route.type == RTN_UNICAST and route.prefix_length <= _DEFAULT_ROUTE_BITS]
    # The longest prefix wins, then the lowest metric.
    best = min(defaults, key=lambda route: (-route.prefix_length, route.metric), default=None)
    return best.interface if best is not None else 0


def ipv6_enabled() -> bool:
    """Whether this network namespace has IPv6, on new devices and on `lo` (ipv6.disable=1, disable_ipv6=1)."""
    return all(_read(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6") == "0" for name in ("all", "default", "lo"))


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)
