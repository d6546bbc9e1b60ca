"""What a table says of a pod: READY, STATUS, RESTARTS and the columns of -o wide. Pure.

Source: pkg/printers/internalversion/printers.go (printPod), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.agent.printers.duration import age

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStateTerminated, ContainerStatus

NONE = "<none>"


class Columns(NamedTuple):
    """READY, STATUS, RESTARTS and AGE."""

    ready: str
    status: str
    restarts: str
    age: str


def columns(pod: Pod, now_ns: int) -> Columns:
    """What the table says of a pod with its status, at `now_ns` nanoseconds since the epoch."""
    tally = _Tally(pod)
    tally.init_containers()
    if not tally.initializing or _is_initialized(pod):
        tally.containers()
    status = tally.status
    if pod.metadata.deletion_timestamp is not None:
        if pod.status.reason == "NodeLost":
            status = "Unknown"
        elif pod.status.phase not in ("Succeeded", "Failed"):
            status = "Terminating"
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_restart:
        restarts += f" ({age(tally.last_restart, now_ns)} ago)"
    return Columns(f"{tally.ready}/{tally.total}", status, restarts, age(pod.metadata.creation_timestamp, now_ns))


def wide_columns(pod: Pod) -> list[str]:
    """IP, NODE, NOMINATED NODE and READINESS GATES."""
    gates = NONE
    if pod.spec.readiness_gates:
        # Of several conditions of a type the first counts.
        first = {each.type: each.status for each in reversed(pod.status.conditions)}
        true = sum(first.get(each.condition_type) == "True" for each in pod.spec.readiness_gates)
        gates = f"{true}/{len(pod.spec.readiness_gates)}"
    ip = pod.status.pod_ips[0].ip if pod.status.pod_ips else ""
    return [ip or NONE, pod.spec.node_name or NONE, pod.status.nominated_node_name or NONE, gates]


class _Tally:
    """What is counted on the way through a pod's containers."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._sidecars = {each.name for each in pod.spec.init_containers if each.restart_policy == "Always"}
        self.total = len(pod.spec.containers) + len(self._sidecars)
        self.ready = self.restarts = 0
        self.last_restart = ""
        self.status = pod.status.reason or pod.status.phase
        if any(each.reason == "SchedulingGated" for each in pod.status.conditions if each.type == "PodScheduled"):
            self.status = "SchedulingGated"
        self.initializing = False

    def init_containers(self) -> None:
        """The first init container that has not done its work is what the status is about."""
        for index, each in enumerate(self._pod.status.init_container_statuses):
            self._count_restarts(each)
            ended, waiting = each.state.terminated, each.state.waiting
            if ended is not None and ended.exit_code == 0:
                continue
            if each.name in self._sidecars and each.started:
                self.ready += each.ready
                continue
            self.initializing = True
            if ended is not None:
                self.status = f"Init:{_end(ended)}"
            elif waiting is not None and waiting.reason not in ("", "PodInitializing"):
                self.status = f"Init:{waiting.reason}"
            else:
                self.status = f"Init:{index}/{len(self._pod.spec.init_containers)}"
            return

    def containers(self) -> None:
        """From now on only app containers and sidecars count; what the first of them says goes before the rest."""
        self.restarts, self.last_restart = 0, ""
        for each in self._pod.status.init_container_statuses:
            if each.name in self._sidecars:
                self._count_restarts(each)
        running = False
        error = ""
        for each in reversed(self._pod.status.container_statuses):
            self._count_restarts(each)
            ended, waiting = each.state.terminated, each.state.waiting
            if waiting is not None and waiting.reason:
                self.status = waiting.reason
            elif ended is not None:
                self.status = _end(ended)
                error = self.status if ended.exit_code else error
            elif each.ready and each.state.running is not None:
                running = True
                self.ready += 1
        if self.status == "Completed":
            if running and _has_condition(self._pod, "Ready"):
                self.status = "Running"
            elif error:
                self.status = error
            elif running:
                self.status = "NotReady"

    def _count_restarts(self, status: ContainerStatus) -> None:
        self.restarts += status.restart_count
        last = status.last_state.terminated
        if last is not None:
            self.last_restart = max(self.last_restart, last.finished_at or "")


def _end(ended: ContainerStateTerminated) -> str:
    if ended.reason:
        return ended.reason
    return f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exit_code}"


def _is_initialized(pod: Pod) -> bool:
    return _has_condition(pod, "Initialized")


def _has_condition(pod: Pod, type: str) -> bool:
    return any(each.type == type and each.status == "True" for each in pod.status.conditions)
