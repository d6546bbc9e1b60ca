"""What must hold of every pod, whatever it is and whatever happens to it.

Phases: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase (a pod that has Succeeded or
Failed never does anything else); init containers: "each init container must complete successfully before the next
one starts".
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from podlite.api.pod import Pod
from podlite.kubelet.status_manager import PodChange

PHASES = {
    "": {"Pending", "Running", "Succeeded", "Failed"},
    "Pending": {"Pending", "Running", "Succeeded", "Failed"},
    "Running": {"Running", "Pending", "Succeeded", "Failed"},
    "Succeeded": {"Succeeded"},
    "Failed": {"Failed"},
}


class Invariants:
    """Checks everything that is told of a pod."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.phase = ""
        self.version = 0
        self.restarts: Counter[str] = Counter()

    async def watch(self, changes: Any) -> None:
        async for change in changes:
            self.check(change)

    def check(self, change: PodChange) -> None:
        status = change.pod.status
        assert status.phase in PHASES[self.phase], f"{self.phase} -> {status.phase}"
        self.phase = status.phase
        version = int(change.pod.metadata.resource_version)
        assert version > self.version
        self.version = version
        conditions = {each.type: each.status for each in status.conditions}
        assert len(conditions) == len(status.conditions)
        if conditions.get("Ready") == "True":
            assert conditions["ContainersReady"] == "True"
            assert status.phase == "Running"
        every = (*status.init_container_statuses, *status.container_statuses)
        for each in every:
            assert each.restart_count >= self.restarts[each.name]
            self.restarts[each.name] = each.restart_count
            states = (each.state.waiting, each.state.running, each.state.terminated)
            assert sum(state is not None for state in states) == 1
            assert not each.ready or each.state.running is not None or each in status.init_container_statuses
        if status.phase in ("Succeeded", "Failed") and status.reason == "":
            assert all(each.state.running is None for each in every)
