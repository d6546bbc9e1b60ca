"""A machine's podlite, put together: runtime, images, network and kubelet, as the commands and the agent use them."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import to_thread

from podlite import log
from podlite.errors import PodliteError, UsageError
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.paths import default_config_paths
from podlite.kubelet.types import KubeletConfig
from podlite.runtime.layout import POD_CIDRS, Layout
from podlite.runtime.network.networks import NAMES, NetworkOptions, Networks
from podlite.runtime.network.none import host_ips
from podlite.runtime.service import Runtime

if TYPE_CHECKING:
    from podlite.cri.services import RuntimeService
    from podlite.linux.cgroups import Cgroups
    from podlite.runtime.spawner import Launched
    from podlite.runtime.store import Sandbox

# A plugin of CNI's takes tens of milliseconds, in which its thread does nothing else.
CNI_THREADS = 4
# What was told but not written down before a kill is a matter of milliseconds, and so of few changes.
_UNWRITTEN = 10_000
# A shim answers at once; one that does not is tried again later, and does not keep the others waiting.
_ANSWER_SECONDS = 1.0


class NodeOptions(msgspec.Struct, kw_only=True):
    """What a user can say about the machine's podlite.

    `network` is the network of pods that ask for none by annotation; `firewall` is `leave` or `integrate`. `many`
    is for programs that run a great many pods. With `pods_survive` leaving does not end the pods; with `adoptable`
    they run on whatever becomes of the program, and the next one with the same directories adopts them. `kubelet` are
    settings of KubeletConfig that do not follow from the rest. `warm_pool` is how many ready sandboxes are kept.
    """

    layout: Layout = Layout()
    network: str = "builtin"
    pod_cidrs: tuple[str, ...] = POD_CIDRS
    cni_conf_dir: str = ""
    cni_bin_dirs: tuple[str, ...] = ()
    firewall: str = "leave"
    namespace_threads: int = 1
    warm_pool: int = 0
    many: bool = False
    pods_survive: bool = False
    adoptable: bool = False
    keep_logs: bool = False
    runtime_endpoint: str = ""
    kubelet: dict[str, Any] = {}


class Node:
    """A kubelet and the runtime that it drives, whoever's that is.

    `waiting` are the UIDs of pods that cannot be adopted yet, for their shims live but do not answer.
    """

    def __init__(self, options: NodeOptions, runtime: RuntimeService, kubelet: Kubelet) -> None:
        self.options = options
        self.runtime = runtime
        self.kubelet = kubelet
        self.waiting: set[str] = set()

    def when_deletion_requested(self, act: Callable[[str, int], None]) -> None:
        """What `podlite rm` from another terminal does: it asks a pod's shim, if it has one of ours."""

    async def adopt_waiting(self) -> set[str]:
        """Tries again; the UIDs of the pods that are not waited for any more. Raises CRIError."""
        return set()

    def leave(self) -> None:
        """The program ends, and its pods go on."""

    def remark(self) -> str:
        """What is worth saying of the runtime's health, or nothing."""
        return ""

    @property
    def cgroups(self) -> Cgroups | None:
        """Where the pods' cgroups are, None where there are none."""
        return None

    def container_cgroups(self) -> dict[str, str]:
        """The cgroup of each container, by its id."""
        return {}


class LocalNode(Node):
    """The parts of a podlite that runs pods itself."""

    runtime: Runtime

    def __init__(self, options: NodeOptions, runtime: Runtime, kubelet: Kubelet, waiting: set[str]) -> None:
        super().__init__(options, runtime, kubelet)
        self.waiting = waiting

    def leave(self) -> None:
        self.runtime.leaving = True

    def remark(self) -> str:
        # It is replaced with the next pod, so this is no failure.
        return "" if self.runtime.spawner.alive else "the spawner has ended and will be replaced"

    @property
    def cgroups(self) -> Cgroups | None:
        return self.runtime.cgroups

    def container_cgroups(self) -> dict[str, str]:
        return {each.id: each.cgroup for each in self.runtime.store.containers.values()}

    def when_deletion_requested(self, act: Callable[[str, int], None]) -> None:
        """`act` gets the pod's UID and the grace period, -1 for the pod's own."""
        self.runtime.on_deletion_requested = lambda sandbox, grace: act(sandbox.config.metadata.uid, grace)

    async def adopt_waiting(self) -> set[str]:
        from podlite.kubelet.adopt import adopt_all

        adoption = await self.runtime.adopt()
        done = self.waiting - adoption.waiting
        if done:
            await adopt_all(self.kubelet, leave=adoption.waiting)
        self.waiting -= done
        return done


