"""The built-in network: one veth pair per pod, point to point, with routes on the host and no bridge.

    pod                                            host
    eth0  10.85.0.2/32, fd85::2/128                pl<8 hex of the sandbox id>  169.254.1.1/32 scope link
          default via 169.254.1.1 onlink     ═══         10.85.0.2 dev pl…     fd85::2 dev pl…
          default via fd85::1 onlink                     rp_filter, forwarding, no redirects

Both ends know each other's hardware address for good: no ARP, no neighbour discovery, no proxy, no first packet
that waits. It works on a host with only `lo`, and a pod costs the same however many there are (but for the walks
that the kernel makes through its own tables).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING

import msgspec

from podlite.cri.errors import CRIError, InvalidArgumentError, NetworkSetupError
from podlite.errors import explain
from podlite.linux.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NetlinkError,
    NetlinkSocket,
    SocketPool,
    delete_link,
    find_link,
    open_inside,
)
from podlite.runtime.network import templates
from podlite.runtime.network.addresses import Addresses, Subnet, address_text, parse_address
from podlite.runtime.network.constants import (
    HOST_INDEX_BASE,
    HOST_INDEX_SPAN,
    HOST_MAC,
    POD_INTERFACE,
    POD_INTERFACE_INDEX,
)
from podlite.runtime.network.errors import NetworkTeardownError
from podlite.runtime.network.foreign_warning import ForeignWarning
from podlite.runtime.network.forwarding import host_end_accepts_advertisements, not_forwarding, refuse_advertisements
from podlite.runtime.network.hostports import HostPort, HostPorts, needs_route_localnet, read_mappings
from podlite.runtime.network.interface import NetworkRecord, PodInterface, PodNetworkRequest, PodNetworkStatus
from podlite.runtime.network.shared import SharedState
from podlite.runtime.network.survey import Survey, take_survey
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_GONE = frozenset({errno.ESRCH, errno.ENODEV, errno.ENOENT})
# How many other indices are tried for a host end when somebody has the one it should get.
_INDEX_ATTEMPTS = 8
# A pod that is over sooner than this has nobody who wonders why it reaches nothing.
LOOK_AFTER_SECONDS = 1.0


class BuiltinRecord(msgspec.Struct, kw_only=True):
    """The plan of one pod's network: everything that may have to be taken back."""

    network: str = "builtin"
    version: int = 1
    sandbox_id: str
    host_interface: str
    ips: list[str]
    host_ports: list[HostPort] = []


class _Host:
    """The host's side of this process: its network namespace, and what the survey found there."""

    def __init__(self, netlink: NetlinkSocket, subnets: list[Subnet]) -> None:
        self.look(netlink, subnets)
        self.netns_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def look(self, netlink: NetlinkSocket, subnets: list[Subnet]) -> bool:
        """Takes the survey, again; True if it differs from the last one. Raises as `take_survey` does."""
        before = getattr(self, "survey", None)
        self.survey: Survey = take_survey(netlink, subnets)
        self.subnets = [subnet for subnet in subnets if subnet.family == 4 or self.survey.ipv6]
        self.refuses_advertisements = not (self.survey.ipv6 and host_end_accepts_advertisements())
        return self.survey != before

    @property
    def gateway6(self) -> bytes:
        return next((subnet.gateway for subnet in self.subnets if subnet.family == 6), b"")

    def close(self) -> None:
        os.close(self.netns_fd)


