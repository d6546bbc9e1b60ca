"""Which network a pod gets: the machine's default, what the pod's annotation says, or what its record says.

    builtin   podlite.runtime.network.builtin       a pod may ask for another one by the annotation
    cni       podlite.runtime.network.cni           podlite.local/network: none
    none      podlite.runtime.network.none
    host      podlite.runtime.network.none
    multi     MultiNetwork, below: one of the above and CNI networks beside it (k8s.v1.cni.cncf.io/networks)

A network of one's own is an object with the functions of podlite.runtime.network.interface.PodNetwork.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from podlite.cri.errors import CRIError, InvalidArgumentError, NetworkSetupError
from podlite.runtime.layout import POD_CIDRS
from podlite.runtime.network.errors import NetworkTeardownError
from podlite.runtime.network.interface import NetworkRecord, PodNetwork, PodNetworkRequest, PodNetworkStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podlite.linux.netlink import NetlinkSocket
    from podlite.runtime.layout import Layout
    from podlite.runtime.network.cni.network import CNINetwork

NAMES = ("builtin", "cni", "none", "host")
ANNOTATION = "podlite.local/network"
# selection.NETWORKS, without importing what only a pod that has it needs.
_ADDITIONAL = "k8s.v1.cni.cncf.io/networks"


class NetworkOptions:
    """What a user can say about networks. `cni_conf_dir` and `cni_bin_dirs` are empty for the usual places;
    `integrate` is whether other people's firewalls may be changed to let pods of the built-in network through."""

    __slots__ = ("cni_bin_dirs", "cni_conf_dir", "integrate", "pod_cidrs")

    def __init__(
        self,
        pod_cidrs: Sequence[str],
        cni_conf_dir: str = "",
        cni_bin_dirs: Sequence[str] = (),
        *,
        integrate: bool = False,
    ) -> None:
        self.integrate = integrate
        self.pod_cidrs = tuple(pod_cidrs)
        self.cni_conf_dir = cni_conf_dir
        self.cni_bin_dirs = tuple(cni_bin_dirs)


class Networks:
    """The networks of one process, each made when it is first needed. Safe between threads."""

    def __init__(self, default: PodNetwork | str, layout: Layout, options: NetworkOptions) -> None:
        """`default` is a network or its name. Raises InvalidArgumentError for a name that is none, and as the
        network's constructor does."""
        self._layout = layout
        self._options = options
        # What CNI plugins with the capability ipRanges are told: what somebody has said, not podlite's own default.
        self._ip_ranges = () if options.pod_cidrs == POD_CIDRS else options.pod_cidrs
        self._lock = threading.RLock()
        self._made: dict[str, PodNetwork] = {}
        if isinstance(default, str):
            self.default = self.named(default)
        else:
            self.default = default
            self._made[default.name] = default

    def named(self, name: str) -> PodNetwork:
        """Raises InvalidArgumentError for a name that is none."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def for_pod(self, annotations: Mapping[str, str]) -> PodNetwork:
        """The network of a new pod. Raises InvalidArgumentError for an annotation that names none."""
        wanted = annotations.get(ANNOTATION, "")
        if wanted and wanted not in NAMES and wanted != self.default.name:
            raise InvalidArgumentError(
                f"The annotation {ANNOTATION} names {wanted!r}, which is no network.", hint=f"one of {', '.join(NAMES)}"
            )
        own = self.named(wanted) if wanted else self.default
        if annotations.get(_ADDITIONAL) and own.name not in ("cni", "host"):
            return MultiNetwork(own, self)
        return own

    def of_record(self, record: NetworkRecord) -> PodNetwork:
        """The network that made a record. Raises InvalidArgumentError if this podlite has none of that name."""
        return self.named(str(record.get("network", "")))

    def use_ip_ranges(self, ranges: Sequence[str]) -> None:
        """The ranges of pods' addresses that CNI plugins are told from now on."""
        with self._lock:
            self._ip_ranges = tuple(ranges)
            if "cni" in self._made:
                self.cni().ip_ranges = self._ip_ranges

    def release_unused(self) -> None:
        """See PodNetwork.release_unused, for all that have been used. Raises OSError, CRIError."""
        for network in list(self._made.values()):
            network.release_unused()

    def close(self) -> None:
        """Idempotent."""
        for network in list(self._made.values()):
            network.close()

    def cni(self) -> CNINetwork:
        """The CNI network."""
        from podlite.runtime.network.cni.network import CNINetwork

        found = self.named("cni")
        assert isinstance(found, CNINetwork)
        return found

    def _make(self, name: str) -> PodNetwork:
        if name == "builtin":
            from podlite.runtime.network.builtin import BuiltinNetwork

            return BuiltinNetwork(self._layout.run_dir, self._options.pod_cidrs, integrate=self._options.integrate)
        if name == "cni":
            from podlite.runtime.network.cni.network import BIN_DIRS, CONF_DIR, CNINetwork

            return CNINetwork(
                self._layout.run_dir,
                self._layout.state_dir,
                conf_dir=self._options.cni_conf_dir or CONF_DIR,
                bin_dirs=self._options.cni_bin_dirs or BIN_DIRS,
                ip_ranges=self._ip_ranges,
            )
        from podlite.runtime.network.none import HostNetwork, NoneNetwork, host_ips

        if name == "none":
            return NoneNetwork()
        if name == "host":
            return HostNetwork(host_ips)
        if name == MultiNetwork.name:
            return MultiNetwork(self.default, self)
        raise InvalidArgumentError(f"there is no network {name!r}: it is one of {', '.join(NAMES)}")


class MultiNetwork:
    """A pod's own network, and CNI networks beside it. Implements PodNetwork."""

    name = "multi"

    def __init__(self, own: PodNetwork, networks: Networks) -> None:
        """`own` makes the pod's own network; a record says which one that was."""
        self._own = own
        self._networks = networks

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        """See PodNetwork.plan."""
        additional = self._networks.cni().plan_additional(request)
        return {"network": self.name, "version": 1, "own": self._own.plan(request), "additional": additional}

    def setup_pod_network(
        self, request: PodNetworkRequest, record: NetworkRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        """See PodNetwork.setup_pod_network."""
        own = self._networks.of_record(record["own"])
        status = own.setup_pod_network(request, record["own"], inside)
        try:
            added = self._networks.cni().setup_pod_network(request, record["additional"], inside)
        except CRIError as error:
            try:
                own.teardown_pod_network(record["own"])
            except CRIError as failure:
                raise NetworkSetupError(f"{error.message} {failure.message}", hint=error.hint) from error
            raise
        return PodNetworkStatus(ips=status.ips, interfaces=[*status.interfaces, *added.interfaces])

    def interrupt(self, sandbox_id: str) -> None:
        """See PodNetwork."""
        self._networks.cni().interrupt(sandbox_id)

    def teardown_pod_network(self, record: NetworkRecord) -> None:
        """See PodNetwork.teardown_pod_network."""
        failures: list[CRIError] = []
        for network, part in (
            (self._networks.cni(), record["additional"]),
            (self._networks.of_record(record["own"]), record["own"]),
        ):
            try:
                network.teardown_pod_network(part)
            except CRIError as error:
                failures.append(error)
        if failures:
            raise NetworkTeardownError(" ".join(error.message for error in failures), hint=failures[0].hint)

    def release_unused(self) -> bool:
        """See PodNetwork.release_unused."""
        return self._own.release_unused()

    def check(self) -> list[str]:
        """See PodNetwork.check."""
        return self._own.check()

    def close(self) -> None:
        """See PodNetwork.close; the parts belong to others."""
