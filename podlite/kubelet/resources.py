"""From the requests and limits of containers to what cgroups are told. Pure, but for what the node has.

Sources: pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/kuberuntime/kuberuntime_container_linux.go and
component-helpers/resource/helpers.go, Kubernetes 1.36; KEP-753 for sidecars; Documentation/scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.qos import BEST_EFFORT, GUARANTEED
from podlite.cri.types import HugepageLimit, LinuxContainerResources
from podlite.kubelet import node
from podlite.kubelet.qos import oom_score_adj, pod_qos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.base import Quantity
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig

# Billionths of each resource, so that sums are exact.
Amounts = dict[str, int]

MIN_SHARES, MAX_SHARES = 2, 262144
SHARES_PER_CPU = 1024
# The kernel refuses a quota below a millisecond.
MIN_QUOTA_US = 1000


def cpu_shares(milli_cpu: int) -> int:
    """cpu.shares for thousandths of a CPU; the least there is for none. Pure."""
    return min(max(milli_cpu * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES)


def cpu_quota(milli_cpu: int, period_us: int) -> int:
    """Microseconds of CPU time in each period; 0, which stands for no limit, for none. Pure."""
    return max(milli_cpu * period_us // 1000, MIN_QUOTA_US) if milli_cpu else 0


# --- containers -------------------------------------------------------------------------------


def container_resources(pod: Pod, container: Container, config: KubeletConfig) -> LinuxContainerResources:
    """What CreateContainer is given for a container's cgroup. Swap is not for pods (the kubelet's NoSwap).

    Blocks, the first time only, for facts about the machine.
    """
    requests, limits = container.resources.requests, container.resources.limits
    if not requests and not limits:
        result = _linux_resources(None, 0, 0, config)
    else:
        requested = _milli(requests) if "cpu" in requests else None
        memory = quantity.parse(limits["memory"]).value() if "memory" in limits else 0
        result = _linux_resources(requested, _milli(limits), memory, config)
    result.oom_score_adj = oom_score_adj(pod, container, node.memory_capacity(config))
    result.hugepage_limits = _hugepage_limits(limits)
    if node.cgroup_v2():
        result.unified = {"memory.oom.group": "1", "memory.swap.max": "0"}
    else:
        # Memory and swap together: no swap beyond the memory limit.
        result.memory_swap_limit_in_bytes = result.memory_limit_in_bytes
    return result


def _linux_resources(requested: int | None, limit: int, memory: int, config: KubeletConfig) -> LinuxContainerResources:
    """Thousandths of CPUs and bytes; a request that is not stated is as high as the limit."""
    result = LinuxContainerResources(
        cpu_shares=cpu_shares(limit if requested is None else requested), memory_limit_in_bytes=memory
    )
    # The kubelet states the period without a quota too; it says nothing then, and would cost a write per container.
    if config.cpu_cfs_quota and limit:
        result.cpu_period = config.cpu_cfs_quota_period_us
        result.cpu_quota = cpu_quota(limit, config.cpu_cfs_quota_period_us)
    return result


def _milli(resources: Mapping[str, Quantity]) -> int:
    return quantity.parse(resources["cpu"]).milli_value() if "cpu" in resources else 0


def _hugepage_limits(limits: Mapping[str, Quantity]) -> list[HugepageLimit]:
    """Of each page size of which the machine has any: what the container may have, or nothing.

    The kubelet states the sizes without pages too; that would cost a cgroup hierarchy more per container.
    """
    result = []
    for size, pages in sorted(node.huge_pages().items()):
        if pages:
            limit = sum(quantity.parse(limits[name]).value() for name in limits if hugepage_size(name) == size)
            result.append(HugepageLimit(page_size=_unit_size(size), limit=limit))
    return result


def hugepage_size(resource: str) -> int:
    """The page size in `hugepages-2Mi`, in bytes; 0 for another resource. Pure."""
    return quantity.parse(resource[len("hugepages-") :]).value() if resource.startswith("hugepages-") else 0


def _unit_size(size: int) -> str:
    """2097152 → 2MB, as cgroup files spell page sizes."""
    for shift, suffix in ((30, "GB"), (20, "MB"), (10, "KB")):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{suffix}"
    return f"{size}B"


# --- pods -------------------------------------------------------------------------------------


def pod_requests(pod: Pod, *, overhead: bool = True) -> Amounts:
    """What the whole pod requests: the app containers and sidecars together, or the most before them. Pure."""
    total, _ = _aggregate(pod, "requests")
    if overhead:
        for name, amount in _amounts(pod.spec.overhead).items():
            total[name] = total.get(name, 0) + amount
    return total


def pod_limits(pod: Pod, *, overhead: bool = True) -> Amounts:
    """What the whole pod is limited to, of each resource that any container is limited in. Pure."""
    total, _ = _aggregate(pod, "limits")
    return _with_overhead(pod, total) if overhead else total


def _with_overhead(pod: Pod, limits: Amounts) -> Amounts:
    for name, amount in _amounts(pod.spec.overhead).items():
        if limits.get(name):
            limits[name] += amount
    return limits


def _aggregate(pod: Pod, kind: str) -> tuple[Amounts, list[Amounts]]:
    """The pod's sum, and what is needed at the time of each container, the init containers' with the sidecars before.

    Init containers run one after the other, so of them only the greediest counts; sidecars stay.
    """
    total: Amounts = {}
    stages: list[Amounts] = []
    for container in pod.spec.containers:
        own = _amounts(getattr(container.resources, kind))
        stages.append(own)
        _add(total, own)
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod.spec.init_containers:
        own = _amounts(getattr(container.resources, kind))
        if container.restart_policy == "Always":
            _add(total, own)
            _add(sidecars, own)
            stage = dict(sidecars)
        else:
            stage = dict(own)
            _add(stage, sidecars)
        stages.append(stage)
        _raise(peak, stage)
    _raise(total, peak)
    return total, stages


def _amounts(resources: Mapping[str, Quantity]) -> Amounts:
    return {name: quantity.parse(text).nanos for name, text in resources.items()}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Amounts, least: Amounts) -> None:
    for name, amount in least.items():
        total[name] = max(total.get(name, 0), amount)


def _milli_of(amounts: Amounts, name: str) -> int:
    return -(-amounts.get(name, 0) // 10**6)


def _value_of(amounts: Amounts, name: str) -> int:
    return -(-amounts.get(name, 0) // 10**9)


def has_resources(pod: Pod) -> bool:
    """Whether any container, or the pod's overhead, says anything of resources."""
    spec = pod.spec
    return bool(spec.overhead) or any(
        container.resources.requests or container.resources.limits
        for containers in (spec.containers, spec.init_containers)
        for container in containers
    )


