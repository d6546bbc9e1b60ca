"""What a network has to offer a sandbox: one small interface, whoever implements it.

    plan ──▶ (the caller writes the plan into the sandbox's record) ──▶ setup ──▶ … ──▶ teardown

A plan names everything that the set-up might make before anything of it is made; teardown works from that
plan alone, whenever and in whichever process, and however far the set-up came. Both are plain JSON.
All functions block, and are called on worker threads in the host's network namespace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from podlite.cri.types import DNSConfig, PortMapping

if TYPE_CHECKING:
    from podlite.linux.netlink import NetlinkSocket

# What `plan` returns: at least {"network": name of the implementation, "version": int}.
NetworkRecord = dict[str, Any]


class PodNetworkRequest(msgspec.Struct, kw_only=True):
    """A pod's wish for a network.

    `netns_path` is the pin of its network namespace and `netns_fd` a descriptor of it (-1 before it exists, which
    is when `plan` is called). `ips` and `mac` are wishes, usually empty. `annotations` are the pod's, `dns` its
    resolver's configuration where it has one of its own, `cgroup_path` its cgroup.
    """

    sandbox_id: str
    pod_namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    netns_path: str = ""
    netns_fd: int = -1
    port_mappings: list[PortMapping] = []
    ips: list[str] = []
    mac: str = ""
    annotations: dict[str, str] = {}
    dns: DNSConfig | None = None
    cgroup_path: str = ""


class PodInterface(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A device of the pod's: its name there, and the name of its other end on the host if it has one.

    `network` is the name of the network that it leads to, and `default` whether that is the pod's own or one beside
    it; `gateway` and `dns` are what the network says of them.
    """

    name: str
    mac: str = ""
    mtu: int = 0
    ips: list[str] = []
    host_interface: str = ""
    network: str = ""
    default: bool = False
    gateway: list[str] = []
    dns: dict[str, Any] = {}


class PodNetworkStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a set-up made. `ips` are the pod's addresses, the primary one first; empty for the host's network."""

    ips: list[str] = []
    interfaces: list[PodInterface] = []


class PodNetwork(Protocol):
    """setupPodNetwork and its opposite. Implementations may be used from several threads at a time.

    One whose set-up may wait long has a function more, `interrupt(sandbox_id)`: called from any thread when the
    sandbox is not wanted any more, it returns at once and makes the set-up of that sandbox, which runs or is about to,
    fail soon.
    """

    name: str

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        """Chooses names and addresses and finds conflicts; makes nothing.

        Raises InvalidArgumentError for a request that contradicts itself, NetworkSetupError for a conflict with
        what is there.
        """
        ...

    def setup_pod_network(
        self, request: PodNetworkRequest, record: NetworkRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        """Makes what `record`, the plan for this request, names.

        `inside` is a NETLINK_ROUTE socket in the pod's network namespace, which stays the caller's; without one
        `request.netns_fd` is used. On a failure everything is taken back; where that failed too the error says so,
        and teardown with the same record has to be tried again later. Raises NetworkSetupError.
        """
        ...

    def teardown_pod_network(self, record: NetworkRecord) -> None:
        """Takes back whatever there is of the plan. Idempotent: what is gone already is success. The caller ends
        the pod's network namespace after this, and with it goes what is in it.

        Every step is tried; raises NetworkTeardownError, naming those that failed, at the end.
        """
        ...

    def release_unused(self) -> bool:
        """Takes back what the pods of all podlite processes share, if there is no pod left; True if there is none.
        Called when a process has torn its last pod down, and by whoever reaps: as early as it can be, for `close`
        waits until the kernel has really let go of what went here. Idempotent. Raises OSError."""
        ...

    def check(self) -> list[str]:
        """Why no pod could be given a network now, as sentences; empty if one could (NetworkReady)."""
        ...

    def close(self) -> None:
        """Lets go of descriptors; the last thing. What exists stays. Idempotent."""
        ...
