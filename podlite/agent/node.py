"""A machine's podlite, put together: runtime, images, network and kubelet, as the commands and the agent use them."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread

from podlite import log
from podlite.errors import UsageError
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.types import KubeletConfig
from podlite.runtime.layout import POD_CIDRS, Layout
from podlite.runtime.network.interface import PodNetwork
from podlite.runtime.service import Runtime

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched

NETWORKS = ("builtin", "none", "host")


class NodeOptions(msgspec.Struct, kw_only=True):
    """What a user can say about the machine's podlite.

    `many` is for programs that run a great many pods; `pods_survive` for those whose pods outlive them.
    """

    layout: Layout = Layout()
    network: str = "builtin"
    pod_cidrs: tuple[str, ...] = POD_CIDRS
    namespace_threads: int = 1
    many: bool = False
    pods_survive: bool = False
    keep_logs: bool = False


class Node:
    """The parts of a running podlite."""

    def __init__(self, options: NodeOptions, runtime: Runtime, kubelet: Kubelet) -> None:
        self.options = options
        self.runtime = runtime
        self.kubelet = kubelet


@asynccontextmanager
async def open_node(options: NodeOptions, launched: Launched | None = None) -> AsyncIterator[Node]:
    """Opens runtime and kubelet; leaving ends them, and their pods unless `pods_survive`.

    What killed podlites left behind is torn down first. `launched` is a spawner that has been started already.
    Raises PodliteError.
    """
    network = make_network(options.network, options)
    runtime = Runtime(
        options.layout,
        network=network,
        namespace_threads=options.namespace_threads,
        many=options.many,
        launched=launched,
        pods_survive=options.pods_survive,
    )
    async with runtime:
        if has_records(options.layout):
            from podlite.agent.orphans import reap_orphans

            await to_thread.run_sync(reap_orphans, options, network, runtime.cgroups)
        async with Kubelet(runtime, runtime.images, kubelet_config(options)) as kubelet:
            yield Node(options, runtime, kubelet)


def make_network(name: str, options: NodeOptions) -> PodNetwork:
    """setupPodNetwork's implementation of that name. Raises UsageError."""
    if name == "builtin":
        from podlite.runtime.network.builtin import BuiltinNetwork

        return BuiltinNetwork(options.layout.run_dir, options.pod_cidrs)
    from podlite.runtime.network.none import HostNetwork, NoneNetwork

    if name == "none":
        return NoneNetwork()
    if name == "host":
        return HostNetwork()
    raise UsageError(f"there is no network {name!r}: it is one of {', '.join(NETWORKS)}")


def has_records(layout: Layout) -> bool:
    """Whether there is anything at all in the run directory: on most machines there is not. Blocking, at once."""
    try:
        with os.scandir(layout.pods_dir) as entries:
            return any(entries)
    except FileNotFoundError:
        return False


def kubelet_config(options: NodeOptions) -> KubeletConfig:
    """The kubelet's configuration on this machine."""
    layout = options.layout
    return KubeletConfig(
        node_name=os.uname().nodename.lower() or "localhost",
        host_ips=host_ips(),
        run_dir=layout.run_dir,
        state_dir=layout.state_dir,
        log_dir=layout.log_dir,
        cgroup_root=layout.cgroup_root,
        keep_logs=options.keep_logs,
        cpu_count=os.cpu_count() or 0,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def host_ips() -> tuple[str, ...]:
    """The machine's own addresses as its peers see them, IPv4 first; 127.0.0.1 on a machine without a network."""
    found = []
    # Connecting a UDP socket sends nothing: it asks the routing table. The addresses are for documentation.
    for family, somewhere in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((somewhere, 9))
                found.append(str(sock.getsockname()[0]))
        except OSError:
            log.debug("no route for an address family", family=family.name)
    return tuple(found) or ("127.0.0.1",)
