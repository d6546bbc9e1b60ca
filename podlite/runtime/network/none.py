"""The two networks that need nothing: the host's own, and none but a loopback device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.errors import explain
from podlite.linux.netlink import open_inside, set_link_up
from podlite.runtime.network.interface import NetworkRecord, PodNetworkRequest, PodNetworkStatus
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podlite.linux.netlink import NetlinkSocket

_LOOPBACK_INDEX = 1


class HostNetwork:
    """The pod shares the host's network namespace: its addresses are the host's, its ports are host ports."""

    name = "host"

    def __init__(self, ips: Callable[[], Iterable[str]] = tuple) -> None:
        """`ips` gives the addresses that a pod is said to have: none for one that asks for the host's network by
        itself (CRI), the host's for one that gets it because others have it too (`--network host`)."""
        self._ips = ips

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        for mapping in request.port_mappings:
            if mapping.host_port and mapping.host_port != mapping.container_port:
                raise InvalidArgumentError(
                    f"The host port {mapping.host_port} cannot lead to the pod's port {mapping.container_port}: the pod"
                    " is on the host's network, where its ports are the host's.",
                    hint="give both the same number, or leave hostPort out",
                )
        return {"network": self.name, "version": 1}

    def setup_pod_network(
        self, request: PodNetworkRequest, record: NetworkRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        return PodNetworkStatus(ips=list(self._ips()))

    def teardown_pod_network(self, record: NetworkRecord) -> None:
        pass

    def release_unused(self) -> bool:
        return True

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


class NoneNetwork(HostNetwork):
    """A network namespace of the pod's own with `lo` up and nothing else: it reaches nobody but itself."""

    name = "none"

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        for mapping in request.port_mappings:
            if mapping.host_port:
                raise InvalidArgumentError(
                    f"The host port {mapping.host_port} cannot be published: the pod has no network.",
                    hint="use another --network, or leave hostPort out",
                )
        return {"network": self.name, "version": 1}

    def setup_pod_network(
        self, request: PodNetworkRequest, record: NetworkRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        with step("network.setup", sandbox_id=request.sandbox_id):
            opened = None
            try:
                if inside is None:
                    inside = opened = open_inside(request.netns_fd)
                set_link_up(inside, _LOOPBACK_INDEX)
            except OSError as error:
                raise NetworkSetupError(
                    f"The pod's loopback device could not be brought up: {explain(error)}."
                ) from error
            finally:
                if opened is not None:
                    opened.close()
        return PodNetworkStatus()


def host_ips() -> tuple[str, ...]:
    """The machine's own addresses as its peers see them, IPv4 first; 127.0.0.1 on a machine without a network."""
    import socket

    found = []
    # Connecting a UDP socket sends nothing: it asks the routing table. The addresses are for documentation.
    for family, somewhere in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((somewhere, 9))
                found.append(str(sock.getsockname()[0]))
        except OSError:
            continue  # no route for this family
    return tuple(found) or ("127.0.0.1",)
