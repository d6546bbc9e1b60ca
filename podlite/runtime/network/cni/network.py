"""PodNetwork by CNI plugins: a pod's own network, and those that its annotations ask for beside it.

plan       reads the configurations, negotiates the versions, finds conflicts over host ports; runs no plugin for
           the pod. The plan has the attachments, with their plugins' configurations in them.
set-up     `lo`, by podlite; then ADD for each attachment
teardown   DEL for each attachment, the last one first, from the plan and what is written down of the results
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.cri.errors import CRIError, InvalidArgumentError, NetworkSetupError
from podlite.errors import explain
from podlite.linux.netlink import NETLINK_NETFILTER, SocketPool, open_inside, set_link_up
from podlite.runtime.journal import boot_id
from podlite.runtime.network.cni import config
from podlite.runtime.network.cni.attachment import Plugins
from podlite.runtime.network.cni.cache import Attachment, Cache
from podlite.runtime.network.cni.errors import ConfigError
from podlite.runtime.network.cni.invoke import SECONDS
from podlite.runtime.network.cni.negotiate import Versions
from podlite.runtime.network.cni.request import pod_args, pod_capabilities
from podlite.runtime.network.cni.selection import additional_networks, default_network
from podlite.runtime.network.constants import POD_INTERFACE
from podlite.runtime.network.errors import NetworkTeardownError
from podlite.runtime.network.hostports import HostPort, HostPorts, read_mappings
from podlite.runtime.network.interface import NetworkRecord, PodInterface, PodNetworkRequest, PodNetworkStatus
from podlite.runtime.network.shared import TimedLock
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from podlite.linux.netlink import NetlinkSocket
    from podlite.runtime.network.cni.request import Result
    from podlite.runtime.network.cni.selection import Selection

CONF_DIR = "/etc/cni/net.d"
# The ecosystem's place, Debian's and Fedora's.
BIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")

_LOOPBACK_INDEX = 1


class CNIRecord(msgspec.Struct, kw_only=True):
    """The plan of one pod's networks: the attachments in the order of ADD, and the host ports that it
    reserves. `cache` is where their results are written down."""

    network: str = "cni"
    version: int = 1
    sandbox_id: str
    attachments: list[Attachment]
    cache: str
    host_ports: list[HostPort] = []


class CNINetwork:
    """Implements PodNetwork. Safe between threads, of which each pod's set-up keeps one busy for as long as the
    plugins take."""

    name = "cni"

    def __init__(
        self,
        run_dir: str,
        state_dir: str,
        *,
        conf_dir: str = CONF_DIR,
        bin_dirs: Sequence[str] = BIN_DIRS,
        seconds: float = SECONDS,
        ip_ranges: Sequence[str] = (),
    ) -> None:
        """`seconds` is the time limit of each operation of each plugin. `ip_ranges` are for the plugins that declare
        the capability, and can be changed at any time. Touches nothing."""
        self.conf_dir = conf_dir
        self.ip_ranges = tuple(ip_ranges)
        directory = f"{run_dir}/network"
        self._cache = Cache(f"{state_dir}/cni")
        self._seconds = seconds
        self._plugins = Plugins(list(bin_dirs), self._cache, seconds)
        self._versions = Versions(run_dir, seconds)
        self._netfilter = SocketPool(NETLINK_NETFILTER)
        self._host_ports = HostPorts(directory, self._netfilter)
        self._lock_path = f"{run_dir}/locks/network"
        self._looked_back = False
        # Set-ups that run, by sandbox: an eventfd that ends them. -1: interrupted before it began.
        self._running: dict[str, int] = {}
        self._running_lock = threading.Lock()

    # --- before -----------------------------------------------------------------------------

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        """See PodNetwork.plan. Raises ConfigError and PluginError, both NetworkSetupErrors, too."""
        self._delete_other_boots()
        selection = default_network(request.annotations)
        chosen = self._named(selection.name) if selection is not None else config.default_network(self.conf_dir)
        ports = read_mappings(request.port_mappings, (4, 6))
        if ports and not chosen.has_capability("portMappings"):
            raise InvalidArgumentError(
                f"The host port {ports[0]} cannot be published: no plugin of the CNI network {chosen.name} declares the"
                " capability portMappings.",
                hint=f'add {{"type": "portmap", "capabilities": {{"portMappings": true}}}} to {chosen.path}',
            )
        self._host_ports.check_free(ports, request.sandbox_id)
        capabilities = pod_capabilities(request, ports, self.ip_ranges) | (
            selection.capabilities() if selection is not None else {}
        )
        own = self._attachment(request, chosen, POD_INTERFACE, capabilities, selection)
        own.default = True
        record = CNIRecord(
            sandbox_id=request.sandbox_id,
            attachments=[own, *self._additional(request)],
            cache=self._cache.directory,
            host_ports=ports,
        )
        return _plain(record)

    def plan_additional(self, request: PodNetworkRequest) -> NetworkRecord:
        """The plan of the networks beside a pod's own, which somebody else makes. Raises as `plan` does."""
        self._delete_other_boots()
        attachments = self._additional(request)
        return _plain(CNIRecord(sandbox_id=request.sandbox_id, attachments=attachments, cache=self._cache.directory))

    def _additional(self, request: PodNetworkRequest) -> list[Attachment]:
        return [
            self._attachment(
                request, self._named(selection.name), selection.interface, selection.capabilities(), selection
            )
            for selection in additional_networks(request.annotations)
        ]

    def _named(self, name: str) -> config.NetworkConfig:
        return config.named_network(self.conf_dir, name)

    def _attachment(
        self,
        request: PodNetworkRequest,
        network: config.NetworkConfig,
        interface: str,
        capabilities: dict[str, Any],
        selection: Selection | None,
    ) -> Attachment:
        plugins = network.plugins
        if selection is not None and selection.cni_args:
            # CONVENTIONS.md: what a person says to the plugins of one attachment goes into args.cni.
            plugins = [{**plugin, "args": {**plugin.get("args", {}), "cni": selection.cni_args}} for plugin in plugins]
        return Attachment(
            network=network.name,
            version=self._versions.negotiate(network, self._plugins.directories),
            plugins=plugins,
            directories=list(self._plugins.directories),
            container_id=request.sandbox_id,
            interface=interface,
            netns=request.netns_path,
            args=pod_args(request),
            capabilities=capabilities,
            disable_check=network.disable_check,
        )

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
            pod = f"{request.pod_namespace}/{request.pod_name}" if request.pod_name else request.sandbox_id[:13]
            message = f"The network of pod {pod} could not be set up: {said.rstrip('.')}."
            failures = self._tear_down(plan)
            if failures:
                message += f" Taking it back failed too: {'; '.join(failures)}"
            raise NetworkSetupError(message, hint=hint) from error

    def _set_up(self, request: PodNetworkRequest, plan: CNIRecord, inside: NetlinkSocket | None) -> PodNetworkStatus:
        if plan.host_ports:
            with self._lock():
                self._host_ports.reserve(
                    plan.host_ports, plan.sandbox_id, [], f"{request.pod_namespace}/{request.pod_name}"
                )
        with step("network.setup", sandbox_id=plan.sandbox_id):
            opened = None
            if inside is None:
                inside = opened = open_inside(request.netns_fd)
            try:
                set_link_up(inside, _LOOPBACK_INDEX)
            finally:
                if opened is not None:
                    opened.close()
            interfaces: list[PodInterface] = []
            with self._interruptible(plan.sandbox_id) as stop, self._cache.lock():
                for attachment in plan.attachments:
                    interfaces += pod_interfaces(self._plugins.add(attachment, stop), attachment)
        return PodNetworkStatus(ips=_primary_ips(interfaces), interfaces=interfaces)

    def interrupt(self, sandbox_id: str) -> None:
        """See PodNetwork: the plugin that runs for the sandbox's set-up is killed."""
        with self._running_lock:
            fd = self._running.setdefault(sandbox_id, -1)
            if fd >= 0:
                os.eventfd_write(fd, 1)

    @contextmanager
    def _interruptible(self, sandbox_id: str) -> Iterator[int]:
        """A descriptor that becomes readable when the sandbox is not wanted any more."""
        fd = os.eventfd(0, os.EFD_CLOEXEC)
        with self._running_lock:
            if sandbox_id in self._running:
                os.eventfd_write(fd, 1)
            self._running[sandbox_id] = fd
        try:
            yield fd
        finally:
            with self._running_lock:
                del self._running[sandbox_id]
                os.close(fd)

    # --- teardown ---------------------------------------------------------------------------

    def teardown_pod_network(self, record: NetworkRecord) -> None:
        """See PodNetwork.teardown_pod_network."""
        plan = _read_record(record)
        with step("network.teardown", sandbox_id=plan.sandbox_id):
            failures = self._tear_down(plan)
        if failures:
            raise NetworkTeardownError(
                f"The network of sandbox {plan.sandbox_id[:13]} could not be taken back: {'; '.join(failures)}",
                hint="its record stays; `podlite prune` tries again",
            )

    def _tear_down(self, plan: CNIRecord) -> list[str]:
        """Each attachment is tried, whatever becomes of the others. The host ports go last: plugins publish them."""
        failures = []
        with self._running_lock:
            self._running.pop(plan.sandbox_id, None)  # interrupted, and never begun
        cache = Cache(plan.cache)
        plugins = Plugins([], cache, self._seconds)
        with cache.lock():
            for attachment in reversed(plan.attachments):
                try:
                    plugins.delete(attachment)
                except (OSError, CRIError) as error:
                    failures.append(str(error) if isinstance(error, CRIError) else f"{explain(error)}.")
        if plan.host_ports and not failures:
            with self._lock():
                self._host_ports.withdraw(plan.host_ports, plan.sandbox_id, [])
        return failures

    def release_unused(self) -> bool:
        """See PodNetwork.release_unused. What a network's pods share (a bridge, chains) is the plugins' own, and stays
        as they leave it."""
        return not any(True for _ in self._cache.every())

    # --- the rest ---------------------------------------------------------------------------

    def check(self) -> list[str]:
        """See PodNetwork.check: the configuration as it is now, its programs, their versions, and their STATUS."""
        try:
            chosen = config.default_network(self.conf_dir)
            if missing := self._plugins.missing(chosen):
                return missing
            version = self._versions.negotiate(chosen, self._plugins.directories)
            return self._plugins.status(chosen, version)
        except CRIError as error:
            return [str(error)]
        except OSError as error:
            return [f"The CNI network cannot be looked at: {explain(error)}."]

    def check_pod_network(self, record: NetworkRecord) -> list[str]:
        """CHECK: what the plugins find changed about a pod's networks, as sentences."""
        problems = []
        for attachment in _read_record(record).attachments:
            try:
                self._plugins.check(attachment)
            except CRIError as error:
                problems.append(str(error))
        return problems

    def collect_garbage(self) -> list[str]:
        """GC: has the plugins of every network free what belongs to no pod; what failed, as sentences.

        Only for a machine on which nobody but podlite uses these networks: others' attachments are not in the list
        of those that are valid, which is what the specification's `disableGC` is about.
        """
        problems = []
        self._delete_other_boots(again=True)
        with self._cache.lock(exclusive=True):
            valid = [each.podlite.attachment for each in self._cache.every() if each.podlite.attachment is not None]
            for network in config.every_network(self.conf_dir):
                if isinstance(network, ConfigError):
                    problems.append(str(network))
                    continue
                try:
                    version = self._versions.negotiate(network, self._plugins.directories)
                    own = [each for each in valid if each.network == network.name]
                    problems += self._plugins.collect(network, version, own)
                except CRIError as error:
                    problems.append(str(error))
        return problems

    def close(self) -> None:
        """See PodNetwork.close."""
        self._netfilter.close()

    def _lock(self) -> TimedLock:
        os.makedirs(os.path.dirname(self._lock_path), mode=0o700, exist_ok=True)
        return TimedLock(self._lock_path)

    def _delete_other_boots(self, *, again: bool = False) -> None:
        """DEL for what pods of earlier boots have left with the plugins, once in a process. Their records went with
        the boot; a plugin that fails is asked again by the next process."""
        if self._looked_back and not again:
            return
        self._looked_back = True
        for cached in list(self._cache.every()):
            attachment = cached.podlite.attachment
            if attachment is None or cached.podlite.boot == boot_id():
                continue
            try:
                with self._cache.lock():
                    self._plugins.delete(attachment)
            except (OSError, CRIError) as error:
                from podlite import log

                log.warning(
                    "a CNI network of an earlier boot's pod cannot be taken back",
                    network=attachment.network,
                    sandbox_id=attachment.container_id,
                    why=explain(error),
                )


