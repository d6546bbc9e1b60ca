"""Host ports: which are wanted, whose each is, and their elements in the nftables maps.

    <run-dir>/network/hostports/tcp-8080-127.0.0.1 → "<sandbox id> 80 10.85.0.2 fd85::2 default/web"

A reservation says all that its elements are made of, so the maps can be filled again after somebody flushed the
rules or another version's table was replaced; one without addresses (a CNI pod's) has no elements. It changes under
the network's lock.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import msgspec

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.runtime.network.addresses import address_text, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.cri.types import PortMapping
    from podlite.linux.netlink import NetlinkSocket, SocketPool
    from podlite.runtime.network.ruleset import Element

# host_ip → the families in which it means every address; the empty one means both.
WILDCARDS = {"": (4, 6), "0.0.0.0": (4,), "::": (6,)}


# A kernel without nf_tables, or without one of the expressions or chain types of the table.
NO_NFTABLES = frozenset(
    {errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL, errno.EPERM}
)


class HostPort(msgspec.Struct, frozen=True, kw_only=True):
    """`protocol` is TCP, UDP or SCTP; `host_ip` an address in its usual form, or a key of WILDCARDS."""

    protocol: str
    host_ip: str
    host_port: int
    container_port: int

    @property
    def families(self) -> tuple[int, ...]:
        """Those of the host addresses it is published on."""
        return WILDCARDS.get(self.host_ip) or ((6,) if ":" in self.host_ip else (4,))

    @property
    def file_name(self) -> str:
        return f"{self.protocol.lower()}-{self.host_port}-{self.host_ip or 'any'}"

    def __str__(self) -> str:
        where = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{where}:{self.host_port}/{self.protocol}" if where else f"{self.host_port}/{self.protocol}"

    def collides_with(self, other: HostPort) -> bool:
        """Whether some packet would belong to both. A wildcard holds the port on every address of its family."""
        if (self.protocol, self.host_port) != (other.protocol, other.host_port):
            return False
        if not set(self.families) & set(other.families):
            return False
        return self.host_ip == other.host_ip or self.host_ip in WILDCARDS or other.host_ip in WILDCARDS


def read_mappings(mappings: Iterable[PortMapping], families: Iterable[int]) -> list[HostPort]:
    """The host ports that a pod with addresses of `families` asks for; mappings without one are no concern here.

    Raises InvalidArgumentError for one that cannot be published, or collides with another of the same pod.
    """
    wanted: list[HostPort] = []
    for mapping in mappings:
        if not mapping.host_port:
            continue
        host_ip = mapping.host_ip
        if host_ip not in WILDCARDS:
            packed = parse_address(host_ip)
            if packed is None:
                raise InvalidArgumentError(f"The host port {mapping.host_port} is wanted on {host_ip!r}, no address.")
            host_ip = address_text(packed)
        port = HostPort(
            protocol=mapping.protocol.name,
            host_ip=host_ip,
            host_port=mapping.host_port,
            container_port=mapping.container_port,
        )
        if not (0 < port.host_port < 65536 and 0 < port.container_port < 65536):
            raise InvalidArgumentError(f"The host port {port} → {port.container_port} is not between 1 and 65535.")
        if host_ip == "::1":
            raise InvalidArgumentError(
                f"The host port {port} cannot be published: nothing from ::1 can leave the loopback device.",
                hint="use 127.0.0.1, or leave hostIP out",
            )
        if not set(port.families) & set(families):
            raise InvalidArgumentError(
                f"The host port {port} cannot be published: the pod has no IPv{port.families[0]} address."
            )
        for other in wanted:
            if port.collides_with(other):
                raise InvalidArgumentError(f"The pod wants the host port {port} twice.")
        wanted.append(port)
    return wanted


def needs_route_localnet(ports: Iterable[HostPort]) -> bool:
    """Whether packets from 127.0.0.0/8 have to get out through the host end."""
    return any(4 in port.families and (port.host_ip in WILDCARDS or port.host_ip.startswith("127.")) for port in ports)


def elements_of(ports: Iterable[HostPort], ips: Iterable[str]) -> list[Element]:
    """The elements for a pod with these addresses."""
    from podlite.runtime.network.ruleset import hairpin_element, host_port_element

    by_family = {4 if len(packed) == 4 else 6: packed for ip in ips if (packed := parse_address(ip))}
    elements: dict[tuple[str, bytes], Element] = {}
    for port in ports:
        host_ip = b"" if port.host_ip in WILDCARDS else parse_address(port.host_ip) or b""
        for family in port.families:
            if (pod_ip := by_family.get(family)) is None:
                continue
            for element in (
                host_port_element(port.protocol, host_ip, port.host_port, pod_ip, port.container_port),
                hairpin_element(pod_ip),
            ):
                elements[element[:2]] = element
    return list(elements.values())


class HostPorts:
    """The reservations of one run directory, and their elements. All functions block."""

    def __init__(self, directory: str, nftables: SocketPool) -> None:
        """`directory` is <run-dir>/network."""
        self._nftables = nftables
        self._directory = f"{directory}/hostports"

    def check_free(self, wanted: Iterable[HostPort], owner: str) -> None:
        """Raises NetworkSetupError for a port that another pod has, or that a process of the host listens on."""
        reserved = self._reserved()
        for port in wanted:
            for other, text in reserved:
                holder, *_, label = text.split(" ", 4)
                if holder != owner and port.collides_with(other):
                    raise NetworkSetupError(f"The host port {port} is taken by the pod {label} ({other}).")
            if (said := _bound_by_host(port)) is not None:
                raise NetworkSetupError(
                    f"The host port {port} cannot be published: {said}.",
                    hint=f"`ss -lnp 'sport = :{port.host_port}'` shows who has it",
                )

    def reserve(self, wanted: Iterable[HostPort], owner: str, ips: list[str], label: str) -> None:
        """With the lock held. Idempotent for the same owner. Raises as `check_free` does."""
        ports = list(wanted)
        self.check_free(ports, owner)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        ip4 = next((ip for ip in ips if ":" not in ip), "-")
        ip6 = next((ip for ip in ips if ":" in ip), "-")
        for port in ports:
            try:
                os.symlink(f"{owner} {port.container_port} {ip4} {ip6} {label}", f"{self._directory}/{port.file_name}")
            except FileExistsError:  # ours, or check_free would have said so
                pass

    def publish(self, ports: list[HostPort], ips: list[str], label: str) -> None:
        """Puts a pod's elements into the maps. Idempotent. Raises OSError."""
        from podlite.runtime.network.ruleset import add_elements, delete_elements

        elements = elements_of(ports, ips)
        with self._nftables.lease() as netlink:
            errors = netlink.submit(*add_elements(elements, label))
            if errors and errors[0].errno in (errno.EEXIST, errno.EBUSY):
                # The port is reserved for this pod, so whatever leads elsewhere is somebody's remains.
                for element in elements:
                    netlink.submit(*delete_elements([element]))
                errors = netlink.submit(*add_elements(elements, label))
            if errors:
                raise errors[0]
            _forget_connections(netlink, ports)

    def withdraw(self, ports: list[HostPort], owner: str, ips: list[str]) -> None:
        """Takes a pod's elements out of the maps, and its reservations back: those that are its own. With the lock
        held, or somebody who makes the table anew would put the elements in again in between. Idempotent, also
        without a table, or nftables. Raises OSError."""
        held = {(other.file_name, text.split(" ", 1)[0]) for other, text in self._reserved()}
        own = [port for port in ports if (port.file_name, owner) in held]
        if own:
            try:
                if ips:  # a CNI pod's are published by its plugins
                    self._delete_elements(own, ips)
            except OSError as error:
                if error.errno not in NO_NFTABLES:
                    raise
        for port in own:
            os.unlink(f"{self._directory}/{port.file_name}")

    def _delete_elements(self, ports: list[HostPort], ips: list[str]) -> None:
        from podlite.runtime.network.ruleset import delete_elements

        elements = elements_of(ports, ips)
        with self._nftables.lease() as netlink:
            errors = netlink.submit(*delete_elements(elements))
            if errors:  # nothing happened: one that was gone already stops the whole transaction
                errors = [error for each in elements for error in netlink.submit(*delete_elements([each]))]
            failed = [error for error in errors if error.errno != errno.ENOENT]
            if failed:
                raise failed[0]
            _forget_connections(netlink, ports)

    def republish(self, netlink: NetlinkSocket) -> None:
        """Puts all that is reserved into a table that has just been made. With the lock held. Raises OSError."""
        reserved = self._reserved()
        if not reserved:
            return
        from podlite.runtime.network.ruleset import add_elements

        for port, text in reserved:
            _, _, ip4, ip6, label = text.split(" ", 4)
            elements = elements_of([port], [ip for ip in (ip4, ip6) if ip != "-"])
            errors = netlink.submit(*add_elements(elements, label)) if elements else []
            if errors:
                raise errors[0]

    def _reserved(self) -> list[tuple[HostPort, str]]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                text = os.readlink(f"{self._directory}/{name}")
            except FileNotFoundError:
                continue
            protocol, number, where = name.split("-", 2)
            port = HostPort(
                protocol=protocol.upper(),
                host_ip="" if where == "any" else where,
                host_port=int(number),
                container_port=int(text.split(" ", 2)[1]),
            )
            found.append((port, text))
        return found


