"""ContainerStats, PodSandboxStats and their lists: what cgroups, network interfaces and writable layers say."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from anyio import to_thread

from podlite.cri.stats import (
    ContainerAttributes,
    ContainerStats,
    ContainerStatsFilter,
    CpuUsage,
    IoUsage,
    LinuxPodSandboxStats,
    MemoryUsage,
    NetworkInterfaceUsage,
    NetworkUsage,
    PodSandboxAttributes,
    PodSandboxStats,
    PodSandboxStatsFilter,
    ProcessUsage,
    PsiData,
    PsiStats,
    SwapUsage,
)
from podlite.cri.types import FilesystemUsage, NamespaceMode
from podlite.linux import net_dev, netns
from podlite.linux.cgroup_stats import Pressure, Stall, Stats
from podlite.runtime.status import has_labels
from podlite.runtime.store import RUNNING, Container, Sandbox

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime

# A rate over less than this is noise: the one before is given again.
_RATE_NS = 100_000_000


class CpuRates:
    """Nanocores from one look at a cgroup to the next, by its path. Worker threads share it: each look is one store."""

    def __init__(self) -> None:
        self._looks: dict[str, tuple[int, int, int | None]] = {}

    def rate(self, path: str, now: int, used: int) -> int | None:
        """The rate since the last look; None at the first."""
        then, before, rate = self._looks.get(path, (0, 0, None))
        if then and now - then < _RATE_NS:
            return rate
        if then:
            rate = max(0, used - before) * 1_000_000_000 // (now - then)
        self._looks[path] = (now, used, rate)
        return rate

    def forget(self, path: str) -> None:
        self._looks.pop(path, None)


async def container_stats(runtime: Runtime, container_id: str) -> ContainerStats:
    """See RuntimeService.container_stats."""
    container = runtime.store.container(container_id)
    return await to_thread.run_sync(_container, runtime, container)


async def list_container_stats(runtime: Runtime, filter: ContainerStatsFilter | None) -> list[ContainerStats]:
    """See RuntimeService.list_container_stats."""
    wanted = filter or ContainerStatsFilter()
    chosen = [
        each
        for each in runtime.store.containers.values()
        if each.state == RUNNING
        and each.id.startswith(wanted.id)
        and each.sandbox.id.startswith(wanted.pod_sandbox_id)
        and has_labels(each.config.labels, wanted.label_selector)
    ]
    return await to_thread.run_sync(lambda: [_container(runtime, each) for each in chosen])


async def pod_sandbox_stats(runtime: Runtime, pod_sandbox_id: str) -> PodSandboxStats:
    """See RuntimeService.pod_sandbox_stats."""
    (stats,) = await _sandboxes(runtime, [runtime.store.sandbox(pod_sandbox_id)])
    return stats


async def list_pod_sandbox_stats(runtime: Runtime, filter: PodSandboxStatsFilter | None) -> list[PodSandboxStats]:
    """See RuntimeService.list_pod_sandbox_stats."""
    wanted = filter or PodSandboxStatsFilter()
    chosen = [
        each
        for each in runtime.store.sandboxes.values()
        if each.ready and each.id.startswith(wanted.id) and has_labels(each.config.labels, wanted.label_selector)
    ]
    return await _sandboxes(runtime, chosen)


async def _sandboxes(runtime: Runtime, chosen: list[Sandbox]) -> list[PodSandboxStats]:
    networks = await network_counters(runtime, chosen)
    containers = {each.id: [c for c in each.containers.values() if c.state == RUNNING] for each in chosen}
    return await to_thread.run_sync(
        lambda: [_sandbox(runtime, each, containers[each.id], networks.get(each.id)) for each in chosen]
    )


async def network_counters(runtime: Runtime, sandboxes: Iterable[Sandbox]) -> dict[str, list[net_dev.Interface]]:
    """The interfaces of each sandbox that has a network of its own, by sandbox id; all in one go on a namespace
    thread. A sandbox that is stopped meanwhile is left out."""
    paths = {
        each.id: each.netns_path for each in sandboxes if each.ready and each.namespaces.network != NamespaceMode.NODE
    }
    if not paths:
        return {}

    def look(own_netns: int) -> dict[str, list[net_dev.Interface]]:
        found = {}
        for id, path in paths.items():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    found[id] = netns.run_inside(fd, own_netns, net_dev.interfaces)
                finally:
                    os.close(fd)
            except OSError:
                continue
        return found

    return await runtime.threads.run(look)


def _container(runtime: Runtime, container: Container) -> ContainerStats:
    config = container.config
    now = time.time_ns()
    result = ContainerStats(
        attributes=ContainerAttributes(
            id=container.id, metadata=config.metadata, labels=config.labels, annotations=config.annotations
        ),
        writable_layer=writable_layer(runtime, container),
    )
    if container.state == RUNNING and runtime.cgroups is not None:
        used = runtime.cgroups.stats(container.cgroup)
        result.cpu = _cpu(runtime, container.cgroup, now, used)
        result.memory = _memory(now, used)
        result.io = IoUsage(timestamp=now, psi=_psi(used.io_pressure)) if used.io_pressure else None
        if used.memory_swap is not None:
            limit = container.resources.memory_swap_limit_in_bytes if container.resources is not None else 0
            result.swap = SwapUsage(
                timestamp=now,
                swap_usage_bytes=used.memory_swap,
                swap_available_bytes=max(0, limit - (used.memory_usage or 0) - used.memory_swap) if limit > 0 else None,
            )
    return result


def writable_layer(runtime: Runtime, container: Container) -> FilesystemUsage:
    """What the container has written. Blocking: looks at every file of it."""
    used, inodes = tree_usage(f"{runtime.layout.containers_dir}/{container.id}/upper")
    return FilesystemUsage(
        timestamp=time.time_ns(),
        mountpoint=runtime.layout.containers_dir,
        used_bytes=used,
        inodes_used=inodes,
    )


def tree_usage(path: str) -> tuple[int, int]:
    """(bytes of disk, inodes) of a tree; what vanishes meanwhile, or cannot be read, counts for nothing. Blocking."""
    used = inodes = 0
    stack = [path]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    inodes += 1
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:
            continue
    return used, inodes


def _sandbox(
    runtime: Runtime, sandbox: Sandbox, containers: list[Container], interfaces: list[net_dev.Interface] | None
) -> PodSandboxStats:
    config = sandbox.config
    now = time.time_ns()
    linux = LinuxPodSandboxStats(containers=[_container(runtime, each) for each in containers])
    if interfaces is not None:
        usages = [
            NetworkInterfaceUsage(
                name=each.name,
                rx_bytes=each.rx_bytes,
                rx_errors=each.rx_errors,
                tx_bytes=each.tx_bytes,
                tx_errors=each.tx_errors,
            )
            for each in interfaces
        ]
        linux.network = NetworkUsage(timestamp=now, interfaces=usages[1:])
        if usages:
            linux.network.default_interface = usages[0]
    parent = config.linux.cgroup_parent if config.linux is not None else ""
    if parent and runtime.cgroups is not None and runtime.cgroups.exists(parent):
        # The pod's own cgroup: with what is in no container, and was in containers that are gone.
        used = runtime.cgroups.stats(parent)
        linux.cpu = _cpu(runtime, parent, now, used)
        linux.memory = _memory(now, used)
        linux.io = IoUsage(timestamp=now, psi=_psi(used.io_pressure)) if used.io_pressure else None
        linux.process = ProcessUsage(timestamp=now, process_count=used.pids)
    else:
        _sum(linux, now)
    return PodSandboxStats(
        attributes=PodSandboxAttributes(
            id=sandbox.id, metadata=config.metadata, labels=config.labels, annotations=config.annotations
        ),
        linux=linux,
    )


def _sum(linux: LinuxPodSandboxStats, now: int) -> None:
    """A pod without a cgroup of its own uses what its containers use."""
    cpus = [each.cpu for each in linux.containers if each.cpu is not None]
    memories = [each.memory for each in linux.containers if each.memory is not None]
    linux.cpu = CpuUsage(timestamp=now, usage_core_nano_seconds=sum(each.usage_core_nano_seconds or 0 for each in cpus))
    linux.memory = MemoryUsage(
        timestamp=now,
        working_set_bytes=sum(each.working_set_bytes or 0 for each in memories),
        usage_bytes=sum(each.usage_bytes or 0 for each in memories),
        rss_bytes=sum(each.rss_bytes or 0 for each in memories),
        page_faults=sum(each.page_faults or 0 for each in memories),
        major_page_faults=sum(each.major_page_faults or 0 for each in memories),
    )


def _cpu(runtime: Runtime, path: str, now: int, used: Stats) -> CpuUsage:
    rate = None if used.cpu_usage_ns is None else runtime.cpu_rates.rate(path, now, used.cpu_usage_ns)
    return CpuUsage(
        timestamp=now,
        usage_core_nano_seconds=used.cpu_usage_ns,
        usage_nano_cores=rate,
        psi=_psi(used.cpu_pressure),
    )


def _memory(now: int, used: Stats) -> MemoryUsage:
    available = None
    if used.memory_limit is not None and used.memory_working_set is not None:
        available = max(0, used.memory_limit - used.memory_working_set)
    return MemoryUsage(
        timestamp=now,
        working_set_bytes=used.memory_working_set,
        available_bytes=available,
        usage_bytes=used.memory_usage,
        rss_bytes=used.memory_rss,
        page_faults=used.page_faults,
        major_page_faults=used.major_page_faults,
        psi=_psi(used.memory_pressure),
    )


def _psi(pressure: Pressure | None) -> PsiStats | None:
    return None if pressure is None else PsiStats(Full=_stall(pressure.full), Some=_stall(pressure.some))


def _stall(stall: Stall) -> PsiData:
    return PsiData(Total=stall.total_us * 1000, Avg10=stall.avg10, Avg60=stall.avg60, Avg300=stall.avg300)
