"""Devices and addresses by hand, one message at a time: for what is made once, and not on the way of every pod.

Sources: rtnetlink(7), veth(4), include/uapi/linux/{if_link,if_addr,veth}.h. Blocking.
"""

from __future__ import annotations

import socket
import struct

from podlite.linux.netlink import (
    IFA_ADDRESS,
    IFA_F_NODAD,
    IFA_FLAGS,
    IFA_LOCAL,
    IFLA_IFNAME,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RTM_NEWADDR,
    RTM_NEWLINK,
    NetlinkSocket,
    attribute,
    message,
    nested,
)
from podlite.linux.own_thread import run_in_own_thread
from podlite.linux.syscalls import CLONE_NEWNET, setns

IFLA_LINKINFO, IFLA_NET_NS_FD = 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
_CREATE = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL


def create_veth(netlink: NetlinkSocket, name: str, peer: str, peer_netns: int) -> None:
    """A veth pair: `name` in the socket's namespace, `peer` in the one of that descriptor. Raises NetlinkError."""
    header = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    other = (
        header
        + attribute(IFLA_IFNAME, peer.encode() + b"\0")
        + attribute(IFLA_NET_NS_FD, struct.pack("=I", peer_netns))
    )
    kind = attribute(IFLA_INFO_KIND, b"veth\0")
    info = nested(IFLA_LINKINFO, kind, nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER | 0x8000, other)))
    _submit(netlink, RTM_NEWLINK, header + attribute(IFLA_IFNAME, name.encode() + b"\0") + info)


def add_address(netlink: NetlinkSocket, index: int, address: str, prefix_length: int) -> None:
    """Gives a device an address, for use at once (IPv6: without looking for somebody else's). Raises NetlinkError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = struct.pack("=BBBBi", family, prefix_length, 0, 0, index) + attribute(IFA_ADDRESS, packed)
    if family == socket.AF_INET:
        body += attribute(IFA_LOCAL, packed)
    else:
        body += attribute(IFA_FLAGS, struct.pack("=I", IFA_F_NODAD))
    _submit(netlink, RTM_NEWADDR, body)


def _submit(netlink: NetlinkSocket, kind: int, body: bytes) -> None:
    errors = netlink.submit(message(kind, _CREATE, 1, body), 1)
    if errors:
        raise errors[0]


def open_socket_inside(netns: int, family: int, kind: int) -> socket.socket:
    """A socket of a network namespace, for whoever wants to use it: it stays there. Opened by a thread of its own,
    that ends with it. Raises OSError."""

    def enter() -> socket.socket:
        setns(netns, CLONE_NEWNET)
        return socket.socket(family, kind | socket.SOCK_CLOEXEC)

    return run_in_own_thread(enter)
