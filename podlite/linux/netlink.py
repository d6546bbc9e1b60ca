"""A small netlink socket for the hot path: prebuilt batches out, acknowledgements and errors back.

pyroute2 is podlite's netlink library; importing it takes as long as a hundred pod networks. What every pod
needs is therefore sent as byte templates that pyroute2 generated ahead of time, through the socket here, which
knows no more of netlink than headers, acknowledgements, extended errors and the few dumps below.

A netlink socket stays in the network namespace in which it was opened, whichever thread uses it later, even
after that thread has gone back to another namespace: this is how a pod's network is configured from outside.

Everything blocks (the kernel answers within the system call, but RTNL is a lock that all wait for) and belongs
on a worker thread. A socket serves one thread at a time. Only struct and socket are imported.

Sources: netlink(7), rtnetlink(7), include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,neighbour}.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

# --- include/uapi/linux/netlink.h -----------------------------------------------------------
NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF
NLA_F_NESTED = 0x8000
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

# --- include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h -------------------------------------
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28
IFLA_IFNAME, IFLA_MTU, IFLA_GROUP, IFLA_EXT_MASK = 3, 4, 27, 29
RTEXT_FILTER_SKIP_STATS = 1 << 3
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x02, 0x80, 0x200
RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 1, 4, 6, 9, 15
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_UNICAST, RTN_LOCAL = 1, 2
RTM_F_CLONED = 0x200

# A reply is there when the request returns; whatever takes longer than this never comes.
RECEIVE_SECONDS = 10
_RECEIVE_BYTES = 32768


class NetlinkError(OSError):
    """The kernel refused a message. `index` is the message's sequence number in its batch, from 1.

    `strerror` is the errno's text, with the kernel's own extended message where it gave one.
    """

    def __init__(self, code: int, text: str, index: int) -> None:
        said = os.strerror(code)
        super().__init__(code, f"{said} ({text})" if text else said)
        self.index = index


class Template:
    """A prebuilt batch with places to fill in.

    `fields` maps a name to (size in bytes, offsets): the value is written at each offset. `steps` say what each
    message does, in order; their number is the number of messages. The last message alone asks for an
    acknowledgement: the kernel reports errors unasked, and in order.
    """

    __slots__ = ("data", "fields", "steps")

    def __init__(self, data: bytes, fields: Mapping[str, tuple[int, tuple[int, ...]]], steps: tuple[str, ...]) -> None:
        self.data = data
        self.fields = fields
        self.steps = steps

    def fill(self, values: Mapping[str, bytes]) -> bytearray:
        """The batch with `values` in place; values for other templates' fields are ignored.

        Raises KeyError for a missing field, ValueError for a value of another size.
        """
        batch = bytearray(self.data)
        for name, (size, offsets) in self.fields.items():
            value = values[name]
            if len(value) != size:
                raise ValueError(f"{name} takes {size} bytes, not {len(value)}")
            for offset in offsets:
                batch[offset : offset + size] = value
        return batch


class NetlinkSocket:
    """A netlink socket in the network namespace that the calling thread is in when it makes this.

    Raises OSError (EPROTONOSUPPORT where the kernel lacks the protocol).
    """

    __slots__ = ("_socket",)

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", RECEIVE_SECONDS, 0))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_strictly(self) -> None:
        """Has the kernel look at what a dump asks for, where otherwise it lists everything. Raises OSError."""
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def submit(self, batch: bytes | bytearray, count: int) -> list[NetlinkError]:
        """Sends a batch of `count` messages, numbered from 1, of which the last asks for an acknowledgement;
        returns the errors of those that were refused, in order. Each message stands alone for rtnetlink; a
        netfilter batch (its begin message numbered 0) is one transaction, of which nothing happens on an error.

        Raises OSError; after that the socket may hold stale replies and has to be closed.
        """
        self._socket.send(batch)
        errors: list[NetlinkError] = []
        while True:
            reply = self._receive()
            offset = 0
            while offset + 16 <= len(reply):
                length, kind, flags, index, _ = struct.unpack_from("=IHHII", reply, offset)
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", reply, offset + 16)[0]
                    if code:
                        errors.append(NetlinkError(code, _extended_text(reply, offset, length, flags), index))
                    # An error of a netfilter batch's begin message is the answer to all of it.
                    if index == count or (code and index == 0):
                        return errors
                offset += (length + 3) & ~3 or 16

    def transact(self, template: Template, values: Mapping[str, bytes]) -> None:
        """Sends a filled template. Raises NetlinkError for the first message that was refused."""
        errors = self.submit(template.fill(values), len(template.steps))
        if errors:
            raise errors[0]

    def request(self, message: bytes) -> bytes | None:
        """Sends one request numbered 1 for one object and returns the reply's payload behind the netlink header,
        or None for ENOENT, ENODEV or ESRCH. Raises NetlinkError."""
        self._socket.send(message)
        while True:
            reply = self._receive()
            length, kind, flags, index, _ = struct.unpack_from("=IHHII", reply)
            if index != 1:
                continue
            if kind != NLMSG_ERROR:
                return reply[16:length]
            code = -struct.unpack_from("=i", reply, 16)[0]
            if code in (errno.ENOENT, errno.ENODEV, errno.ESRCH):
                return None
            raise NetlinkError(code, _extended_text(reply, 0, length, flags), index)

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The payloads of a dump. Begun anew, up to five times, when the kernel says that what it dumped changed
        meanwhile. Raises NetlinkError; InterruptedError when it never came to rest."""
        for _ in range(5):
            payloads = self._dump_once(kind, body)
            if payloads is not None:
                return iter(payloads)
        raise InterruptedError(errno.EINTR, "what a netlink dump lists kept changing")

    def _dump_once(self, kind: int, body: bytes) -> list[bytes] | None:
        self._socket.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, 1, body))
        payloads: list[bytes] = []
        consistent = True
        while True:
            reply = self._receive()
            offset = 0
            while offset + 16 <= len(reply):
                length, answer, flags, index, _ = struct.unpack_from("=IHHII", reply, offset)
                if index == 1:
                    consistent = consistent and not flags & NLM_F_DUMP_INTR
                    if answer in (NLMSG_DONE, NLMSG_ERROR):
                        code = -struct.unpack_from("=i", reply, offset + 16)[0]
                        if code > 0:
                            raise NetlinkError(code, "", 1)
                        return payloads if consistent else None
                    payloads.append(reply[offset + 16 : offset + length])
                offset += (length + 3) & ~3 or 16

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as error:
            raise TimeoutError(errno.ETIMEDOUT, f"netlink: no reply within {RECEIVE_SECONDS} seconds") from error


