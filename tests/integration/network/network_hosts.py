"""A "host" and an "outside" that are network namespaces of the test's own, and sockets in either and in pods.

The real host's firewall, sysctls and routes are never touched: the thread that runs the test is in the namespace
that plays the host for as long as the test runs, and every thread and process it starts is too.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from podlite.cri.types import PortMapping
from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.linux.syscalls import CLONE_NEWNET, setns, unshare
from podlite.runtime.network.builtin import BuiltinNetwork
from podlite.runtime.network.interface import NetworkRecord, PodNetworkRequest, PodNetworkStatus

T = TypeVar("T")
CIDRS = ("10.85.0.0/16", "fd85::/64")
# Far beyond what anything takes.
SECONDS = 30.0
# How long a test waits for a packet that must not come; a control beside it shows that another one does.
REFUSED_SECONDS = 0.4

HOST4, OUTSIDE4 = "192.0.2.1", "192.0.2.2"
HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::2"


def sh(script: str) -> str:
    """Runs a shell script in the calling thread's namespaces; its output, or an error with what it said."""
    done = subprocess.run(["sh", "-ec", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def inside(netns_fd: int, function: Callable[[], T]) -> T:
    """Runs `function` in a thread of its own in another network namespace."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            setns(netns_fd, CLONE_NEWNET)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.005)


class Pod:
    """A pod's network without a pod."""

    def __init__(self, host: Host, record: NetworkRecord, status: PodNetworkStatus, path: str) -> None:
        self.host = host
        self.record = record
        self.status = status
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def ip4(self) -> str:
        return next(ip for ip in self.status.ips if ":" not in ip)

    @property
    def ip6(self) -> str:
        return next(ip for ip in self.status.ips if ":" in ip)

    def ip(self, family: int) -> str:
        return self.ip4 if family == 4 else self.ip6

    def sh(self, script: str) -> str:
        return inside(self.fd, lambda: sh(script))

    def close(self) -> None:
        """Ends the namespace; what is left of the network is left."""
        os.close(self.fd)
        netns.remove(self.path)
        self.host.pods.remove(self)

    def remove(self) -> None:
        self.host.network.teardown_pod_network(self.record)
        self.close()


# (run directory) → a network; typed loosely, for some tests ask theirs for more than PodNetwork has.
Make = Callable[[str], Any]


class Host:
    """The calling thread's own network namespace. `outside` is None on a host with only `lo`."""

    def __init__(self, run_dir: str, cidrs: tuple[str, ...] = CIDRS, make: Make | None = None) -> None:
        self.run_dir = run_dir
        self.own = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        self.make = make or (lambda run_dir: BuiltinNetwork(run_dir, cidrs))
        self.network = self.make(run_dir)
        self.pods: list[Pod] = []
        self.outside: int | None = None
        os.makedirs(f"{run_dir}/netns", exist_ok=True)

    def request(self, *ports: PortMapping, **options: Any) -> PodNetworkRequest:
        sandbox_id = os.urandom(32).hex()
        return PodNetworkRequest(
            sandbox_id=sandbox_id,
            pod_namespace="default",
            pod_name=f"pod-{sandbox_id[:4]}",
            netns_path=f"{self.run_dir}/netns/{sandbox_id}",
            port_mappings=list(ports),
            **options,
        )

    def pod(self, *ports: PortMapping, **options: Any) -> Pod:
        request = self.request(*ports, **options)
        record = json.loads(json.dumps(self.network.plan(request)))  # as from a record on disk
        socket_inside = netns.create(request.netns_path, self.own, NetlinkSocket)
        try:
            status = self.network.setup_pod_network(request, record, socket_inside)
        except BaseException:
            netns.remove(request.netns_path)
            raise
        finally:
            socket_inside.close()
        pod = Pod(self, record, status, request.netns_path)
        self.pods.append(pod)
        return pod

    def state(self) -> dict[str, Any]:
        """Everything that a pod's network could leave behind."""
        found: dict[str, Any] = {
            "links": sorted(link["ifname"] for link in json.loads(sh("ip -j link"))),
            "addresses": sh("ip -o address show | sed 's/valid_lft.*//'"),
            # But for those that the kernel itself makes of the addresses, in its own time.
            "routes": sorted(
                line
                for line in sh("ip -4 route show table all; ip -6 route show table all").splitlines()
                if "table local proto kernel" not in line
            ),
            "neighbours": sh("ip neigh show nud permanent"),
            "rules": sh("nft list ruleset 2>/dev/null"),
            "files": sorted(
                os.path.relpath(os.path.join(directory, name), self.run_dir)
                for directory, _, names in os.walk(self.run_dir)
                for name in names
                if name not in ("cursor", "network") and not name.endswith(".py")
            ),
        }
        for family, keys in (("ipv4", ("forwarding",)), ("ipv6", ("forwarding", "accept_ra"))):
            base = f"/proc/sys/net/{family}/conf"
            for device in os.listdir(base) if os.path.isdir(base) else []:
                for key in keys:
                    try:
                        with open(f"{base}/{device}/{key}", encoding="ascii") as file:
                            found[f"{family}/{device}/{key}"] = file.read().strip()
                    except FileNotFoundError:
                        pass  # a device that is just going
        return found

    def wait_for_state(self, wanted: dict[str, Any]) -> None:
        """A device goes with its namespace, a little later than that."""
        try:
            wait_for(lambda: self.state() == wanted, "everything gone", 10.0)
        except AssertionError as error:
            now = self.state()
            differing = {
                key: (wanted.get(key), now.get(key)) for key in wanted | now if wanted.get(key) != now.get(key)
            }
            raise AssertionError(f"left behind (before, now): {differing}") from error

    def close(self) -> None:
        for pod in list(self.pods):
            pod.close()
        self.network.close()
        if self.outside is not None:
            os.close(self.outside)
        os.close(self.own)


@contextmanager
def new_host(run_dir: str, *, uplink: bool, cidrs: tuple[str, ...] = CIDRS, make: Make | None = None) -> Iterator[Host]:
    """Moves the calling thread into a network namespace that plays the host, for the length of the block.

    With an uplink it has up0 with HOST4 and HOST6 and default routes to an outside that knows no way to the pods.
    `make(run_dir)` makes the network, podlite's own if it is left out.
    """
    before = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    unshare(CLONE_NEWNET)
    try:
        outside = None
        # Whatever the real host does: a namespace begins with the IPv4 settings of the first one.
        sh("ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward")
        if uplink:
            outside = _make_outside()
            sh(
                f"""
                ip link set up0 addrgenmode none
                ip link set up0 up
                ip address add {HOST4}/24 dev up0
                ip address add {HOST6}/64 dev up0 nodad
                ip route add default via {OUTSIDE4}
                ip -6 route add default via {OUTSIDE6}
                """
            )
            # The kernel notices the carrier a little later, and adds this route then.
            wait_for(lambda: "dev up0" in sh("ip -6 route show table local type multicast"), "up0 has a carrier")
        host = Host(run_dir, cidrs, make)
        host.outside = outside
        try:
            yield host
        finally:
            host.close()
    finally:
        setns(before, CLONE_NEWNET)
        os.close(before)


def _make_outside() -> int:
    """A namespace at the other end of up0."""
    host = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    made: list[int] = []

    def make() -> None:
        unshare(CLONE_NEWNET)
        made.append(os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    path = f"/proc/self/fd/{made[0]}"
    subprocess.run(["sh", "-ec", f"ip link add up0 type veth peer name out0 netns {path}"], check=True, pass_fds=made)
    inside(
        made[0],
        lambda: sh(
            f"""
            ip link set lo up
            ip link set out0 up
            ip address add {OUTSIDE4}/24 dev out0
            ip address add {OUTSIDE6}/64 dev out0 nodad
            """
        ),
    )
    os.close(host)
    return made[0]


class Server:
    """Answers every connection or datagram with its own name and the address it came from: `name|address`."""

    def __init__(self, netns_fd: int, name: str, address: str, port: int, kind: socket.SocketKind) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def bind() -> socket.socket:
            listener = socket.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
            if kind == socket.SOCK_STREAM:
                listener.listen(64)
            return listener

        self.name = name
        self.listener = inside(netns_fd, bind)
        self.port: int = self.listener.getsockname()[1]
        self.seen: list[str] = []
        self._closing = False
        self._stream = kind == socket.SOCK_STREAM
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                if self._stream:
                    connection, peer = self.listener.accept()
                    with connection:
                        self.seen.append(peer[0])
                        connection.sendall(f"{self.name}|{peer[0]}".encode())
                else:
                    _, peer = self.listener.recvfrom(65536)
                    if self._closing:
                        return
                    self.seen.append(peer[0])
                    self.listener.sendto(f"{self.name}|{peer[0]}".encode(), peer)
            except OSError:
                return

    def close(self) -> None:
        # shutdown ends accept and recvfrom, which close would leave waiting; it complains about a UDP socket.
        self._closing = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self.listener.close()


@contextmanager
def serving(netns_fd: int, name: str, address: str, port: int, kind: socket.SocketKind) -> Iterator[Server]:
    server = Server(netns_fd, name, address, port, kind)
    try:
        yield server
    finally:
        server.close()


def ask(
    netns_fd: int,
    address: str,
    port: int,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    *,
    seconds: float = SECONDS,
    source: str = "",
) -> str:
    """What a Server at that address answers a client in that namespace. Raises OSError, TimeoutError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def talk() -> str:
        with socket.socket(family, kind) as client:
            client.settimeout(seconds)
            if source:
                client.bind((source, 0))
            client.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                client.send(b"hello")
            return client.recv(65536).decode()

    return inside(netns_fd, talk)


def refused(
    netns_fd: int,
    address: str,
    port: int,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    *,
    seconds: float = REFUSED_SECONDS,
) -> bool:
    """Whether no answer comes."""
    try:
        ask(netns_fd, address, port, kind, seconds=seconds)
    except TimeoutError:
        return True
    except OSError as error:
        return error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINVAL, errno.EACCES)
    return False
