"""podlite's own CRI runtime, in process: `podlite.cri.services.RuntimeService` on the kernel.

This object holds what the calls share; each call is a module of its own below `sandbox/` and `container/`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import anyio
from anyio import create_task_group, to_thread
from anyio.abc import ByteStream, TaskGroup

from podlite import log
from podlite.cri.errors import CRIError, UnimplementedError
from podlite.cri.services import ExecStream
from podlite.cri.types import (
    CgroupDriver,
    Container,
    ContainerConfig,
    ContainerEvent,
    ContainerFilter,
    ContainerStatus,
    ExecSyncResult,
    LinuxContainerResources,
    LinuxRuntimeConfiguration,
    NamespaceMode,
    PodSandbox,
    PodSandboxConfig,
    PodSandboxFilter,
    PodSandboxStatus,
    RuntimeConfig,
    RuntimeConfiguration,
    RuntimeStatus,
    VersionResponse,
)
from podlite.errors import PrivilegeError, explain, only_error
from podlite.linux import affinity, capabilities, netns
from podlite.linux.cgroups import CgroupError, Cgroups
from podlite.linux.trash import Trash
from podlite.runtime import run_directory
from podlite.runtime import status as statuses
from podlite.runtime.container import create, remove, start, stop
from podlite.runtime.events import Events
from podlite.runtime.gathering import Gathering
from podlite.runtime.image.service import StoreImageService
from podlite.runtime.image.store import ImageStore
from podlite.runtime.journal import Journal
from podlite.runtime.layout import POD_CIDRS, Layout
from podlite.runtime.namespace_threads import NamespaceThreads
from podlite.runtime.network.interface import PodNetwork
from podlite.runtime.network.networks import NetworkOptions, Networks
from podlite.runtime.network.none import HostNetwork
from podlite.runtime.sandbox import files, run
from podlite.runtime.sandbox import remove as sandbox_remove
from podlite.runtime.sandbox import stop as sandbox_stop
from podlite.runtime.shim.launch import launch
from podlite.runtime.shim.names import SCRATCH, SHM_DIRECTORY
from podlite.runtime.spawner import Launched, Spawner
from podlite.runtime.store import Container as StoredContainer
from podlite.runtime.store import Sandbox, Store
from podlite.steps import step
from podlite.version import __version__

if TYPE_CHECKING:
    from podlite.cri.stats import (
        ContainerStats,
        ContainerStatsFilter,
        MetricDescriptor,
        PodSandboxMetrics,
        PodSandboxStats,
        PodSandboxStatsFilter,
    )
    from podlite.runtime.adopt import Adoption
    from podlite.runtime.container.create import Prepared
    from podlite.runtime.sandbox.pool import WarmPool
    from podlite.runtime.stats import CpuRates

NAME = "podlite"


class Runtime:
    """The runtime, as an async context manager: inside it there is a spawner, outside of it nothing of ours runs.

    `network` is setupPodNetwork's implementation, podlite's built-in one by default, or `Networks`, of which a pod can
    choose another than the default by its annotation. `many` says that a great many
    containers are to be expected (a server, a benchmark), for which other mechanisms are cheaper. `launched` is a
    spawner that the program has started already. With `pods_survive` closing the runtime leaves its pods alone.
    With `adoptable` they run on whatever ends this process, and another runtime can `adopt` them; without, they
    end with it. A runtime adopts what one with the same `keeper` left, for an agent's pods are not a CRI server's.
    `warm_pool` is how many ready sandboxes are kept for the pods to come; they end with this process.
    With `foreign_cgroups` pods are put wherever their configuration says; without, below the layout's
    cgroup root only.
    """

    def __init__(
        self,
        layout: Layout | None = None,
        *,
        network: PodNetwork | Networks | None = None,
        pod_cidrs: tuple[str, ...] = POD_CIDRS,
        namespace_threads: int = 1,
        many: bool = False,
        launched: Launched | None = None,
        pods_survive: bool = False,
        adoptable: bool = False,
        keeper: str = "",
        foreign_cgroups: bool = False,
        warm_pool: int = 0,
    ) -> None:
        self.layout = layout or Layout()
        self.store = Store()
        self.events = Events()
        self.image_store = ImageStore(self.layout.images_dir)
        self.images = StoreImageService(self.image_store)
        self.threads = NamespaceThreads(namespace_threads)
        self.trash = Trash(self.layout.trash_dir, _stays)
        self.adoptable = adoptable
        # Set before the end by who leaves pods to a successor: what is cancelled then is not unwanted.
        self.leaving = False
        self.keeper = keeper
        # Directory → why the sandbox in it could not be adopted when that was last tried.
        self.not_adopted: dict[str, str] = {}
        self.pods_survive = pods_survive or adoptable
        if not isinstance(network, Networks):
            network = Networks(network or "builtin", self.layout, NetworkOptions(pod_cidrs))
        self.networks = network
        self.cgroups: Cgroups | None = None
        self.on_deletion_requested: Callable[[Sandbox, int], None] = lambda sandbox, grace: None
        self.on_debug_requested: Callable[[Sandbox, dict[str, Any]], None] = lambda sandbox, container: None
        self.pool: WarmPool | None = None
        self._warm_pool = warm_pool
        self._foreign_cgroups = foreign_cgroups
        self._host_network = HostNetwork()
        self._many = many
        # Only in a program that does much of it: a library's threads are its user's affair.
        self._gathering = Gathering(wanted=many)
        self._launched = launched
        self._warned: set[str] = set()
        self._cpu_rates: CpuRates | None = None
        self._tasks: TaskGroup | None = None
        self._exit: Callable[..., Any] | None = None

    # --- life -------------------------------------------------------------------------------

    @property
    def tasks(self) -> TaskGroup:
        """The task group that receives from spawner and shims. Raises RuntimeError outside the context."""
        if self._tasks is None:
            raise RuntimeError("the runtime is not open: use it as an async context manager")
        return self._tasks

    @property
    def scratch_path(self) -> str:
        """The spawner's private tmpfs, by its path in the shims' mount namespaces."""
        return f"{self.layout.run_dir}/{SCRATCH}"

    @property
    def shm_path(self) -> str:
        """The pod's /dev/shm, by its path in its shim's mount namespace."""
        return f"{self.scratch_path}/{SHM_DIRECTORY}"

    async def __aenter__(self) -> Runtime:
        _require_privileges()
        group = create_task_group()
        self._tasks = await group.__aenter__()
        self._exit = group.__aexit__
        self.spawner = Spawner(self._tasks, self._launch)
        try:
            with step("runtime.open"):
                async with create_task_group() as opening:
                    opening.start_soon(to_thread.run_sync, self._prepare)
                    await self.spawner.open(self._launched)
        except BaseException as error:
            # Its channel is served until it is closed, whatever is cancelled.
            with anyio.CancelScope(shield=True):
                await self.spawner.close()
            self._tasks.cancel_scope.cancel()
            await group.__aexit__(type(error), error, error.__traceback__)
            if isinstance(error, BaseExceptionGroup):
                raise only_error(error) from None
            raise
        if self._warm_pool:
            self.warm_pool(self._warm_pool)
        return self

    def warm_pool(self, size: int) -> WarmPool:
        """The pool of ready sandboxes, made now if there is none, and filled in the background to `size`.

        See podlite.runtime.sandbox.pool.
        """
        if self.pool is None:
            from podlite.runtime.sandbox.pool import WarmPool

            self.pool = WarmPool(self, size)
            self.pool.start()
        return self.pool

    async def adopt(self, seconds: float = 5.0) -> Adoption:
        """Takes over the sandboxes that an adoptable runtime of this run directory left behind.

        What cannot be taken over is logged, and left for the reaper; shims that do not answer within `seconds` are
        left for another attempt. See `podlite.runtime.adopt`.
        """
        from podlite.runtime.adopt import adopt_sandboxes

        return await adopt_sandboxes(self, seconds)

    def _launch(self) -> Launched:
        with affinity.elsewhere():
            return launch(self.layout.run_dir, shim_directories(self.layout))

    def _prepare(self) -> None:
        """The directories, the netns mount point and a look at the cgroups. Blocking."""
        run_directory.prepare(self.layout.run_dir)
        for directory in (self.layout.pods_dir, self.layout.locks_dir, self.layout.containers_dir):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        os.makedirs(self.layout.log_dir, mode=0o755, exist_ok=True)
        netns.prepare_directory(self.layout.netns_dir)
        root = "/" if self._foreign_cgroups else self.layout.cgroup_root
        self.cgroups = Cgroups.detect(root, devices_by_bpf=self._many)

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True), step("runtime.close"):
            if self.pool is not None:
                await self.pool.close()
            # Nothing is forked any more: it ends beside the rest.
            self.spawner.end()
            if not self.pods_survive:
                await self._remove_all()
            self.leaving = True
            for sandbox in self.store.sandboxes.values():
                if sandbox.shim is not None:
                    sandbox.shim.close()
                if sandbox.lock is not None:
                    sandbox.lock.release()
                sandbox.close_userns()
            self._gathering.end()
            try:
                await to_thread.run_sync(self._close)
            finally:
                await self.spawner.close()
            self.tasks.cancel_scope.cancel()
        assert self._exit is not None
        await self._exit(None, None, None)
        self._tasks = None

    async def _remove_all(self) -> None:
        """Every sandbox that its user left behind. What fails is logged: its record is there for the reaper."""
        for id in list(self.store.sandboxes):
            try:
                await self.remove_pod_sandbox(id)
            except CRIError as error:
                log.error("a sandbox is left behind", sandbox_id=id, why=str(error))

    def _close(self) -> None:
        self.threads.close()
        self.trash.close()
        try:
            self.networks.release_unused()
        except (OSError, CRIError) as error:
            log.error("what pods share on the host is left behind", why=explain(error))
        self.networks.close()
        if self.cgroups is not None:
            for level in ("kubepods/burstable", "kubepods/besteffort", "kubepods"):
                self.cgroups.remove_empty_parents(f"{self.layout.cgroup_root}/{level}/pod")
            self.cgroups.close()

    # --- what the calls share ---------------------------------------------------------------

    @property
    def cpu_rates(self) -> CpuRates:
        """From one look at the CPU usage to the next."""
        if self._cpu_rates is None:
            from podlite.runtime.stats import CpuRates

            self._cpu_rates = CpuRates()
        return self._cpu_rates

    def journal(self, sandbox: Sandbox) -> Journal:
        """The sandbox's record, open for appending; the caller closes it. Blocking."""
        fd = os.open(sandbox.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return Journal.reopen(fd)
        finally:
            os.close(fd)

    def is_last(self, sandbox: Sandbox) -> bool:
        """Whether there is no other sandbox with a network, in a process of which not many are to be expected."""
        return not self._many and all(each.stopped or each is sandbox for each in self.store.sandboxes.values())

    def network_for(self, sandbox: Sandbox) -> PodNetwork:
        """What sets up this sandbox's network, or did. Raises InvalidArgumentError if its annotation names none."""
        if sandbox.namespaces.network == NamespaceMode.NODE:
            return self._host_network
        if sandbox.network is not None:
            return self.networks.of_record(sandbox.network)
        return self.networks.for_pod(sandbox.config.annotations)

    def sandbox_files(self, sandbox: Sandbox) -> dict[str, str]:
        """The pod's files, path in the container → path on the host."""
        return files.sandbox_files(sandbox)

    def pause_cgroups(self, sandbox: Sandbox) -> list[str]:
        """The cgroup.procs files for the pod's pid 1, where it has one: those of the pod's own cgroup."""
        return []

    def cgroup_view(self, container: StoredContainer, prepared: Prepared) -> list[tuple[str, str]]:
        """What the container sees of its cgroup; see podlite.runtime.container.mounts.View."""
        if self.cgroups is None or not (prepared.cgroup or prepared.cgroups):
            return []
        return self.cgroups.view(container.cgroup)

    def kill_file(self, container: StoredContainer) -> str:
        return self.cgroups.kill_file(container.cgroup) if self.cgroups is not None else ""

    def freezer(self, container: StoredContainer) -> str:
        return self.cgroups.freezer(container.cgroup) if self.cgroups is not None else ""

    def oom_file(self, container: StoredContainer) -> str:
        return self.cgroups.oom_file(container.cgroup) if self.cgroups is not None else ""

    def cgroups_missing(self, error: CgroupError) -> None:
        """Cgroups cannot be used here: said once, and from then on containers run without limits."""
        self.cgroups = None
        self.warn_once("cgroups", "containers run without limits: " + str(error))

    def warn_once(self, key: str, text: str) -> None:
        """A warning about this machine, for the first pod that it concerns only."""
        if key not in self._warned:
            self._warned.add(key)
            log.warning(text)

    # --- RuntimeService -----------------------------------------------------------------------

    async def version(self) -> VersionResponse:
        return VersionResponse(
            version="0.1.0", runtime_name=NAME, runtime_version=__version__, runtime_api_version="v1"
        )

    async def status(self, *, verbose: bool = False) -> RuntimeStatus:
        problems = await to_thread.run_sync(self.networks.default.check)
        status = statuses.runtime_status(problems, run.HANDLERS)
        if verbose:
            from podlite.runtime.info import runtime_info

            status.info = runtime_info(self)
        return status

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        with self._gathering:
            return await run.run_pod_sandbox(self, config, runtime_handler)

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        with self._gathering:
            await sandbox_stop.stop_pod_sandbox(self, pod_sandbox_id)

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        with self._gathering:
            await sandbox_remove.remove_pod_sandbox(self, pod_sandbox_id)

    async def pod_sandbox_status(self, pod_sandbox_id: str, *, verbose: bool = False) -> PodSandboxStatus:
        sandbox = self.store.sandbox(pod_sandbox_id)
        status = statuses.pod_sandbox_status(sandbox)
        if verbose:
            from podlite.runtime.info import sandbox_info

            status.info = sandbox_info(sandbox)
        return status

    async def list_pod_sandbox(self, filter: PodSandboxFilter | None = None) -> list[PodSandbox]:
        return statuses.list_pod_sandbox(self.store.sandboxes, filter)

    async def create_container(
        self, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str:
        with self._gathering:
            return await create.create_container(self, pod_sandbox_id, config, sandbox_config)

    async def start_container(self, container_id: str) -> None:
        with self._gathering:
            await start.start_container(self, container_id)

    async def stop_container(self, container_id: str, timeout: int) -> None:
        await stop.stop_container(self, container_id, timeout)

    async def remove_container(self, container_id: str) -> None:
        with self._gathering:
            await remove.remove_container(self, container_id)

    async def list_containers(self, filter: ContainerFilter | None = None) -> list[Container]:
        return statuses.list_containers(self.store.containers, filter)

    async def container_status(self, container_id: str, *, verbose: bool = False) -> ContainerStatus:
        container = self.store.container(container_id)
        status = statuses.container_status(container)
        if verbose:
            from podlite.runtime.info import container_info

            status.info = container_info(container)
        return status

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None:
        from podlite.runtime.container.update import update_container_resources

        await update_container_resources(self, container_id, linux)

    async def reopen_container_log(self, container_id: str) -> None:
        from podlite.runtime.container.reopen_log import reopen_container_log

        await reopen_container_log(self, container_id)

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResult:
        from podlite.runtime.container.exec import exec_sync

        return await exec_sync(self, container_id, cmd, timeout)

    async def exec(
        self, container_id: str, cmd: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ExecStream:
        from podlite.runtime.container.exec import exec_container

        return await exec_container(self, container_id, cmd, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)

    async def attach(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> ExecStream:
        from podlite.runtime.container.attach import attach_container

        return await attach_container(self, container_id, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)

    async def port_forward(self, pod_sandbox_id: str, port: int) -> ByteStream:
        from podlite.runtime.sandbox.port_forward import port_forward

        return await port_forward(self, pod_sandbox_id, port)

    async def container_stats(self, container_id: str) -> ContainerStats:
        from podlite.runtime.stats import container_stats

        return await container_stats(self, container_id)

    async def list_container_stats(self, filter: ContainerStatsFilter | None = None) -> list[ContainerStats]:
        from podlite.runtime.stats import list_container_stats

        return await list_container_stats(self, filter)

    async def pod_sandbox_stats(self, pod_sandbox_id: str) -> PodSandboxStats:
        from podlite.runtime.stats import pod_sandbox_stats

        return await pod_sandbox_stats(self, pod_sandbox_id)

    async def list_pod_sandbox_stats(self, filter: PodSandboxStatsFilter | None = None) -> list[PodSandboxStats]:
        from podlite.runtime.stats import list_pod_sandbox_stats

        return await list_pod_sandbox_stats(self, filter)

    async def list_metric_descriptors(self) -> list[MetricDescriptor]:
        from podlite.runtime.metrics import list_metric_descriptors

        return list_metric_descriptors()

    async def list_pod_sandbox_metrics(self) -> list[PodSandboxMetrics]:
        from podlite.runtime.metrics import list_pod_sandbox_metrics

        return await list_pod_sandbox_metrics(self)

    async def update_pod_sandbox_resources(
        self, pod_sandbox_id: str, overhead: LinuxContainerResources | None, resources: LinuxContainerResources | None
    ) -> None:
        """The pod's cgroup is its owner's, who has limited it already: this only has to be known."""
        linux = self.store.sandbox(pod_sandbox_id).config.linux
        if linux is not None:
            linux.overhead = overhead or linux.overhead
            linux.resources = resources or linux.resources

    async def update_runtime_config(self, config: RuntimeConfig) -> None:
        """The range of pods' addresses goes to the CNI plugins that declare the capability ipRanges; the built-in
        network keeps its own (`--pod-cidr`)."""
        from podlite.runtime.network.ranges import parse_ranges

        ranges = parse_ranges(config.network_config.pod_cidr if config.network_config is not None else "")
        if ranges:
            self.networks.use_ip_ranges(ranges)
            log.info("the kubelet names ranges for pods' addresses", pod_cidr=",".join(ranges))

    async def runtime_config(self) -> RuntimeConfiguration:
        return RuntimeConfiguration(linux=LinuxRuntimeConfiguration(cgroup_driver=CgroupDriver.CGROUPFS))

    async def checkpoint_container(self, container_id: str, location: str, timeout: float = 0) -> None:
        self.store.running_container(container_id)
        raise UnimplementedError("this runtime does not write checkpoints")

    def get_container_events(self) -> AbstractAsyncContextManager[AsyncIterator[ContainerEvent]]:
        return self.events.subscribe()


def _require_privileges() -> None:
    """Raises PrivilegeError where no pod could be made: before anything is begun, and so before anything is left."""
    missing = capabilities.missing()
    if missing:
        raise PrivilegeError(
            f"{capabilities.ESSENTIAL[missing[0]]}: CAP_{' and CAP_'.join(missing)} not held",
            hint="run podlite as root; in a container, one that is privileged. `podlite check` says what is missing",
        )


def _stays(path: str, error: OSError) -> None:
    """On the trash's thread."""
    log.error("a container's files cannot be removed", path=path, why=explain(error))


def shim_directories(layout: Layout) -> list[str]:
    """The directories that shims must be able to reach beside the run directory."""
    return [layout.log_dir, layout.state_dir]