class SocketPool:
    """Open sockets of one protocol, in the network namespace of the threads that use it, to save opening one each
    time. With NETLINK_NETFILTER also to save closing one: the kernel lets no such socket go before everything that
    was deleted through nf_tables is really gone, which takes a grace period or two (7 ms).
    """

    __slots__ = ("_idle", "_protocol")

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._protocol = protocol
        self._idle: list[NetlinkSocket] = []

    def lease(self) -> _Lease:
        """A socket for the calling thread, for the length of a `with` block. Entering raises OSError."""
        return _Lease(self._idle, self._protocol)

    def close(self) -> None:
        """Closes those that nobody uses; idempotent, and the pool stays usable."""
        while self._idle:
            self._idle.pop().close()


class _Lease:
    __slots__ = ("_idle", "_netlink", "_protocol")

    def __init__(self, idle: list[NetlinkSocket], protocol: int) -> None:
        self._idle = idle
        self._protocol = protocol

    def __enter__(self) -> NetlinkSocket:
        try:
            self._netlink = self._idle.pop()
        except IndexError:
            self._netlink = NetlinkSocket(self._protocol)
        return self._netlink

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        # Anything but a refusal may have left replies behind.
        if kind is None or issubclass(kind, NetlinkError):
            self._idle.append(self._netlink)
        else:
            self._netlink.close()


def open_inside(netns_fd: int, protocol: int = NETLINK_ROUTE) -> NetlinkSocket:
    """A socket in the network namespace `netns_fd`, opened by a thread of its own that ends with it: no thread
    that lives on has ever been elsewhere. Raises OSError."""
    from podlite.linux.own_thread import run_in_own_thread
    from podlite.linux.syscalls import CLONE_NEWNET, setns

    def enter() -> NetlinkSocket:
        setns(netns_fd, CLONE_NEWNET)
        return NetlinkSocket(protocol)

    return run_in_own_thread(enter)