def namespace_threads(options: NodeOptions) -> int:
    """How many namespace threads a runtime with these options gets: plugins keep theirs busy for long. Pure."""
    return max(options.namespace_threads, CNI_THREADS if options.network == "cni" else 1)


@asynccontextmanager
async def open_node(options: NodeOptions, launched: Launched | None = None) -> AsyncIterator[LocalNode]:
    """Opens runtime and kubelet; leaving ends them, and their pods unless `pods_survive`.

    What killed podlites left behind is torn down first. `launched` is a spawner that has been started already.
    Raises PodliteError.
    """
    networks = make_networks(options)
    runtime = Runtime(
        options.layout,
        network=networks,
        namespace_threads=namespace_threads(options),
        many=options.many,
        warm_pool=options.warm_pool,
        launched=launched,
        pods_survive=options.pods_survive,
        adoptable=options.adoptable,
    )
    async with runtime:
        first_version, waiting = 0, set[str]()
        if options.adoptable:
            waiting = (await runtime.adopt(_ANSWER_SECONDS)).waiting
            first_version = await to_thread.run_sync(_prepare_adoption, options, networks, runtime, waiting)
        if has_records(options.layout):
            from podlite.agent.orphans import reap_orphans

            await to_thread.run_sync(reap_orphans, options, networks, runtime.cgroups)
        kubelet = Kubelet(runtime, runtime.images, kubelet_config(options), first_version=first_version)
        async with kubelet:
            if options.adoptable:
                from podlite.kubelet.adopt import adopt_all

                await adopt_all(kubelet, leave=waiting)

            def debug_requested(sandbox: Sandbox, container: dict[str, Any]) -> None:
                runtime.tasks.start_soon(debug, kubelet, sandbox.config.metadata.uid, container)

            runtime.on_debug_requested = debug_requested
            yield LocalNode(options, runtime, kubelet, waiting)


def open_any_node(options: NodeOptions, launched: Launched | None = None) -> AbstractAsyncContextManager[Node]:
    """`open_node`, or a kubelet in front of the runtime at `runtime_endpoint` if that is given. Raises PodliteError."""
    if options.runtime_endpoint:
        from podlite.agent.remote_node import open_remote_node

        return open_remote_node(options)
    return open_node(options, launched)


def _prepare_adoption(options: NodeOptions, networks: Networks, runtime: Runtime, waiting: set[str]) -> int:
    """Clears away what cannot be adopted; returns what `next_version` does. Blocking."""
    from podlite.agent.orphans import reap_half_made

    reap_half_made(options, networks, runtime.cgroups, leave=waiting)
    return next_version(options)


def next_version(options: NodeOptions) -> int:
    """A resource version beyond all that the pods that are written down have had. Blocking."""
    from podlite.kubelet.written_pods import read_pods

    written = [int(pod.metadata.resource_version or 0) for pod in read_pods(options.layout.run_dir)]
    return max([int(time.time() * 1000), *(each + _UNWRITTEN for each in written)])


async def debug(kubelet: Kubelet, uid: str, plain: dict[str, Any]) -> None:
    """`podlite debug` from another terminal: starts the ephemeral container, given as it is written in JSON."""
    from podlite.api.container import EphemeralContainer
    from podlite.api.decode import from_builtins

    try:
        await kubelet.add_ephemeral_container(uid, from_builtins(plain, EphemeralContainer))
    except (PodliteError, ValueError) as error:
        log.warning("an ephemeral container that was asked for is not started", pod=uid, why=str(error))


def make_networks(options: NodeOptions) -> Networks:
    """The networks that pods can have. Raises UsageError, PodliteError."""
    if options.network not in NAMES:
        raise UsageError(f"there is no network {options.network!r}: it is one of {', '.join(NAMES)}")
    wishes = NetworkOptions(
        options.pod_cidrs, options.cni_conf_dir, options.cni_bin_dirs, integrate=options.firewall == "integrate"
    )
    return Networks(options.network, options.layout, wishes)


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
        seccomp_profile_root=f"{layout.state_dir}/seccomp",
        pods_stay=options.adoptable,
        runtime_endpoint=options.runtime_endpoint,
        cpu_count=os.cpu_count() or 0,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        docker_configs=default_config_paths(os.environ, os.geteuid()),
        **options.kubelet,
    )