class BuiltinNetwork:
    """Implements PodNetwork. One object per process and host network namespace; safe between threads."""

    name = "builtin"

    def __init__(self, run_dir: str, pod_cidrs: Iterable[str], *, integrate: bool = False) -> None:
        """`pod_cidrs` has at most one range of each family. With `integrate` other people's firewalls get rules that
        let pods through, while there are pods. Raises InvalidArgumentError; touches nothing."""
        self._subnets = sorted((Subnet(text) for text in pod_cidrs), key=lambda subnet: subnet.family)
        if not self._subnets or len({subnet.family for subnet in self._subnets}) != len(self._subnets):
            raise InvalidArgumentError(
                "The built-in network takes one range of IPv4 addresses, one of IPv6, or both.",
                hint="give --pod-cidr once for each family",
            )
        directory = f"{run_dir}/network"
        self._addresses = Addresses(directory)
        self._rtnetlink = SocketPool(NETLINK_ROUTE)
        self._nftables = SocketPool(NETLINK_NETFILTER)
        self._host_ports = HostPorts(directory, self._nftables)
        self._shared = SharedState(
            run_dir,
            self._addresses,
            self._rtnetlink,
            self._nftables,
            self._host_ports.republish,
            [subnet.text for subnet in self._subnets] if integrate else (),
        )
        self._looked_at_rules = integrate
        self._foreign = ForeignWarning()
        self._host: _Host | None = None
        self._opening = threading.Lock()
        self._closing = threading.Event()

    # --- before -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Looks at the host and makes what pods share, ahead of the first pod: optional, for a thread that has time
        while the process starts. Raises NetworkSetupError, OSError."""
        host = self._open()
        self._shared.ensure(host.survey, host.gateway6, host_ports=False)

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        """See PodNetwork.plan."""
        host = self._open()
        sandbox_id = request.sandbox_id
        name = f"pl{sandbox_id[:8]}"
        ips = self._wished(host, request.ips) if request.ips else self._addresses.choose(host.subnets)
        families = {6 if ":" in ip else 4 for ip in ips}
        if request.mac:
            _parse_mac(request.mac)
        ports = read_mappings(request.port_mappings, families)
        if ports:
            self._host_ports.check_free(ports, sandbox_id)
        try:
            socket.if_nametoindex(name)
        except OSError:
            pass
        else:
            raise NetworkSetupError(f"There is a network device {name} already.", hint="try again: names are random")
        record = BuiltinRecord(sandbox_id=sandbox_id, host_interface=name, ips=ips, host_ports=ports)
        plain: NetworkRecord = msgspec.to_builtins(record)
        return plain

    # --- set-up -----------------------------------------------------------------------------

    def setup_pod_network(
        self, request: PodNetworkRequest, record: NetworkRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        """See PodNetwork.setup_pod_network."""
        plan = _read_record(record)
        try:
            return self._set_up(request, plan, inside)
        except Exception as error:
            said, hint = (error.message, error.hint) if isinstance(error, CRIError) else (explain(error), "")
            message = f"The network of pod {_label(request)} could not be set up: {said.rstrip('.')}."
            failures = self._tear_down(plan, with_link=True)
            if failures:
                message += f" Taking it back failed too: {'; '.join(failures)}."
            raise NetworkSetupError(message, hint=hint) from error

    def _set_up(
        self, request: PodNetworkRequest, plan: BuiltinRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        sandbox_id = plan.sandbox_id
        host = self._open()
        with step("network.address", sandbox_id=sandbox_id):
            for ip in plan.ips:
                self._addresses.reserve(ip, sandbox_id)
            if plan.host_ports:
                with self._shared.lock():
                    self._host_ports.reserve(plan.host_ports, sandbox_id, plan.ips, _label(request))
        with step("network.firewall", sandbox_id=sandbox_id):
            self._shared.ensure(host.survey, host.gateway6, host_ports=bool(plan.host_ports))
        with step("network.setup", sandbox_id=sandbox_id):
            mac = self._make_links(host, request, plan, inside)
        if plan.host_ports:
            with step("network.hostports", sandbox_id=sandbox_id):
                self._host_ports.publish(plan.host_ports, plan.ips, _label(request))
        if not self._looked_at_rules:
            self._looked_at_rules = True
            self._foreign.begin(self._nftables, [subnet.text for subnet in host.subnets])
        interface = PodInterface(
            name=POD_INTERFACE,
            mac=mac,
            mtu=host.survey.mtu,
            ips=plan.ips,
            host_interface=plan.host_interface,
            network=self.name,
            default=True,
        )
        return PodNetworkStatus(ips=plan.ips, interfaces=[interface])

    def _make_links(
        self, host: _Host, request: PodNetworkRequest, plan: BuiltinRecord, inside: NetlinkSocket | None
    ) -> str:
        """The two batches. Returns the pod's hardware address."""
        families, values, place = self._values(host, request, plan)
        opened = None
        if inside is None:
            inside = opened = open_inside(request.netns_fd)
        try:
            self._send_pod_end(inside, families, values, place)
            if not host.refuses_advertisements:
                refuse_advertisements(plan.host_interface)
            template = templates.HOST_END[families]
            with self._rtnetlink.lease() as netlink:
                errors = netlink.submit(template.fill(values), len(template.steps))
            if errors:
                raise _failed(template.steps, errors[0])
            # The pod's end went up first, without a carrier. That it has one now the kernel would only notice in a
            # while, and drop what the pod sends until then, but it catches up with a device that is asked about.
            find_link(inside, index=POD_INTERFACE_INDEX)
        finally:
            if opened is not None:
                opened.close()
        return ":".join(f"{byte:02x}" for byte in values["pod_mac"])

    def _send_pod_end(self, inside: NetlinkSocket, families: str, values: dict[str, bytes], place: int) -> None:
        """With another index for the host end if somebody has the one that belongs to the pod's place."""
        template = templates.POD_END[families]
        for attempt in range(_INDEX_ATTEMPTS):
            index = HOST_INDEX_BASE + attempt * HOST_INDEX_SPAN + place % HOST_INDEX_SPAN
            values["host_index"] = struct.pack("=i", index)
            errors = inside.submit(template.fill(values), len(template.steps))
            if not errors:
                return
            taken = errors[0].index == 1 and errors[0].errno in (errno.EBUSY, errno.EEXIST)
            if not taken or not _index_exists(index):
                break
        raise _failed(template.steps, errors[0])

    def _values(
        self, host: _Host, request: PodNetworkRequest, plan: BuiltinRecord
    ) -> tuple[str, dict[str, bytes], int]:
        """Which templates, what to fill in, and the pod's place in its range."""
        packed = {4 if len(raw) == 4 else 6: raw for ip in plan.ips if (raw := parse_address(ip))}
        families = "".join(str(family) for family in sorted(packed))
        if not host.survey.ipv6_links:
            families += "-"
        first = next(subnet for subnet in host.subnets if subnet.family in packed)
        place = first.offset(packed[first.family]) or 0
        # A pod's own hardware address: 0a:58 and the IPv4 address, as CNI's plugins do, or the end of the IPv6 one.
        mac = _parse_mac(request.mac) if request.mac else b"\x0a\x58" + packed.get(4, packed.get(6, b""))[-4:]
        values = {
            "host_name": plan.host_interface.encode() + b"\0",
            "host_netns": struct.pack("=i", host.netns_fd),
            "pod_mac": mac,
            "mtu": struct.pack("=I", host.survey.mtu),
            "route_localnet": struct.pack("=I", needs_route_localnet(plan.host_ports)),
            "gateway6": host.gateway6,
        }
        values |= {f"ip{family}": raw for family, raw in packed.items()}
        return families, values, place

    # --- teardown ---------------------------------------------------------------------------

    def teardown_pod_network(self, record: NetworkRecord, *, with_link: bool = False) -> None:
        """See PodNetwork.teardown_pod_network.

        The veth pair is left to the end of the pod's network namespace, which removes it a little later, many at
        a time; nothing is routed to it any more. `with_link` removes it here and now, for a namespace that lives
        on: that takes tens of milliseconds, with RTNL held.
        """
        plan = _read_record(record)
        with step("network.teardown", sandbox_id=plan.sandbox_id):
            failures = self._tear_down(plan, with_link=with_link)
        if failures:
            raise NetworkTeardownError(
                f"The network of sandbox {plan.sandbox_id[:13]} could not be taken back: {'; '.join(failures)}.",
                hint="its record stays; `podlite prune` tries again",
            )

    def _tear_down(self, plan: BuiltinRecord, *, with_link: bool) -> list[str]:
        """Every step, in reverse order; what failed, as sentences. The addresses go last: they are the claim on
        everything else. What another sandbox owns, by a name or an address that is also in this plan, stays."""
        failures: list[str] = []
        own_ips = [ip for ip in plan.ips if self._addresses.owner(ip) == plan.sandbox_id]
        if plan.host_ports:
            _attempt(failures, "the host ports", lambda: self._withdraw_ports(plan))
        if own_ips:
            _attempt(failures, "the routes", lambda: self._delete_routes(own_ips))
        if with_link and own_ips:
            _attempt(failures, "the veth pair", lambda: self._delete_link(plan.host_interface))
        if own_ips and not failures:
            _attempt(failures, "the addresses", lambda: self._release_addresses(own_ips, plan.sandbox_id))
        return failures

    def _withdraw_ports(self, plan: BuiltinRecord) -> None:
        with self._shared.lock():
            self._host_ports.withdraw(plan.host_ports, plan.sandbox_id, plan.ips)

    def _release_addresses(self, ips: list[str], owner: str) -> None:
        for ip in ips:
            self._addresses.release(ip, owner)

    def _delete_routes(self, ips: list[str]) -> None:
        values = {f"ip{4 if len(raw) == 4 else 6}": raw for ip in ips if (raw := parse_address(ip))}
        template = templates.DELETE_ROUTES["".join(sorted(name[2:] for name in values))]
        with self._rtnetlink.lease() as netlink:
            errors = netlink.submit(template.fill(values), len(template.steps))
        failed = [error for error in errors if error.errno not in _GONE]
        if failed:
            raise failed[0]

    def _delete_link(self, name: str) -> None:
        with self._rtnetlink.lease() as netlink:
            delete_link(netlink, name)

    def release_unused(self) -> bool:
        """See PodNetwork.release_unused."""
        return self._shared.release_unused()

    # --- the rest ---------------------------------------------------------------------------

    def check(self) -> list[str]:
        """See PodNetwork.check. Looks anew: what has changed on the host counts from the next pod on, and a table
        that somebody flushed is made again, with the host ports of all pods."""
        try:
            self._shared.integrate_again()
            host = self._open()
            with self._rtnetlink.lease() as netlink:
                changed = host.look(netlink, self._subnets)
            missing = self._shared.table_missing()
            if changed or missing:
                self._shared.forget()
            if missing:
                self._shared.ensure(host.survey, host.gateway6, host_ports=False)
        except CRIError as error:
            return [str(error)]
        except OSError as error:
            return [f"The host's network cannot be looked at: {explain(error)}."]
        return []

    def diagnose(self) -> list[str]:
        """What may keep pods from reaching others although they have a network, as sentences: other people's rules,
        with the rule that would help, and devices that do not forward. Runs nft(8); takes tens of milliseconds.
        Raises NetworkSetupError, OSError."""
        from podlite.runtime.network.foreign_rules import find_drops, read_ruleset

        host = self._open()
        drops = find_drops(read_ruleset(), [subnet.text for subnet in host.subnets])
        return [*map(str, drops), *not_forwarding(host.survey.uplinks, ipv6=host.survey.ipv6)]

    def close(self) -> None:
        """See PodNetwork.close."""
        self._foreign.close()
        self._closing.set()
        with self._opening:
            if self._host is not None:
                self._host.close()
                self._host = None
        self._rtnetlink.close()
        self._nftables.close()
        self._addresses.close()

    def _open(self) -> _Host:
        if self._host is None:
            with self._opening:
                if self._host is None:
                    with self._rtnetlink.lease() as netlink:
                        self._host = _Host(netlink, self._subnets)
        return self._host

    def _wished(self, host: _Host, ips: list[str]) -> list[str]:
        wished: dict[int, str] = {}
        for ip in ips:
            packed = parse_address(ip) or b""
            subnet = next((each for each in host.subnets if each.offset(packed) is not None), None)
            if subnet is None or subnet.family in wished:
                ranges = " and ".join(each.text for each in host.subnets)
                raise InvalidArgumentError(f"The pod cannot have the address {ip!r}: it gets one each of {ranges}.")
            wished[subnet.family] = address_text(packed)
        return [wished[family] for family in sorted(wished)]


def _read_record(record: NetworkRecord) -> BuiltinRecord:
    return msgspec.convert(record, BuiltinRecord)


def _label(request: PodNetworkRequest) -> str:
    return f"{request.pod_namespace}/{request.pod_name}" if request.pod_name else request.sandbox_id[:13]


def _failed(steps: tuple[str, ...], error: NetlinkError) -> NetworkSetupError:
    """The first failure of a batch, in words."""
    return NetworkSetupError(f"The kernel refused to {steps[error.index - 1]}: {error.strerror}.")


def _index_exists(index: int) -> bool:
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


def _parse_mac(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raw = b""
    if len(raw) != 6 or raw[0] & 1 or not any(raw) or text.lower() == HOST_MAC:
        raise InvalidArgumentError(f"{text!r} is no hardware address that a pod could have.")
    return raw


def _attempt(failures: list[str], what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, CRIError) as error:
        failures.append(f"{what}: {explain(error)}")