def _bound_by_host(port: HostPort) -> str | None:
    """Why a process of the host's could not listen there, or None if it could.

    Destination NAT would take the port away from a process that does, without a word.
    """
    if port.protocol == "SCTP":
        return None  # few kernels have the sockets; its conflicts with the host's own are not looked for
    kind = socket.SOCK_STREAM if port.protocol == "TCP" else socket.SOCK_DGRAM
    for family in port.families:
        af, anywhere = (socket.AF_INET, "0.0.0.0") if family == 4 else (socket.AF_INET6, "::")
        try:
            with socket.socket(af, kind) as probe:
                if af == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    # A listener still stops this one; connections that linger do not.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((port.host_ip or anywhere, port.host_port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "a process of the host listens on it"
            if error.errno == errno.EADDRNOTAVAIL:
                return f"{port.host_ip} is not an address of this host"
            if error.errno not in (errno.EAFNOSUPPORT, errno.EACCES):
                raise
    return None


def _forget_connections(netlink: NetlinkSocket, ports: Iterable[HostPort]) -> None:
    """A UDP sender that never pauses would keep to where its first packet went, for ever."""
    from podlite.linux.conntrack import forget

    for port in ports:
        if port.protocol == "UDP" and not forget(netlink, socket.IPPROTO_UDP, port.host_port):
            return
