"""/stats/summary: what the machine and each pod use, from the cgroups.

Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go, Kubernetes 1.36. What is not measured is left out, as there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from podlite.kubelet.gotime import rfc3339

if TYPE_CHECKING:
    from podlite.agent.node import Node
    from podlite.api.pod import Pod
    from podlite.linux.cgroup_stats import Stats
    from podlite.linux.cgroups import Cgroups

_QOS = {"Guaranteed": "guaranteed", "Burstable": "burstable", "BestEffort": "besteffort"}


async def summary(node: Node) -> dict[str, Any]:
    """The answer, as plain dicts."""
    running = {
        pod.metadata.uid: [
            (each.name, each.id, each.started_at)
            for each in node.kubelet.runtime_status(pod.metadata.uid).running_containers()
        ]
        for pod in node.kubelet.pods()
    }
    pods = [pod for pod in node.kubelet.pods() if running[pod.metadata.uid]]
    cgroup_of = node.container_cgroups()
    found = await to_thread.run_sync(_pods, node.cgroups, pods, running, cgroup_of)
    return {"node": _node(node.kubelet.config.node_name), "pods": found}


def _pods(
    cgroups: Cgroups | None, pods: list[Pod], running: dict[str, list[tuple[str, str, int]]], cgroup_of: dict[str, str]
) -> list[dict[str, Any]]:
    """Blocking."""
    result = []
    for pod in pods:
        meta = pod.metadata
        containers = []
        for name, id, started_at in running[meta.uid]:
            stats = _stats(cgroups, cgroup_of.get(id, ""))
            containers.append({"name": name, "startTime": rfc3339(started_at), **_usage(stats)})
        whole: dict[str, Any] = {
            "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "startTime": pod.status.start_time,
            "containers": containers,
        }
        if cgroups is not None:
            stats = _stats(cgroups, cgroups.pod_path(_QOS.get(pod.status.qos_class, "besteffort"), meta.uid))
            whole.update(_usage(stats))
            if stats is not None and stats.pids is not None:
                whole["process_stats"] = {"process_count": stats.pids}
        result.append(whole)
    return result


def _stats(cgroups: Cgroups | None, path: str) -> Stats | None:
    if cgroups is None or not path:
        return None
    try:
        return cgroups.stats(path)
    except OSError:
        return None  # it has ended this moment


def _usage(stats: Stats | None) -> dict[str, Any]:
    if stats is None:
        return {}
    now = rfc3339(time.time_ns())
    found: dict[str, Any] = {}
    if stats.cpu_usage_ns is not None:
        found["cpu"] = {"time": now, "usageCoreNanoSeconds": stats.cpu_usage_ns}
    memory = {
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.page_faults,
        "majorPageFaults": stats.major_page_faults,
    }
    if stats.memory_limit is not None and stats.memory_working_set is not None:
        memory["availableBytes"] = max(stats.memory_limit - stats.memory_working_set, 0)
    known = {key: value for key, value in memory.items() if value is not None}
    if known:
        found["memory"] = {"time": now, **known}
    return found


def _node(name: str) -> dict[str, Any]:
    now_ns = time.time_ns()
    booted = now_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found: dict[str, Any] = {"nodeName": name, "startTime": rfc3339(booted)}
    memory = _meminfo()
    if "MemTotal" in memory and "MemAvailable" in memory:
        used = memory["MemTotal"] - memory.get("MemFree", 0)
        found["memory"] = {
            "time": rfc3339(now_ns),
            "availableBytes": memory["MemAvailable"],
            "usageBytes": used,
            "workingSetBytes": memory["MemTotal"] - memory["MemAvailable"],
        }
    busy = _busy_ns()
    if busy is not None:
        found["cpu"] = {"time": rfc3339(now_ns), "usageCoreNanoSeconds": busy}
    return found


def _meminfo() -> dict[str, int]:
    """Bytes, from proc_meminfo(5)."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        pairs = [line.split(":") for line in file]
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.split()[-1] == "kB"}


def _busy_ns() -> int | None:
    """The time that all CPUs have worked, from proc_stat(5): everything but idle and iowait; guests count once."""
    import os

    with open("/proc/stat", encoding="utf-8") as file:
        words = file.readline().split()
    if words[:1] != ["cpu"] or len(words) < 9:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
