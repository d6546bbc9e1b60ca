"""Generates templates.py: `python -m podlite.runtime.network.generate_templates`, which writes it in place.

The messages of a pod's network are built here with pyroute2, with a marker in each place that differs from pod
to pod; where a marker is found, the template has a field. The nftables table, which pyroute2 can read but not
write, comes from ruleset.py. Nothing of podlite imports this module at run time, and a test compares what it
generates with the file.

The order of the messages is the fruit of measurements (kernel 6.18, two processors):
- The pair is made from inside the pod, so that everything there is one batch on one socket.
- One queue each: a device's every queue is a directory in sysfs and an event, half the cost of making it.
- The pod's end goes up while the other is down: without a carrier there is no link-local address, no duplicate
  address detection and no router solicitation, before IFLA_INET6_ADDR_GEN_MODE says that there shall be none
  (within one message that attribute comes after the flags).
- The kernel makes an IPv6 address known to its own routing later, in a work queue; the route that it will make is
  therefore added beside it, or the first packets would find nobody.
- The host's end gets its settings before it goes up, in a message of its own, for the same reason as the pod's has
  no carrier by then. It goes up second, with a carrier, and passes packets from there on.
"""

from __future__ import annotations

import os
import struct
import sys
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from podlite.linux.netlink import (
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFF_UP,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTN_LOCAL,
    RTN_UNICAST,
    Template,
)
from podlite.runtime.network import ruleset
from podlite.runtime.network.constants import (
    DEVICE_GROUP,
    GATEWAY4,
    HOST_MAC,
    POD_INTERFACE,
    POD_INTERFACE_INDEX,
    ROUTE_PROTOCOL,
)

# The families that a pod has; with a minus, on a device that has nothing of IPv6 and takes no setting of it.
FAMILIES = ("4-", "4", "6", "46")
NEW = NLM_F_CREATE | NLM_F_EXCL
LOOPBACK_INDEX = 1
NUD_PERMANENT = 0x80
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTNH_F_ONLINK = 4
IN6_ADDR_GEN_MODE_NONE = 1

# field → (what pyroute2 is given in its place, the bytes that this becomes)
MARKERS: dict[str, tuple[Any, bytes]] = {
    "host_name": ("plMARKMARK", b"plMARKMARK\0"),
    "host_index": (0x7A7B7C7D, struct.pack("=I", 0x7A7B7C7D)),
    "host_netns": (0x6A6B6C6D, struct.pack("=I", 0x6A6B6C6D)),
    "pod_mac": ("0a:58:de:ad:be:ef", bytes.fromhex("0a58deadbeef")),
    "mtu": (0xA1B2, struct.pack("=I", 0xA1B2)),
    "route_localnet": (0x5A5B5C5D, struct.pack("=I", 0x5A5B5C5D)),
    "ip4": ("203.0.113.77", bytes([203, 0, 113, 77])),
    "ip6": ("2001:db8:dead:beef::77", bytes.fromhex("20010db8deadbeef0000000000000077")),
    "gateway6": ("2001:db8:dead:cafe::1", bytes.fromhex("20010db8deadcafe0000000000000001")),
}


def mark(name: str) -> Any:
    return MARKERS[name][0]


class link_message(ifinfmsg):  # type: ignore[misc]  # noqa: N801 - as pyroute2 names its messages
    """ifinfmsg with IFLA_INET_CONF in the form in which the kernel takes it: an attribute for each setting.

    pyroute2 has the form in which the kernel gives it, an array.
    """

    # Not derived from pyroute2's: its attribute maps are compiled once, and inherited as they are.
    class af_spec_inet(nla):  # type: ignore[misc]  # noqa: N801
        nla_map = ((AF_INET, "AF_INET", "inet"), (AF_INET6, "AF_INET6", "inet6"))
        inet6 = ifinfmsg.af_spec_inet.inet6

        class inet(nla):  # type: ignore[misc]  # noqa: N801
            nla_map = ((1, "IFLA_INET_CONF", "conf"),)

            class conf(nla):  # type: ignore[misc]  # noqa: N801
                # include/uapi/linux/ip.h
                nla_map = (
                    (1, "IPV4_DEVCONF_FORWARDING", "uint32"),
                    (4, "IPV4_DEVCONF_ACCEPT_REDIRECTS", "uint32"),
                    (6, "IPV4_DEVCONF_SEND_REDIRECTS", "uint32"),
                    (8, "IPV4_DEVCONF_RP_FILTER", "uint32"),
                    (26, "IPV4_DEVCONF_ROUTE_LOCALNET", "uint32"),
                )