# --- building and reading messages ------------------------------------------------------------


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One netlink message, padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + b"\0" * (-len(body) % 4)


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes_of(payload: bytes, offset: int) -> dict[int, bytes]:
    """The attributes behind a fixed header of `offset` bytes, by type; of equal types the last."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _extended_text(reply: bytes, offset: int, length: int, flags: int) -> str:
    """The kernel's own words (NETLINK_EXT_ACK), or nothing."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    (echoed,) = struct.unpack_from("=I", reply, offset + 20)
    start = offset + 36 + (0 if flags & NLM_F_CAPPED else (echoed - 16 + 3) & ~3)
    text = attributes_of(reply[: offset + length], start).get(NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode(errors="replace")


# --- the dumps ------------------------------------------------------------------------------


class Link:
    """A network device. `flags` are IFF_*, `group` its device group."""

    __slots__ = ("flags", "group", "index", "mtu", "name")

    def __init__(self, payload: bytes) -> None:
        _, _, self.index, self.flags, _ = struct.unpack_from("=BxHiII", payload)
        found = attributes_of(payload, 16)
        self.name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        self.mtu: int = struct.unpack("=I", found[IFLA_MTU])[0] if IFLA_MTU in found else 0
        self.group: int = struct.unpack("=I", found[IFLA_GROUP])[0] if IFLA_GROUP in found else 0


class Route:
    """A route. `destination` is the packed address; `interface` the outgoing device's index, 0 for none (of a
    multipath route the first); `protocol` who made it (RTPROT_*); `metric` its priority."""

    __slots__ = ("destination", "family", "interface", "metric", "prefix_length", "protocol", "table", "type")

    def __init__(self, payload: bytes) -> None:
        self.family, self.prefix_length, _, _, table, self.protocol, _, self.type = payload[:8]
        found = attributes_of(payload, 12)
        width = 4 if self.family == socket.AF_INET else 16
        self.destination = found.get(RTA_DST, b"\0" * width)
        self.table: int = struct.unpack("=I", found[RTA_TABLE])[0] if RTA_TABLE in found else table
        self.metric: int = struct.unpack("=I", found[RTA_PRIORITY])[0] if RTA_PRIORITY in found else 0
        self.interface: int = 0
        if RTA_OIF in found:
            self.interface = struct.unpack("=i", found[RTA_OIF])[0]
        elif len(found.get(RTA_MULTIPATH, b"")) >= 8:
            self.interface = struct.unpack_from("=i", found[RTA_MULTIPATH], 4)[0]

    def __str__(self) -> str:
        """As `ip route` begins its line: the destination in prefix notation."""
        return f"{socket.inet_ntop(self.family, self.destination)}/{self.prefix_length}"


def routes(netlink: NetlinkSocket, family: int) -> list[Route]:
    """All routes of AF_INET or AF_INET6, in every table, without the cached clones. Raises OSError."""
    return [
        Route(payload)
        for payload in netlink.dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", family, *[0] * 8))
        if payload[0] == family and not struct.unpack_from("=I", payload, 8)[0] & RTM_F_CLONED
    ]


def links(netlink: NetlinkSocket) -> list[Link]:
    """All network devices of the socket's namespace. Raises OSError."""
    return [Link(payload) for payload in netlink.dump(RTM_GETLINK, _link_header() + _WITHOUT_STATISTICS)]


def find_link(netlink: NetlinkSocket, name: str = "", *, index: int = 0) -> Link | None:
    """The network device with this name or index, or None. Raises OSError."""
    body = _link_header(index) + _WITHOUT_STATISTICS
    if name:
        body += attribute(IFLA_IFNAME, name.encode() + b"\0")
    payload = netlink.request(message(RTM_GETLINK, NLM_F_REQUEST, 1, body))
    return None if payload is None else Link(payload)


def set_link_up(netlink: NetlinkSocket, index: int) -> None:
    """Raises NetlinkError."""
    body = struct.pack("=BxHiII", 0, 0, index, IFF_UP, IFF_UP)
    errors = netlink.submit(message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, body), 1)
    if errors:
        raise errors[0]


def delete_link(netlink: NetlinkSocket, name: str) -> bool:
    """Deletes a network device, and of a veth pair both ends; False if there was none. Raises NetlinkError.

    This waits for RCU grace periods with RTNL held: tens of milliseconds in which nobody configures anything.
    """
    body = _link_header() + attribute(IFLA_IFNAME, name.encode() + b"\0")
    errors = netlink.submit(message(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, body), 1)
    if errors and errors[0].errno != errno.ENODEV:
        raise errors[0]
    return not errors


def _link_header(index: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, 0, 0)


_WITHOUT_STATISTICS = attribute(IFLA_EXT_MASK, struct.pack("=I", RTEXT_FILTER_SKIP_STATS))
