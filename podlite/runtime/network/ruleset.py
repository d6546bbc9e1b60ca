"""What is in the nftables table `inet podlite`, and how a host port becomes elements of it.

    table inet podlite
      guard        prerouting, raw      what a pod must not send: to 127.0.0.0/8, or from an IPv6 address not its own
      prerouting   prerouting, dstnat   to an address of this host → hostports
      output       output, -100         the same, for the host's own connections
      hostports                         destination NAT by the four maps; a pod is elements, never a chain or a rule
      postrouting  postrouting, srcnat  from a pod to elsewhere: masquerade. To a pod: from the host's loopback, and
                                        from the same pod through its own host port (hairpin): as the gateway

A packet is a pod's if it came in through a device of podlite's device group, and to a pod if it leaves through
one. So a pod costs the table nothing, whatever --pod-cidr is, and traffic between pods or to the host itself is
never masqueraded. IPv4 senders are checked by rp_filter on the host ends (loosely, if conf/all/rp_filter is 2);
IPv6 has no such thing, so the guard does it, which also stops router advertisements and redirects: their link-local
senders are on no host end.

The table is generated ahead of time (templates.py); only host ports are encoded at run time.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from podlite.linux.nftables import (
    NF_DROP,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    NFT_CMP_NEQ,
    NFT_FIB_RESULT_ADDRTYPE,
    NFT_FIB_RESULT_OIF,
    NFT_JUMP,
    NFT_META_IIFGROUP,
    NFT_META_L4PROTO,
    NFT_META_NFPROTO,
    NFT_META_OIFGROUP,
    NFT_NAT_DNAT,
    NFT_NAT_SNAT,
    NFT_PAYLOAD_NETWORK_HEADER,
    NFT_PAYLOAD_TRANSPORT_HEADER,
    NFT_REG32_00,
    NFT_REG_1,
    NFTA_FIB_F_DADDR,
    NFTA_FIB_F_IIF,
    NFTA_FIB_F_PRESENT,
    NFTA_FIB_F_SADDR,
    TYPE_INET_PROTOCOL,
    TYPE_INET_SERVICE,
    TYPE_IP6ADDR,
    TYPE_IPADDR,
    Batch,
    cmp,
    fib,
    immediate,
    lookup,
    masquerade,
    meta,
    nat,
    payload,
    verdict,
)
from podlite.runtime.network.constants import DEVICE_GROUP, GATEWAY4

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = "podlite"
# Raised with every change of the table's content; the table's comment says which version made it.
VERSION = 1
COMMENT = f"podlite {VERSION}"

RTN_LOCAL = 2
PROTOCOL_NUMBERS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": 132}

# (family, whether the key begins with the host address) → the map's name.
MAPS = {(4, True): "hostports4_ip", (4, False): "hostports4", (6, True): "hostports6_ip", (6, False): "hostports6"}
HAIRPIN = {4: "hairpin4", 6: "hairpin6"}
_NFPROTO = {4: NFPROTO_IPV4, 6: NFPROTO_IPV6}
_ADDRESS = {4: TYPE_IPADDR, 6: TYPE_IP6ADDR}
# family → (offset of the source, of the destination, size of an address) in the network header.
_HEADER = {4: (12, 16, 4), 6: (8, 24, 16)}

Element = tuple[str, bytes, bytes]


def build_table(*, replace: bool = False) -> tuple[bytes, int]:
    """The transaction that makes the table, in place of an existing one if `replace`."""
    batch = Batch(TABLE)
    if replace:
        batch.delete_table()
    batch.create_table(COMMENT)
    for (family, by_address), name in MAPS.items():
        key = (_ADDRESS[family],) if by_address else ()
        batch.create_set(name, (*key, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE), (_ADDRESS[family], TYPE_INET_SERVICE))
    for family, name in HAIRPIN.items():
        batch.create_set(name, (_ADDRESS[family], _ADDRESS[family]))

    from_pod = (meta(NFT_META_IIFGROUP), cmp(struct.pack("=I", DEVICE_GROUP)))
    to_pod = (meta(NFT_META_OIFGROUP), cmp(struct.pack("=I", DEVICE_GROUP)))

    batch.create_chain("guard", "filter", NF_INET_PRE_ROUTING, -300)
    # route_localnet on a host end would otherwise give its pod whatever listens on the host's loopback.
    batch.create_rule("guard", *from_pod, *_is_ip(4), *_loopback(_HEADER[4][1]), verdict(NF_DROP))
    own = fib(NFT_FIB_RESULT_OIF, NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT)
    batch.create_rule("guard", *from_pod, *_is_ip(6), own, cmp(struct.pack("=I", 0)), verdict(NF_DROP))

    batch.create_chain("hostports")
    for by_address in (True, False):
        for family in (4, 6):
            batch.create_rule("hostports", *_destination_nat(family, by_address))
    to_host = (fib(NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR), cmp(struct.pack("=I", RTN_LOCAL)))
    batch.create_chain("prerouting", "nat", NF_INET_PRE_ROUTING, -100)
    batch.create_rule("prerouting", *to_host, verdict(NFT_JUMP, "hostports"))
    batch.create_chain("output", "nat", NF_INET_LOCAL_OUT, -100)
    batch.create_rule("output", *to_host, verdict(NFT_JUMP, "hostports"))

    batch.create_chain("postrouting", "nat", NF_INET_POST_ROUTING, 100)
    elsewhere = (meta(NFT_META_OIFGROUP), cmp(struct.pack("=I", DEVICE_GROUP), NFT_CMP_NEQ))
    batch.create_rule("postrouting", *from_pod, *elsewhere, masquerade())
    # Not masquerade: that takes no address of scope link, and on a host with only `lo` there is no other.
    as_gateway = (immediate(socket.inet_aton(GATEWAY4)), nat(NFT_NAT_SNAT, NFPROTO_IPV4, NFT_REG_1))
    batch.create_rule("postrouting", *to_pod, *_is_ip(4), *_loopback(_HEADER[4][0]), *as_gateway)
    batch.create_rule("postrouting", *to_pod, *_is_ip(4), *_hairpin(4), *as_gateway)
    batch.create_rule("postrouting", *to_pod, *_is_ip(6), *_hairpin(6), masquerade())
    return batch.encode()


def delete_table() -> tuple[bytes, int]:
    batch = Batch(TABLE)
    batch.delete_table()
    return batch.encode()


def _is_ip(family: int) -> tuple[bytes, bytes]:
    return meta(NFT_META_NFPROTO), cmp(bytes((_NFPROTO[family],)))


def _loopback(offset: int) -> tuple[bytes, bytes]:
    return payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 1), cmp(b"\x7f")


def _destination_nat(family: int, by_address: bool) -> list[bytes]:
    _, destination, size = _HEADER[family]
    expressions: list[bytes] = []
    register = NFT_REG32_00
    if by_address:
        expressions += [*_is_ip(family), payload(NFT_PAYLOAD_NETWORK_HEADER, destination, size, NFT_REG_1)]
        register += size // 4
    # Without an address there is no test of the family: the nat expression itself passes over the other one.
    expressions += [
        meta(NFT_META_L4PROTO, NFT_REG_1 if register == NFT_REG32_00 else register),
        payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register + 1),
        lookup(MAPS[family, by_address], into=NFT_REG_1),
        nat(NFT_NAT_DNAT, _NFPROTO[family], NFT_REG_1, NFT_REG32_00 + size // 4),
    ]
    return expressions


def _hairpin(family: int) -> tuple[bytes, bytes, bytes]:
    source, destination, size = _HEADER[family]
    return (
        payload(NFT_PAYLOAD_NETWORK_HEADER, source, size),
        payload(NFT_PAYLOAD_NETWORK_HEADER, destination, size, NFT_REG32_00 + size // 4),
        lookup(HAIRPIN[family]),
    )


def host_port_element(protocol: str, host_ip: bytes, host_port: int, pod_ip: bytes, pod_port: int) -> Element:
    """(map, key, data) of one host port in the family of `pod_ip`; an empty `host_ip` is every address."""
    family = 4 if len(pod_ip) == 4 else 6
    key = host_ip + struct.pack(">BxxxHxx", PROTOCOL_NUMBERS[protocol], host_port)
    return MAPS[family, bool(host_ip)], key, pod_ip + struct.pack(">Hxx", pod_port)


def hairpin_element(pod_ip: bytes) -> Element:
    return HAIRPIN[4 if len(pod_ip) == 4 else 6], pod_ip + pod_ip, b""


def add_elements(elements: Iterable[Element], comment: str) -> tuple[bytes, int]:
    batch = Batch(TABLE)
    for set, key, data in elements:
        batch.add_element(set, key, data, comment)
    return batch.encode()


def delete_elements(elements: Iterable[Element]) -> tuple[bytes, int]:
    batch = Batch(TABLE)
    for set, key, _ in elements:
        batch.delete_element(set, key)
    return batch.encode()