def attrs(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"attrs": list(pairs)}


def build(message: Any, kind: int, flags: int, header: dict[str, int], *pairs: tuple[str, Any]) -> Any:
    message.update(header)
    message["attrs"] = list(pairs)
    message["header"].update({"type": kind, "flags": NLM_F_REQUEST | flags, "pid": 0})
    return message


def template(*messages: tuple[str, Any]) -> Template:
    """A batch of (what the message does, message), with a field wherever a marker is."""
    data = b""
    for index, (_, message) in enumerate(messages, 1):
        message["header"]["sequence_number"] = index
        if index == len(messages):
            message["header"]["flags"] |= NLM_F_ACK
        message.encode()
        data += bytes(message.data) + b"\0" * (-len(message.data) % 4)
    blank = bytearray(data)
    fields = {}
    for name, (_, marker) in MARKERS.items():
        offsets = tuple(offset for offset in range(len(data)) if data.startswith(marker, offset))
        if offsets:
            fields[name] = (len(marker), offsets)
        for offset in offsets:
            blank[offset : offset + len(marker)] = bytes(len(marker))
    return Template(bytes(blank), fields, tuple(step for step, _ in messages))


# --- messages -------------------------------------------------------------------------------


def create_pair() -> Any:
    queues = (("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1))
    peer = attrs(
        ("IFLA_IFNAME", mark("host_name")),
        ("IFLA_ADDRESS", HOST_MAC),
        ("IFLA_MTU", mark("mtu")),
        ("IFLA_GROUP", DEVICE_GROUP),
        *queues,
        ("IFLA_NET_NS_FD", mark("host_netns")),
    )
    peer["index"] = mark("host_index")
    return build(
        ifinfmsg(),
        RTM_NEWLINK,
        NEW,
        {"index": POD_INTERFACE_INDEX},
        ("IFLA_IFNAME", POD_INTERFACE),
        ("IFLA_ADDRESS", mark("pod_mac")),
        ("IFLA_MTU", mark("mtu")),
        *queues,
        ("IFLA_LINKINFO", attrs(("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", attrs(("VETH_INFO_PEER", peer))))),
    )


def bring_up(index: int, *pairs: tuple[str, Any]) -> Any:
    return build(ifinfmsg(), RTM_NEWLINK, 0, {"index": index, "flags": IFF_UP, "change": IFF_UP}, *pairs)


def no_link_local() -> tuple[str, Any]:
    return "AF_INET6", attrs(("IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE))


def configure_host_end(families: str) -> Any:
    """The settings of conf/<host end>: forward for the pod, believe only its own address, no redirects."""
    conf = attrs(
        ("IPV4_DEVCONF_FORWARDING", 1),
        ("IPV4_DEVCONF_ACCEPT_REDIRECTS", 0),
        ("IPV4_DEVCONF_SEND_REDIRECTS", 0),
        ("IPV4_DEVCONF_RP_FILTER", 1),
        ("IPV4_DEVCONF_ROUTE_LOCALNET", mark("route_localnet")),
    )
    inet = ("AF_INET", attrs(("IFLA_INET_CONF", conf)))
    inet6 = [] if families == "4-" else [no_link_local()]
    return build(link_message(), RTM_NEWLINK, 0, {"index": mark("host_index")}, ("IFLA_AF_SPEC", attrs(inet, *inet6)))


def address4(index: int, address: str, scope: int) -> Any:
    header = {"family": AF_INET, "prefixlen": 32, "flags": IFA_F_PERMANENT, "scope": scope, "index": index}
    return build(ifaddrmsg(), RTM_NEWADDR, NEW, header, ("IFA_LOCAL", address), ("IFA_ADDRESS", address))


def address6(kind: int, index: int, address: str) -> Any:
    header = {"family": AF_INET6, "prefixlen": 128, "index": index}
    flags = IFA_F_NODAD | IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE
    new = NEW if kind == RTM_NEWADDR else 0
    return build(ifaddrmsg(), kind, new, header, ("IFA_LOCAL", address), ("IFA_FLAGS", flags))


def neighbour(family: int, index: int, address: str, mac: str) -> Any:
    header = {"family": family, "ifindex": index, "state": NUD_PERMANENT}
    return build(ndmsg(), RTM_NEWNEIGH, NEW, header, ("NDA_DST", address), ("NDA_LLADDR", mac))


def default_route(family: int, gateway: str) -> Any:
    """`onlink`: the gateway is in no prefix of the pod's, and needs no route of its own."""
    header = {
        "family": family,
        "table": RT_TABLE_MAIN,
        "proto": RTPROT_BOOT,
        "scope": RT_SCOPE_UNIVERSE,
        "type": RTN_UNICAST,
        "flags": RTNH_F_ONLINK,
    }
    pairs = (("RTA_GATEWAY", gateway), ("RTA_OIF", POD_INTERFACE_INDEX))
    return build(rtmsg(), RTM_NEWROUTE, NEW, header, *pairs)


def local_route6(kind: int, index: int, address: str) -> Any:
    """What makes packets to an address the host's, or the pod's, own."""
    new = NEW if kind == RTM_NEWROUTE else 0
    header = {"family": AF_INET6, "dst_len": 128, "table": RT_TABLE_LOCAL, "proto": ROUTE_PROTOCOL, "type": RTN_LOCAL}
    return build(rtmsg(), kind, new, header, ("RTA_DST", address), ("RTA_OIF", index))


def pod_route(kind: int, family: int, address: str) -> Any:
    """Host side. Deleted by destination and protocol alone, for the record does not know the device's index."""
    new = kind == RTM_NEWROUTE
    header = {
        "family": family,
        "dst_len": 32 if family == AF_INET else 128,
        "table": RT_TABLE_MAIN,
        "proto": ROUTE_PROTOCOL,
        "scope": RT_SCOPE_UNIVERSE if family == AF_INET6 else RT_SCOPE_LINK if new else RT_SCOPE_NOWHERE,
        "type": RTN_UNICAST,
    }
    device = [("RTA_OIF", mark("host_index"))] if new else []
    return build(rtmsg(), kind, NEW if new else 0, header, ("RTA_DST", address), *device)


# --- batches --------------------------------------------------------------------------------


def pod_end(families: str) -> Template:
    """Sent inside the pod: the pair, with the host's end in the host's namespace, and all of the pod's end."""
    index = POD_INTERFACE_INDEX
    without_link_local = [] if families == "4-" else [("IFLA_AF_SPEC", attrs(no_link_local()))]
    messages = [
        ("create the veth pair", create_pair()),
        ("bring the pod's lo up", bring_up(LOOPBACK_INDEX)),
        ("bring the pod's eth0 up", bring_up(index, *without_link_local)),
    ]
    if "4" in families:
        messages += [
            ("give the pod its IPv4 address", address4(index, mark("ip4"), RT_SCOPE_UNIVERSE)),
            ("make the gateway a neighbour of the pod", neighbour(AF_INET, index, GATEWAY4, HOST_MAC)),
            ("add the pod's default route", default_route(AF_INET, GATEWAY4)),
        ]
    if "6" in families:
        gateway = mark("gateway6")
        messages += [
            ("give the pod its IPv6 address", address6(RTM_NEWADDR, index, mark("ip6"))),
            ("make that address the pod's own", local_route6(RTM_NEWROUTE, index, mark("ip6"))),
            ("make the IPv6 gateway a neighbour of the pod", neighbour(AF_INET6, index, gateway, HOST_MAC)),
            ("add the pod's IPv6 default route", default_route(AF_INET6, gateway)),
        ]
    return template(*messages)


def host_end(families: str) -> Template:
    """Sent in the host's namespace, after `pod_end`."""
    index = mark("host_index")
    messages = [
        ("configure the host end", configure_host_end(families)),
        ("bring the host end up", bring_up(index)),
    ]
    if "4" in families:
        ip4 = mark("ip4")
        messages += [
            ("give the host end the gateway's address", address4(index, GATEWAY4, RT_SCOPE_LINK)),
            ("make the pod a neighbour", neighbour(AF_INET, index, ip4, mark("pod_mac"))),
            ("add the route to the pod", pod_route(RTM_NEWROUTE, AF_INET, ip4)),
        ]
    if "6" in families:
        ip6 = mark("ip6")
        messages += [
            ("make the pod an IPv6 neighbour", neighbour(AF_INET6, index, ip6, mark("pod_mac"))),
            ("add the IPv6 route to the pod", pod_route(RTM_NEWROUTE, AF_INET6, ip6)),
        ]
    return template(*messages)


def delete_routes(families: str) -> Template:
    messages = []
    if "4" in families:
        messages.append(("delete the route to the pod", pod_route(RTM_DELROUTE, AF_INET, mark("ip4"))))
    if "6" in families:
        messages.append(("delete the IPv6 route to the pod", pod_route(RTM_DELROUTE, AF_INET6, mark("ip6"))))
    return template(*messages)


def add_gateway6() -> Template:
    gateway = mark("gateway6")
    return template(
        ("add the IPv6 gateway's address", address6(RTM_NEWADDR, LOOPBACK_INDEX, gateway)),
        ("make that address the host's own", local_route6(RTM_NEWROUTE, LOOPBACK_INDEX, gateway)),
    )


def delete_gateway6() -> Template:
    gateway = mark("gateway6")
    return template(
        ("delete the route to the IPv6 gateway", local_route6(RTM_DELROUTE, LOOPBACK_INDEX, gateway)),
        ("delete the IPv6 gateway's address", address6(RTM_DELADDR, LOOPBACK_INDEX, gateway)),
    )


def nft(batch: tuple[bytes, int], step: str) -> Template:
    data, count = batch
    return Template(data, {}, (step,) * count)


# --- the file -------------------------------------------------------------------------------


def generate() -> dict[str, Template | dict[str, Template]]:
    """What templates.py holds, by name."""
    return {
        "POD_END": {families: pod_end(families) for families in FAMILIES},
        "HOST_END": {families: host_end(families) for families in FAMILIES},
        "DELETE_ROUTES": {families: delete_routes(families) for families in FAMILIES[1:]},
        "ADD_GATEWAY6": add_gateway6(),
        "DELETE_GATEWAY6": delete_gateway6(),
        "CREATE_TABLE": nft(ruleset.build_table(), "create the nftables table"),
        "DELETE_TABLE": nft(ruleset.delete_table(), "delete the nftables table"),
    }


def source() -> str:
    """The text of templates.py."""
    lines = [HEADER]
    for name, value in generate().items():
        if isinstance(value, Template):
            lines += [f"{name} = {_template_source(value, '')}", ""]
            continue
        lines += [f"{name} = {{"]
        for key, item in value.items():
            lines.append(f'    "{key}": {_template_source(item, "    ")},')
        lines += ["}", ""]
    return "\n".join(lines)


HEADER = '''"""Generated by podlite/runtime/network/generate_templates.py; not to be edited.

The messages of a pod's network, as pyroute2 encodes them, with the places where pods differ.
"""

from __future__ import annotations

from podlite.linux.netlink import Template
'''

_LINE = 120
_HEX_PER_LINE = 96


def _template_source(value: Template, indent: str) -> str:
    inner, deep = indent + "    ", indent + "        "
    digits = value.data.hex()
    lines = ["Template("]
    if len(inner) + len(digits) + len('bytes.fromhex(""),') <= _LINE:
        lines += [f'{inner}bytes.fromhex("{digits}"),']
    elif len(deep) + len(digits) + 2 <= _LINE:
        lines += [f"{inner}bytes.fromhex(", f'{deep}"{digits}"', f"{inner}),"]
    else:
        pieces = [digits[at : at + _HEX_PER_LINE] for at in range(0, len(digits), _HEX_PER_LINE)]
        lines += [f"{inner}bytes.fromhex(", *(f'{deep}"{piece}"' for piece in pieces), f"{inner}),"]
    if value.fields:
        fields = (f'{deep}"{name}": ({size}, {offsets!r}),' for name, (size, offsets) in value.fields.items())
        lines += [f"{inner}{{", *fields, f"{inner}}},"]
    else:
        lines += [f"{inner}{{}},"]
    if len(value.steps) == 1:
        lines += [f'{inner}("{value.steps[0]}",),']
    elif len(set(value.steps)) == 1:
        lines += [f'{inner}("{value.steps[0]}",) * {len(value.steps)},']
    else:
        lines += [f"{inner}(", *(f'{deep}"{step}",' for step in value.steps), f"{inner}),"]
    return "\n".join([*lines, f"{indent})"])


def main() -> int:
    path = os.path.join(os.path.dirname(__file__), "templates.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source())
    return 0


if __name__ == "__main__":
    sys.exit(main())
