"""Encoding of nf_tables messages: tables, chains, sets, the few expressions podlite's table is made of.

Not a library for nftables: it knows what `podlite.runtime.network.ruleset` needs, in the order in which nft(8)
itself encodes it, so that `nft list ruleset` shows the table as if nft had made it. All integers are big-endian.

Sources: include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h; nft's own encoding by `nft --debug=netlink`.
"""

from __future__ import annotations

import struct

from podlite.linux.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    attribute,
    attributes_of,
    message,
    nested,
)

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE = 0, 1, 2
NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET = 3, 6, 9
NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM = 12, 14

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10
NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING = 0, 3, 4
NF_DROP, NF_ACCEPT, NFT_JUMP = 0, 1, -3

NFT_SET_MAP = 0x8
# The types of keys, as nft numbers them (include/datatype.h); a concatenation has six bits for each.
TYPE_IPADDR, TYPE_IP6ADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE = 7, 8, 12, 13
TYPE_BYTES = {TYPE_IPADDR: 4, TYPE_IP6ADDR: 16, TYPE_INET_PROTOCOL: 4, TYPE_INET_SERVICE: 4}

NFT_REG_VERDICT, NFT_REG_1, NFT_REG32_00 = 0, 1, 8
NFT_META_NFPROTO, NFT_META_L4PROTO, NFT_META_IIFGROUP, NFT_META_OIFGROUP = 15, 16, 21, 22
NFT_CMP_EQ, NFT_CMP_NEQ = 0, 1
NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 1, 2
NFT_FIB_RESULT_OIF, NFT_FIB_RESULT_ADDRTYPE = 1, 3
NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR, NFTA_FIB_F_IIF, NFTA_FIB_F_PRESENT = 1, 2, 8, 32
NFT_NAT_SNAT, NFT_NAT_DNAT = 0, 1


def _be32(value: int) -> bytes:
    return struct.pack(">I", value)


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _be32(value))


class Batch:
    """One transaction: everything in it happens, or nothing.

    Messages are numbered from 1; `encode` gives the bytes and the number of messages, for NetlinkSocket.submit.
    """

    def __init__(self, table: str, family: int = NFPROTO_INET) -> None:
        self._table = table
        self._family = family
        self._messages: list[tuple[int, int, bytes]] = []

    def encode(self) -> tuple[bytes, int]:
        count = len(self._messages)
        control = struct.pack(">BBH", 0, 0, NFNL_SUBSYS_NFTABLES)
        parts = [message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, control)]
        for index, (kind, flags, body) in enumerate(self._messages, 1):
            asked = NLM_F_REQUEST | flags | (NLM_F_ACK if index == count else 0)
            parts.append(message(NFNL_SUBSYS_NFTABLES << 8 | kind, asked, index, body))
        parts.append(message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, count + 1, control))
        return b"".join(parts), count

    def _add(self, kind: int, flags: int, *attributes: bytes) -> None:
        self._messages.append((kind, flags, struct.pack(">BBH", self._family, 0, 0) + b"".join(attributes)))

    def create_table(self, comment: str) -> None:
        """Refused with EEXIST, and the whole transaction with it, if there is one."""
        attributes = (_string(1, self._table), _number(2, 0), attribute(6, _comment(comment)))
        self._add(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, *attributes)

    def delete_table(self) -> None:
        self._add(NFT_MSG_DELTABLE, 0, _string(1, self._table))

    def create_chain(self, name: str, type: str = "", hook: int = 0, priority: int = 0) -> None:
        """A base chain with policy accept, or a regular chain for an empty `type`."""
        attributes = [_string(1, self._table), _string(3, name)]
        if type:
            where = nested(4, _number(1, hook), attribute(2, struct.pack(">i", priority)))
            attributes += [where, _number(5, NF_ACCEPT), _string(7, type)]
        self._add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, *attributes)

    def create_set(self, name: str, key: tuple[int, ...], data: tuple[int, ...] = ()) -> None:
        """A set, or a map if there are `data` types."""
        attributes = [
            _string(1, self._table),
            _string(2, name),
            _number(3, NFT_SET_MAP if data else 0),
            _number(4, _concatenation(key)),
            _number(5, sum(TYPE_BYTES[type] for type in key)),
        ]
        if data:
            attributes += [_number(6, _concatenation(data)), _number(7, sum(TYPE_BYTES[type] for type in data))]
        # The set's number within the transaction; unused here, but the kernel insists on it.
        attributes.append(_number(10, len(self._messages)))
        self._add(NFT_MSG_NEWSET, NLM_F_CREATE, *attributes)

    def create_rule(self, chain: str, *expressions: bytes) -> None:
        body = nested(4, *(nested(1, expression) for expression in expressions))
        self._add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, _string(1, self._table), _string(2, chain), body)

    def add_element(self, set: str, key: bytes, data: bytes = b"", comment: str = "") -> None:
        """Refused with EEXIST if the key is there with other data."""
        parts = [nested(1, attribute(1, key))]
        if data:
            parts.append(nested(2, attribute(1, data)))
        if comment:
            parts.append(attribute(6, _comment(comment)))
        elements = nested(3, nested(1, *parts))
        self._add(NFT_MSG_NEWSETELEM, NLM_F_CREATE, _string(1, self._table), _string(2, set), elements)

    def delete_element(self, set: str, key: bytes) -> None:
        """Refused with ENOENT if it is not there."""
        elements = nested(3, nested(1, nested(1, attribute(1, key))))
        self._add(NFT_MSG_DELSETELEM, 0, _string(1, self._table), _string(2, set), elements)


