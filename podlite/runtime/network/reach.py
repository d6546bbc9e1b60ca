"""Who reaches whom, found by trying it: sockets in the namespaces, one packet or connection for each way.

    pod, other   two pods of the network that is to be tried; `pod` has a host port, TCP and UDP of the same number
    host         this namespace
    outside      a namespace at the other end of a veth pair of the host's, that knows no way to the pods

Blocking. Nothing is left: `outside` goes with its last descriptor, and takes the veth pair with it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from podlite.linux.netlink import NetlinkSocket, find_link, open_inside, set_link_up
from podlite.linux.netns import THREAD_NETNS
from podlite.linux.own_thread import run_in_own_thread
from podlite.linux.syscalls import CLONE_NEWNET, unshare
from podlite.linux.veth import add_address, create_veth, open_socket_inside

if TYPE_CHECKING:
    from collections.abc import Iterator

# RFC 2544's range for trying things, and a unique local one. The host's address and the outside's.
HOST = {4: "198.18.255.253", 6: "fd00:706c:0:ffff::1"}
OUTSIDE = {4: "198.18.255.254", 6: "fd00:706c:0:ffff::2"}
_PREFIX = {4: 30, 6: 64}
_ANY = {4: "0.0.0.0", 6: "::"}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_HEADERS = {4: 20 + 8, 6: 40 + 8}  # of IP and UDP
IFA_F_TENTATIVE = 0x40
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
SECONDS = 1.0
# How long a packet is waited for that is not to come: longer than any that comes takes.
REFUSED_SECONDS = 0.2


class Way(NamedTuple):
    """One row: from where to where, whether that is to work, and why not where it is not."""

    name: str
    wanted: bool
    note: str = ""


class Trial(NamedTuple):
    """One cell: a way in one family by one protocol. `works` is what was found."""

    way: Way
    family: int
    protocol: str
    works: bool

    @property
    def as_wanted(self) -> bool:
        return self.works == self.way.wanted


POD_TO_POD = Way("pod → pod", True)
POD_TO_HOST = Way("pod → host", True)
HOST_TO_POD = Way("host → pod", True)
POD_TO_OUTSIDE = Way("pod → outside", True)
POD_TO_OUTSIDE_WHOLE = Way("pod → outside, packets as large as the MTU", True)
OUTSIDE_TO_PORT = Way("outside → host port", True)
HOST_TO_PORT = Way("host → host port", True)
LOOPBACK_TO_PORT = Way("host → host port by 127.0.0.1", True)
LOOPBACK6_TO_PORT = Way("host → host port by [::1]", False, "nothing from ::1 can leave the loopback device")
POD_TO_PORT = Way("another pod → host port", True)
HAIRPIN = Way("pod → its own host port", True)
POD_TO_LOOPBACK = Way("pod → host's loopback", False, "what listens there is nobody else's business")


class Outside:
    """The namespace that stands for the rest of the world, as a context manager."""

    def __enter__(self) -> Outside:
        """Raises OSError: EEXIST if there is such a device or address already."""
        self.netns = _new_namespace()
        try:
            name = f"plcheck{os.getpid() % 100000}"
            with NetlinkSocket() as host, open_inside(self.netns) as there:
                create_veth(host, name, "out0", self.netns)
                for netlink, device, addresses in ((there, "out0", OUTSIDE), (host, name, HOST)):
                    link = find_link(netlink, device)
                    if link is None:
                        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), device)
                    set_link_up(netlink, link.index)
                    for family, address in addresses.items():
                        if family == 4 or os.path.isdir("/proc/sys/net/ipv6"):
                            add_address(netlink, link.index, address, _PREFIX[family])
                set_link_up(there, 1)
        except BaseException:
            os.close(self.netns)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.netns)


class Pod(NamedTuple):
    """A pod to try: a descriptor of its namespace, its addresses by family, its MTU."""

    netns: int
    ips: dict[int, str]
    mtu: int


def try_all(pod: Pod, other: Pod, outside: int, host: int, host_port: int, port: int) -> Iterator[Trial]:
    """Tries every way in every family that the pods have. `host_port` leads to the pod's `port`. Raises OSError for
    what has nothing to do with the ways: no descriptors, no threads."""
    for family in sorted(pod.ips):
        for protocol, kind in (("TCP", TCP), ("UDP", UDP)):

            def trial(way: Way, works: bool, family: int = family, protocol: str = protocol) -> Trial:
                return Trial(way, family, protocol, works)

            with Server(other.netns, family, kind) as server:
                yield trial(POD_TO_POD, asks(pod.netns, other.ips[family], server.port, kind))
                yield trial(HOST_TO_POD, asks(host, other.ips[family], server.port, kind))
            # Not on every address: what answers a datagram from there has to choose the one it came to by itself.
            with Server(host, family, kind, address=HOST[family]) as server:
                yield trial(POD_TO_HOST, asks(pod.netns, HOST[family], server.port, kind))
            with Server(outside, family, kind) as server:
                yield trial(POD_TO_OUTSIDE, asks(pod.netns, OUTSIDE[family], server.port, kind))
                if kind == UDP:
                    size = pod.mtu - _HEADERS[family]
                    works = asks(pod.netns, OUTSIDE[family], server.port, kind, size=size)
                    yield trial(POD_TO_OUTSIDE_WHOLE, works)
            with Server(pod.netns, family, kind, port=port):
                yield trial(OUTSIDE_TO_PORT, asks(outside, HOST[family], host_port, kind))
                yield trial(HOST_TO_PORT, asks(host, HOST[family], host_port, kind))
                loopback = LOOPBACK_TO_PORT if family == 4 else LOOPBACK6_TO_PORT
                seconds = SECONDS if loopback.wanted else REFUSED_SECONDS
                yield trial(loopback, asks(host, _LOOPBACK[family], host_port, kind, seconds=seconds))
                yield trial(POD_TO_PORT, asks(other.netns, HOST[family], host_port, kind))
                yield trial(HAIRPIN, asks(pod.netns, HOST[family], host_port, kind))
            with Server(host, family, kind, address=_LOOPBACK[family]) as server:
                reached = any(
                    asks(pod.netns, address, server.port, kind, seconds=REFUSED_SECONDS)
                    for address in (_LOOPBACK[family], HOST[family])
                )
                yield trial(POD_TO_LOOPBACK, reached)


def wait_until_settled(seconds: float = 3.0) -> None:
    """Until no IPv6 address of this namespace is tentative any more: a bridge that has just got its first port asks
    around for another owner of its addresses, and cannot use them before that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open("/proc/thread-self/net/if_inet6", encoding="utf-8") as file:
                if not any(int(line.split()[4], 16) & IFA_F_TENTATIVE for line in file):
                    return
        except FileNotFoundError:
            return
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody on the host listens on, TCP or UDP, of either family. It may be taken at any time."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, TCP) as first:
            first.bind(("0.0.0.0", 0))
            port = int(first.getsockname()[1])
            try:
                with socket.socket(socket.AF_INET, UDP) as second:
                    second.bind(("0.0.0.0", port))
                    return port
            except OSError:
                continue
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class Server:
    """Answers with what it gets, in a thread, as a context manager."""

    def __init__(self, netns: int, family: int, kind: int, *, address: str = "", port: int = 0) -> None:
        self._socket = open_socket_inside(netns, _AF[family], kind)
        self._kind = kind
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == 6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind((address or _ANY[family], port))
            if kind == TCP:
                self._socket.listen(8)
        except BaseException:
            self._socket.close()
            os.close(self._stop)
            raise
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._socket.close()
        os.close(self._stop)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._stop], [], [])
            if self._stop in ready:
                return
            try:
                if self._kind == TCP:
                    connection, _ = self._socket.accept()
                    with connection:
                        connection.settimeout(SECONDS)
                        connection.sendall(connection.recv(16))
                else:
                    data, peer = self._socket.recvfrom(65536)
                    self._socket.sendto(data[:16], peer)
            except OSError:
                continue  # that client has gone; the next one may be better


def asks(netns: int, address: str, port: int, kind: int, *, size: int = 16, seconds: float = SECONDS) -> bool:
    """Whether a client in a namespace gets an answer from there. With a `size`, of a datagram that must not be cut."""
    family = 6 if ":" in address else 4
    token = os.urandom(16)
    with open_socket_inside(netns, _AF[family], kind) as client:
        client.settimeout(seconds)
        try:
            if size > len(token):
                level, option = (socket.IPPROTO_IP, IP_MTU_DISCOVER) if family == 4 else (41, IPV6_MTU_DISCOVER)
                client.setsockopt(level, option, PMTUDISC_DO)
            client.connect((address, port))
            client.sendall(token + bytes(size - len(token)))
            return client.recv(64) == token
        except OSError:
            return False


def _new_namespace() -> int:
    """A descriptor of a network namespace that nothing else holds."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)

    return run_in_own_thread(make)
