"""How fast a pod's network is once it is there: `python benchmarks/network_paths.py [--rounds 5] [--seconds 2]`.

Needs root, iperf3 and ping; with netavark (podman's network program) its bridge is measured beside. Everything happens
in network namespaces of its own. Measured are TCP throughput (iperf3, one stream) and the round trip of an echo
request (ping -f, with what ping itself takes; the best mean of four), in interleaved rounds; the median of these:

    to the host   pod → host                   beside a veth pair made by hand
    between pods  pod → host → another pod     beside two veth pairs made by hand, routed by the host, and beside one
                                               pair from pod to pod, which nothing forwards

The bars: to the host and between pods within 5 % of the same thing made by hand, and not below podman's bridge. The
pair from pod to pod is there to show what forwarding costs on this machine, whoever sets it up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.linux.syscalls import CLONE_NEWNET, MNT_DETACH, umount2, unshare
from podlite.runtime.network.builtin import BuiltinNetwork
from podlite.runtime.network.interface import PodNetworkRequest

NETAVARK = next((p for p in ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark") if os.path.exists(p)), "")


ECHOES = 10_000


class Path:
    """A way to measure: a command prefix for the client, one for the server, and the server's address."""

    def __init__(self, name: str, kind: str, client: str, server: str, address: str) -> None:
        self.name = name
        self.kind = kind
        self.client = client
        self.server = server
        self.address = address
        self.throughputs: list[float] = []
        self.round_trips: list[float] = []

    def measure(self, seconds: int) -> None:
        self.throughputs.append(self._throughput(seconds))
        # The best of a few: what comes between only ever adds.
        self.round_trips.append(min(self._round_trip() for _ in range(4)))

    def _throughput(self, seconds: int) -> float:
        """Gbit/s."""
        server = subprocess.Popen(
            [*_in(self.server), "iperf3", "-s", "-1", "-B", self.address, "--forceflush"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            pass
        done = subprocess.run(
            [*_in(self.client), "iperf3", "-c", self.address, "-t", str(seconds), "-J"], capture_output=True, check=True
        )
        server.wait()
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9

    def _round_trip(self) -> float:
        """Microseconds."""
        # One request after the other, as fast as the answers come; ping's own figures are whole microseconds.
        command = [*_in(self.client), "ping", "-f", "-q", "-c", str(ECHOES), self.address]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = re.search(rf"{ECHOES} received, 0% packet loss, time (\d+)ms", done.stdout)
        assert found is not None, done.stdout
        return float(found[1]) * 1000 / ECHOES


def _in(path: str) -> list[str]:
    return ["nsenter", f"--net={path}"] if path else []


def _sh(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True)


@contextmanager
def _namespace(directory: str, name: str, own: int) -> Iterator[str]:
    path = f"{directory}/{name}"
    netns.create(path, own, lambda: None)
    try:
        yield path
    finally:
        netns.remove(path)


def by_hand(directory: str, own: int, stack: ExitStack) -> list[Path]:
    """Two pairs to the host with a route each, and one pair between two namespaces."""
    spaces = [stack.enter_context(_namespace(directory, f"hand{n}", own)) for n in range(4)]
    for number, path in enumerate(spaces[:2]):
        _sh(
            f"""
            ip link add hand{number} type veth peer name eth0 netns {path}
            ip address add 10.77.{number}.1/24 dev hand{number}; ip link set hand{number} up
            nsenter --net={path} sh -ec '
                ip link set lo up; ip link set eth0 up; ip address add 10.77.{number}.2/24 dev eth0
                ip route add default via 10.77.{number}.1'
            """
        )
    _sh(
        f"""
        nsenter --net={spaces[2]} sh -ec 'ip link add eth0 type veth peer name eth0 netns {spaces[3]}
            ip link set eth0 up; ip address add 10.77.9.1/24 dev eth0'
        nsenter --net={spaces[3]} sh -ec 'ip link set eth0 up; ip address add 10.77.9.2/24 dev eth0'
        """
    )
    return [
        Path("veth by hand", "to the host", spaces[0], "", "10.77.0.1"),
        Path("veth by hand, routed", "between pods", spaces[0], spaces[1], "10.77.1.2"),
        Path("one pair, pod to pod", "between pods", spaces[2], spaces[3], "10.77.9.2"),
    ]


def builtin(directory: str, own: int, stack: ExitStack) -> list[Path]:
    """podlite's."""
    network = BuiltinNetwork(f"{directory}/run", ["10.85.0.0/16", "fd85::/64"])
    pods = []
    for number in range(2):
        sandbox_id = os.urandom(32).hex()
        request = PodNetworkRequest(sandbox_id=sandbox_id, netns_path=f"{directory}/pod{number}")
        record = network.plan(request)
        with netns.create(request.netns_path, own, NetlinkSocket) as inside:
            status = network.setup_pod_network(request, record, inside)
        stack.callback(netns.remove, request.netns_path)
        stack.callback(network.teardown_pod_network, record)
        pods.append((request.netns_path, status.ips[0]))
    stack.callback(network.release_unused)
    (one, _), (two, address) = pods
    return [
        Path("podlite", "to the host", one, "", "169.254.1.1"),
        Path("podlite", "between pods", one, two, address),
    ]


def podman_bridge(directory: str, own: int, stack: ExitStack) -> list[Path]:
    """What podman gives two containers of its default network."""
    subnet = {"subnet": "10.88.7.0/24", "gateway": "10.88.7.1"}
    info = {
        "name": "podman",
        "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
        "driver": "bridge",
        "network_interface": "podman0",
        "subnets": [subnet],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    spaces = []
    for number in range(2):
        path = stack.enter_context(_namespace(directory, f"podman{number}", own))
        options = {
            "container_id": f"c{number}",
            "container_name": f"c{number}",
            "networks": {"podman": {"static_ips": [f"10.88.7.{number + 2}"], "interface_name": "eth0"}},
            "network_info": {"podman": info},
        }
        subprocess.run(
            [NETAVARK, "--config", f"{directory}/netavark", "setup", path],
            input=json.dumps(options),
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        spaces.append(path)
    return [
        Path("podman's bridge", "to the host", spaces[0], "", "10.88.7.1"),
        Path("podman's bridge", "between pods", spaces[0], spaces[1], "10.88.7.3"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each throughput measurement")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="podlite-paths-", dir="/dev/shm")
    unshare(CLONE_NEWNET)
    # A way out, so that podlite has its nftables table, and all that is forwarded goes by it.
    _sh("ip link set lo up; ip link add up0 type veth peer name out0; ip link set up0 up; ip link set out0 up")
    _sh("ip address add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2; sysctl -q -w net.ipv4.ip_forward=1")
    own = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with ExitStack() as stack:
            paths = [*by_hand(directory, own, stack), *builtin(directory, own, stack)]
            if NETAVARK:
                paths += podman_bridge(directory, own, stack)
            for _ in range(arguments.rounds):
                for path in paths:
                    path.measure(arguments.seconds)
            report(paths)
    finally:
        for name in os.listdir(directory):
            try:
                umount2(f"{directory}/{name}", MNT_DETACH)
            except OSError:
                pass
        shutil.rmtree(directory, ignore_errors=True)


def report(paths: list[Path]) -> None:
    """Medians, and podlite's as a share of each other one's of the same kind, round by round."""
    print(f"{'':14}{'':24}{'Gbit/s':>8}{'podlite':>10}{'RTT µs':>9}{'podlite':>10}")
    for kind in ("to the host", "between pods"):
        (ours,) = (path for path in paths if path.kind == kind and path.name == "podlite")
        for path in (path for path in paths if path.kind == kind):
            speed = statistics.median(a / b for a, b in zip(ours.throughputs, path.throughputs, strict=True))
            trip = statistics.median(a / b for a, b in zip(ours.round_trips, path.round_trips, strict=True))
            print(
                f"{kind:14}{path.name:24}{statistics.median(path.throughputs):8.1f}{speed:9.0%} "
                f"{statistics.median(path.round_trips):9.1f}{trip:9.0%}"
            )


if __name__ == "__main__":
    main()