def get_table(table: str, family: int = NFPROTO_INET) -> bytes:
    """The request for a table, for NetlinkSocket.request."""
    body = struct.pack(">BBH", family, 0, 0) + _string(1, table)
    return message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_REQUEST, 1, body)


def table_comment(reply: bytes) -> str:
    """The comment of a table, from the reply to `get_table`; empty if it has none."""
    data = attributes_of(reply, 4).get(6, b"")
    # TLVs of a byte each for type and length; type 0 is the comment (libnftnl, udata.h).
    while len(data) >= 2:
        kind, size = data[0], data[1]
        if kind == 0:
            return data[2 : 2 + size].rstrip(b"\0").decode(errors="replace")
        data = data[2 + size :]
    return ""


def _comment(text: str) -> bytes:
    raw = text.encode()[:127] + b"\0"
    return bytes((0, len(raw))) + raw


def _concatenation(types: tuple[int, ...]) -> int:
    value = 0
    for type in types:
        value = value << 6 | type
    return value


# --- expressions ----------------------------------------------------------------------------


def _expression(name: str, *attributes: bytes) -> bytes:
    return _string(1, name) + nested(2, *attributes)


def meta(key: int, register: int = NFT_REG_1) -> bytes:
    return _expression("meta", _number(2, key), _number(1, register))


def cmp(value: bytes, op: int = NFT_CMP_EQ, register: int = NFT_REG_1) -> bytes:
    return _expression("cmp", _number(1, register), _number(2, op), nested(3, attribute(1, value)))


def payload(base: int, offset: int, length: int, register: int = NFT_REG_1) -> bytes:
    return _expression("payload", _number(1, register), _number(2, base), _number(3, offset), _number(4, length))


def immediate(value: bytes, register: int = NFT_REG_1) -> bytes:
    return _expression("immediate", _number(1, register), nested(2, attribute(1, value)))


def verdict(code: int, chain: str = "") -> bytes:
    """Drop, accept, or with `chain` a jump into it."""
    parts = [attribute(1, struct.pack(">i", code))]
    if chain:
        parts.append(_string(2, chain))
    return _expression("immediate", _number(1, NFT_REG_VERDICT), nested(2, nested(2, *parts)))


def lookup(set: str, *, into: int | None = None, register: int = NFT_REG_1) -> bytes:
    """Whether the key in `register` is in the set; with `into` its data goes there, from a map."""
    parts = [_string(1, set), _number(2, register)]
    if into is not None:
        parts.append(_number(3, into))
    return _expression("lookup", *parts)


def fib(result: int, flags: int) -> bytes:
    return _expression("fib", _number(1, NFT_REG_1), _number(2, result), _number(3, flags))


def nat(type: int, family: int, address: int, port: int | None = None) -> bytes:
    """SNAT or DNAT to what is in the registers `address` and `port`."""
    parts = [_number(1, type), _number(2, family), _number(3, address)]
    if port is not None:
        parts.append(_number(5, port))
    return _expression("nat", *parts)


def masquerade() -> bytes:
    return _expression("masq")
