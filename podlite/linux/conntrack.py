"""Forgetting connections: what connection tracking remembers is not looked at by rules that come later.

Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

from podlite.linux.netlink import NLM_F_ACK, NLM_F_REQUEST, attribute, message, nested

if TYPE_CHECKING:
    from podlite.linux.netlink import NetlinkSocket

NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_DELETE = 2
CTA_TUPLE_ORIG, CTA_FILTER = 1, 25
CTA_TUPLE_PROTO = 2
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS = 1
CTA_FILTER_FLAG_PROTO_NUM, CTA_FILTER_FLAG_DST_PORT = 1 << 3, 1 << 5

# Older kernels do not filter by a part of the tuple, and refuse; there is nothing to forget without conntrack.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT})


def forget(netlink: NetlinkSocket, protocol: int, port: int) -> bool:
    """Deletes the entries of all connections of a protocol to a port, IPv4 and IPv6; of nothing else.

    `netlink` is a NETLINK_NETFILTER socket. False on a kernel that cannot (before 6.x). Raises OSError.
    """
    proto = nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, bytes((protocol,))), _port(port))
    by = attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", CTA_FILTER_FLAG_PROTO_NUM | CTA_FILTER_FLAG_DST_PORT))
    attributes = nested(CTA_TUPLE_ORIG, proto) + nested(CTA_FILTER, by)
    for family in (socket.AF_INET, socket.AF_INET6):
        body = struct.pack(">BBH", family, 0, 0) + attributes
        kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
        errors = netlink.submit(message(kind, NLM_F_REQUEST | NLM_F_ACK, 1, body), 1)
        if errors:
            if errors[0].errno in _UNSUPPORTED:
                return False
            raise errors[0]
    return True


def _port(port: int) -> bytes:
    return attribute(CTA_PROTO_DST_PORT, struct.pack(">H", port))