def pod_interfaces(result: Result, attachment: Attachment) -> list[PodInterface]:
    """The pod's devices in a result, that of the attachment first; pure.

    An address that belongs to no interface of the result is the attachment's own (an IPAM plugin's short form).
    """
    listed = result.get("interfaces") or []
    own = PodInterface(
        name=attachment.interface,
        network=attachment.network,
        default=attachment.default,
        dns={key: value for key, value in (result.get("dns") or {}).items() if value},
    )
    found = [own]
    by_index: dict[int, PodInterface] = {}
    for index, interface in enumerate(listed):
        if not interface.get("sandbox"):
            # The host's end of a veth pair comes before the pod's; a bridge has a name of its own.
            own.host_interface = str(interface.get("name", ""))
            continue
        name = str(interface.get("name", ""))
        made = own
        if name != attachment.interface:
            made = PodInterface(name=name, network=attachment.network)
            found.append(made)
        made.mac = str(interface.get("mac", ""))
        mtu = interface.get("mtu", 0)
        made.mtu = mtu if isinstance(mtu, int) else 0
        by_index[index] = made
    for ip in result.get("ips") or []:
        index = ip.get("interface")
        target = by_index.get(index) if isinstance(index, int) and index >= 0 else own
        if target is None:
            continue  # the host's: a bridge's own address
        target.ips.append(ip["address"].partition("/")[0])
        if isinstance(ip.get("gateway"), str):
            target.gateway.append(ip["gateway"])
    return found


def _primary_ips(interfaces: Iterable[PodInterface]) -> list[str]:
    """Those of the pod's own network; of several the first of IPv4 is the primary one, as containerd has it."""
    ips = [ip for each in interfaces if each.default for ip in each.ips]
    return sorted(ips, key=lambda ip: ":" in ip)


def _plain(record: CNIRecord) -> NetworkRecord:
    plain: NetworkRecord = msgspec.to_builtins(record)
    return plain


def _read_record(record: NetworkRecord) -> CNIRecord:
    return msgspec.convert(record, CNIRecord)
