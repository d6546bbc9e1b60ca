"""ListMetricDescriptors and ListPodSandboxMetrics: cAdvisor's metrics, from the runtime itself (KEP-2371).

Names and kinds are those of cAdvisor's Prometheus metrics, labels those that a kubelet adds to them. CRI carries
whole numbers only, so seconds are whole seconds here, as CRI-O has them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from anyio import to_thread

from podlite.cri.stats import ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics
from podlite.linux import net_dev
from podlite.linux.cgroup_details import Details, Processes, count_processes
from podlite.linux.cgroup_stats import Pressure, Stats
from podlite.runtime.stats import network_counters, writable_layer
from podlite.runtime.store import RUNNING, Container, Sandbox

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime

LABELS = ["container", "id", "image", "name", "namespace", "pod"]
_COUNTER, _GAUGE = MetricType.COUNTER, MetricType.GAUGE
_SECOND = 1_000_000_000

# name → (kind, further labels, help)
_METRICS: dict[str, tuple[MetricType, list[str], str]] = {
    "container_blkio_device_usage_total": (
        _COUNTER,
        ["device", "major", "minor", "operation"],
        "Bytes read from and written to a device",
    ),
    "container_fs_reads_bytes_total": (_COUNTER, ["device"], "Bytes read from a device"),
    "container_fs_reads_total": (_COUNTER, ["device"], "Reads from a device"),
    "container_fs_writes_bytes_total": (_COUNTER, ["device"], "Bytes written to a device"),
    "container_fs_writes_total": (_COUNTER, ["device"], "Writes to a device"),
    "container_cpu_user_seconds_total": (_COUNTER, [], "CPU time in user mode, in seconds"),
    "container_cpu_system_seconds_total": (_COUNTER, [], "CPU time in the kernel, in seconds"),
    "container_cpu_usage_seconds_total": (_COUNTER, ["cpu"], "CPU time, in seconds"),
    "container_cpu_cfs_periods_total": (_COUNTER, [], "Periods in which a CPU limit was enforced"),
    "container_cpu_cfs_throttled_periods_total": (_COUNTER, [], "Periods in which the CPU limit was reached"),
    "container_cpu_cfs_throttled_seconds_total": (_COUNTER, [], "Time spent waiting because of the CPU limit"),
    "container_file_descriptors": (_GAUGE, [], "Open file descriptors"),
    "container_fs_inodes_free": (_GAUGE, ["device"], "Free inodes of the writable layer's file system"),
    "container_fs_inodes_total": (_GAUGE, ["device"], "Inodes of the writable layer's file system"),
    "container_fs_limit_bytes": (_GAUGE, ["device"], "Size of the writable layer's file system"),
    "container_fs_usage_bytes": (_GAUGE, ["device"], "Bytes that the container has written"),
    "container_last_seen": (_GAUGE, [], "When the container was looked at last, in seconds since the epoch"),
    "container_memory_cache": (_GAUGE, [], "Page cache, in bytes"),
    "container_memory_failcnt": (_COUNTER, [], "How often the memory limit was reached"),
    "container_memory_failures_total": (_COUNTER, ["failure_type", "scope"], "Page faults"),
    "container_memory_kernel_usage": (_GAUGE, [], "Kernel memory, in bytes"),
    "container_memory_mapped_file": (_GAUGE, [], "Memory-mapped files, in bytes"),
    "container_memory_max_usage_bytes": (_GAUGE, [], "The most memory that was used at a time"),
    "container_memory_rss": (_GAUGE, [], "Anonymous memory, in bytes"),
    "container_memory_swap": (_GAUGE, [], "Swap, in bytes"),
    "container_memory_usage_bytes": (_GAUGE, [], "Memory with all caches, in bytes"),
    "container_memory_working_set_bytes": (_GAUGE, [], "Memory without the page cache that is not in use"),
    "container_oom_events_total": (_COUNTER, [], "Processes that were killed for lack of memory"),
    "container_pressure_cpu_stalled_seconds_total": (_COUNTER, [], "Time in which all tasks waited for a CPU"),
    "container_pressure_cpu_waiting_seconds_total": (_COUNTER, [], "Time in which some task waited for a CPU"),
    "container_pressure_io_stalled_seconds_total": (_COUNTER, [], "Time in which all tasks waited for I/O"),
    "container_pressure_io_waiting_seconds_total": (_COUNTER, [], "Time in which some task waited for I/O"),
    "container_pressure_memory_stalled_seconds_total": (_COUNTER, [], "Time in which all tasks waited for memory"),
    "container_pressure_memory_waiting_seconds_total": (_COUNTER, [], "Time in which some task waited for memory"),
    "container_processes": (_GAUGE, [], "Processes"),
    "container_sockets": (_GAUGE, [], "Open sockets"),
    "container_spec_cpu_period": (_GAUGE, [], "The period of the CPU limit, in microseconds"),
    "container_spec_cpu_quota": (_GAUGE, [], "The quota of the CPU limit, in microseconds per period"),
    "container_spec_cpu_shares": (_GAUGE, [], "The weight in the distribution of CPU time"),
    "container_spec_memory_limit_bytes": (_GAUGE, [], "The memory limit, 0 for none"),
    "container_spec_memory_swap_limit_bytes": (_GAUGE, [], "The limit of memory and swap, 0 for none"),
    "container_start_time_seconds": (_GAUGE, [], "When the container was started, in seconds since the epoch"),
    "container_threads": (_GAUGE, [], "Threads"),
    "container_threads_max": (_GAUGE, [], "The most threads that are allowed"),
    "container_ulimits_soft": (_GAUGE, ["ulimit"], "The soft limits of the first process"),
    "container_network_receive_bytes_total": (_COUNTER, ["interface"], "Bytes received"),
    "container_network_receive_errors_total": (_COUNTER, ["interface"], "Errors while receiving"),
    "container_network_receive_packets_dropped_total": (_COUNTER, ["interface"], "Packets dropped while receiving"),
    "container_network_receive_packets_total": (_COUNTER, ["interface"], "Packets received"),
    "container_network_transmit_bytes_total": (_COUNTER, ["interface"], "Bytes sent"),
    "container_network_transmit_errors_total": (_COUNTER, ["interface"], "Errors while sending"),
    "container_network_transmit_packets_dropped_total": (_COUNTER, ["interface"], "Packets dropped while sending"),
    "container_network_transmit_packets_total": (_COUNTER, ["interface"], "Packets sent"),
}


def list_metric_descriptors() -> list[MetricDescriptor]:
    """Every metric that `list_pod_sandbox_metrics` may give. Pure."""
    return [
        MetricDescriptor(name=name, help=help, label_keys=[*LABELS, *labels])
        for name, (_, labels, help) in _METRICS.items()
    ]


async def list_pod_sandbox_metrics(runtime: Runtime) -> list[PodSandboxMetrics]:
    """See RuntimeService.list_pod_sandbox_metrics: ready sandboxes, and their running containers."""
    chosen = [each for each in runtime.store.sandboxes.values() if each.ready]
    networks = await network_counters(runtime, chosen)
    containers = {each.id: [c for c in each.containers.values() if c.state == RUNNING] for each in chosen}
    return await to_thread.run_sync(
        lambda: [_sandbox(runtime, each, containers[each.id], networks.get(each.id, [])) for each in chosen]
    )


class _Samples:
    """Collects the samples of one object, whose labels are always the same."""

    def __init__(self, labels: list[str]) -> None:
        self.metrics: list[Metric] = []
        self._labels = labels
        self._now = time.time_ns()

    def add(self, name: str, value: int | None, *further: str) -> None:
        """What the machine does not say is left out."""
        kind, labels, _ = _METRICS[name]
        assert len(further) == len(labels), name
        if value is not None:
            self.metrics.append(
                Metric(
                    name=name,
                    timestamp=self._now,
                    metric_type=kind,
                    label_values=[*self._labels, *further],
                    value=max(0, value),
                )
            )


def _sandbox(
    runtime: Runtime, sandbox: Sandbox, containers: list[Container], interfaces: list[net_dev.Interface]
) -> PodSandboxMetrics:
    metadata = sandbox.config.metadata
    samples = _Samples(["", sandbox.id, "", metadata.name, metadata.namespace, metadata.name])
    for each in interfaces:
        for direction, prefix in (("receive", "rx"), ("transmit", "tx")):
            name = f"container_network_{direction}"
            samples.add(f"{name}_bytes_total", getattr(each, f"{prefix}_bytes"), each.name)
            samples.add(f"{name}_packets_total", getattr(each, f"{prefix}_packets"), each.name)
            samples.add(f"{name}_errors_total", getattr(each, f"{prefix}_errors"), each.name)
            samples.add(f"{name}_packets_dropped_total", getattr(each, f"{prefix}_dropped"), each.name)
    return PodSandboxMetrics(
        pod_sandbox_id=sandbox.id,
        metrics=samples.metrics,
        container_metrics=[
            ContainerMetrics(container_id=each.id, metrics=_container(runtime, each)) for each in containers
        ],
    )


def _container(runtime: Runtime, container: Container) -> list[Metric]:
    metadata = container.sandbox.config.metadata
    name = container.config.metadata.name
    image = container.config.image.user_specified_image or container.config.image.image
    samples = _Samples([name, container.id, image, name, metadata.namespace, metadata.name])
    samples.add("container_last_seen", time.time_ns() // _SECOND)
    samples.add("container_start_time_seconds", container.started_at // _SECOND)
    _add_specification(samples, container)
    _add_filesystem(samples, runtime, container)
    if runtime.cgroups is not None:
        details = runtime.cgroups.details(container.cgroup)
        _add_usage(samples, runtime.cgroups.stats(container.cgroup), details)
        _add_processes(samples, count_processes(runtime.cgroups.processes(container.cgroup)), details)
    return samples.metrics


def _add_specification(samples: _Samples, container: Container) -> None:
    limits = container.resources
    if limits is None:
        return
    samples.add("container_spec_cpu_period", limits.cpu_period or 100_000)  # the kernel's default
    if limits.cpu_quota > 0:
        samples.add("container_spec_cpu_quota", limits.cpu_quota)
    samples.add("container_spec_cpu_shares", limits.cpu_shares or 1024)
    samples.add("container_spec_memory_limit_bytes", limits.memory_limit_in_bytes)
    samples.add("container_spec_memory_swap_limit_bytes", limits.memory_swap_limit_in_bytes)


def _add_filesystem(samples: _Samples, runtime: Runtime, container: Container) -> None:
    usage = writable_layer(runtime, container)
    samples.add("container_fs_usage_bytes", usage.used_bytes, usage.mountpoint)
    try:
        system = os.statvfs(usage.mountpoint)
    except OSError:
        return
    samples.add("container_fs_inodes_free", system.f_favail, usage.mountpoint)
    samples.add("container_fs_inodes_total", system.f_files, usage.mountpoint)
    samples.add("container_fs_limit_bytes", system.f_blocks * system.f_frsize, usage.mountpoint)


def _add_usage(samples: _Samples, used: Stats, details: Details) -> None:
    samples.add("container_cpu_user_seconds_total", _seconds(details.cpu_user))
    samples.add("container_cpu_system_seconds_total", _seconds(details.cpu_system))
    samples.add("container_cpu_usage_seconds_total", _seconds(used.cpu_usage_ns), "total")
    samples.add("container_cpu_cfs_periods_total", details.cpu_periods)
    samples.add("container_cpu_cfs_throttled_periods_total", used.cpu_throttled_periods)
    samples.add("container_cpu_cfs_throttled_seconds_total", _seconds(used.cpu_throttled_ns))
    samples.add("container_memory_cache", details.memory_cache)
    samples.add("container_memory_failcnt", details.memory_failures)
    samples.add("container_memory_failures_total", used.page_faults, "pgfault", "container")
    samples.add("container_memory_failures_total", used.major_page_faults, "pgmajfault", "container")
    samples.add("container_memory_kernel_usage", details.memory_kernel)
    samples.add("container_memory_mapped_file", details.memory_mapped_file)
    samples.add("container_memory_max_usage_bytes", details.memory_peak)
    samples.add("container_memory_rss", used.memory_rss)
    samples.add("container_memory_swap", used.memory_swap)
    samples.add("container_memory_usage_bytes", used.memory_usage)
    samples.add("container_memory_working_set_bytes", used.memory_working_set)
    samples.add("container_oom_events_total", details.oom_kills)
    for device in details.devices:
        number = [str(device.major), str(device.minor)]
        name = _device_name(*number)
        samples.add("container_blkio_device_usage_total", device.read_bytes, name, *number, "Read")
        samples.add("container_blkio_device_usage_total", device.written_bytes, name, *number, "Write")
        samples.add("container_fs_reads_bytes_total", device.read_bytes, name)
        samples.add("container_fs_reads_total", device.reads, name)
        samples.add("container_fs_writes_bytes_total", device.written_bytes, name)
        samples.add("container_fs_writes_total", device.writes, name)
    for resource in ("cpu", "io", "memory"):
        pressure: Pressure | None = getattr(used, f"{resource}_pressure")
        if pressure is not None:
            name = f"container_pressure_{resource}"
            samples.add(f"{name}_stalled_seconds_total", pressure.full.total_us // 1_000_000)
            samples.add(f"{name}_waiting_seconds_total", pressure.some.total_us // 1_000_000)


def _device_name(major: str, minor: str) -> str:
    """/dev/vda, or the number where the machine has no name for it."""
    try:
        return "/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{major}:{minor}"))
    except OSError:
        return f"{major}:{minor}"


def _add_processes(samples: _Samples, counted: Processes, details: Details) -> None:
    samples.add("container_file_descriptors", counted.descriptors)
    samples.add("container_processes", counted.processes)
    samples.add("container_sockets", counted.sockets)
    samples.add("container_threads", counted.threads)
    samples.add("container_threads_max", details.pids_max if details.pids_max is not None else _threads_max())
    samples.add("container_ulimits_soft", counted.open_files_soft, "max_open_files")


def _threads_max() -> int | None:
    """What the machine allows, where the cgroup has no limit of its own."""
    try:
        with open("/proc/sys/kernel/threads-max", encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _seconds(nanoseconds: int | None) -> int | None:
    return None if nanoseconds is None else nanoseconds // _SECOND