def pod_resources(pod: Pod, config: KubeletConfig) -> LinuxContainerResources:
    """The limits of the pod's own cgroup. What any container may use without limit, a burstable pod may as well. Pure.

    A limit of 0 is none.
    """
    qos = pod_qos(pod)
    if qos == BEST_EFFORT:
        return LinuxContainerResources(cpu_shares=MIN_SHARES)
    requests = pod_requests(pod)
    limits, stages = _aggregate(pod, "limits")
    _with_overhead(pod, limits)
    result = LinuxContainerResources(cpu_shares=cpu_shares(_milli_of(requests, "cpu")))
    if qos == GUARANTEED or all(stage.get("cpu") for stage in stages):
        result.cpu_period = config.cpu_cfs_quota_period_us
        result.cpu_quota = -1
        if config.cpu_cfs_quota:
            result.cpu_quota = cpu_quota(_milli_of(limits, "cpu"), config.cpu_cfs_quota_period_us)
    if qos == GUARANTEED or all(stage.get("memory") for stage in stages):
        result.memory_limit_in_bytes = _value_of(limits, "memory")
    result.hugepage_limits = _pod_hugepages(requests)
    return result


def _pod_hugepages(requests: Amounts) -> list[HugepageLimit]:
    sizes = {name: hugepage_size(name) for name in requests if name.startswith("hugepages-")}
    return [
        HugepageLimit(page_size=_unit_size(size), limit=_value_of(requests, name))
        for name, size in sorted(sizes.items(), key=lambda each: each[1])
    ]


def sandbox_resources(pod: Pod, config: KubeletConfig) -> tuple[LinuxContainerResources, LinuxContainerResources]:
    """For RunPodSandbox: the sum over the containers, and the overhead. Pure."""
    if not has_resources(pod):
        return _linux_resources(None, 0, 0, config), LinuxContainerResources()
    requests, limits = pod_requests(pod, overhead=False), pod_limits(pod, overhead=False)
    requested = _milli_of(requests, "cpu") if "cpu" in requests else None
    resources = _linux_resources(requested, _milli_of(limits, "cpu"), _value_of(limits, "memory"), config)
    if not pod.spec.overhead:
        return resources, LinuxContainerResources()
    extra = _amounts(pod.spec.overhead)
    cpu = _milli_of(extra, "cpu")
    return resources, _linux_resources(cpu, cpu, _value_of(extra, "memory"), config)
