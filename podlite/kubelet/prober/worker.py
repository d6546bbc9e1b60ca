"""One probe of one container: when to try it, and what the tries come to. Decides only; nothing here waits or sends.

                        ┌──────────────── another instance of the container ────────────────┐
                        ▼                                                                   │
    no instance ──▶ initial value ──▶ initialDelay over, not gated by startup ──▶ probing ──┤
                                                                                    │       │
                     threshold of a liveness failure, or of any startup result ──▶ on hold ─┘

Source: pkg/kubelet/prober/worker.go, Kubernetes 1.36.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.types import ProbeResult

if TYPE_CHECKING:
    from anyio import CancelScope

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.probes import Probe
    from podlite.kubelet.prober.http_request import Request
    from podlite.kubelet.prober.results import ResultsManager

_SECOND_NS = 1_000_000_000


class Kind(Enum):
    """The value is how messages spell it."""

    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"


_INITIAL = {
    Kind.STARTUP: ProbeResult.UNKNOWN,
    Kind.READINESS: ProbeResult.FAILURE,
    Kind.LIVENESS: ProbeResult.SUCCESS,
}


class Instance(NamedTuple):
    """What is known of the newest instance of a container.

    `started_at` is in nanoseconds since the epoch, and 0 unless it runs; `ended` is whether it has exited, and
    `restarts` whether it will then be started again.
    """

    container_id: str
    started_at: int = 0
    ended: bool = False
    restarts: bool = True


class Step(Enum):
    """What a worker does at a tick."""

    WAIT = "wait for the next tick"
    PROBE = "probe now"
    END = "this probe is over for good"


class Worker:
    """The state of one probe. `key` is (pod UID, container's name, kind)."""

    __slots__ = (
        "busy",
        "container",
        "container_id",
        "due",
        "key",
        "kind",
        "last_result",
        "missed",
        "on_hold",
        "period",
        "pod",
        "request",
        "results",
        "run",
        "scope",
        "spec",
        "stopped",
    )

    def __init__(self, pod: Pod, container: Container, kind: Kind, spec: Probe, results: ResultsManager) -> None:
        self.pod = pod
        self.container = container
        self.kind = kind
        self.spec = spec
        self.results = results
        self.key = (pod.metadata.uid, container.name, kind)
        self.period = float(spec.period_seconds or 10)
        self.container_id = ""
        self.last_result: ProbeResult | None = None
        self.run = 0  # how many times in a row that was the result
        self.on_hold = False
        # Of the scheduler: when the next tick is, whether a try is under way, and whether a tick came meanwhile.
        self.due = 0.0
        self.busy = False
        self.missed = False
        self.stopped = False
        self.scope: CancelScope | None = None
        # What is sent, made once for each instance: the pod's address and the request.
        self.request: tuple[str, Request] | None = None

    def tick(self, instance: Instance | None, *, started: bool, deleted: bool, now_ns: int) -> Step:
        """What to do now. `started` is whether the container's startup probe, if any, has succeeded; `deleted`
        whether the pod is being deleted."""
        if instance is None or not instance.container_id:
            return Step.WAIT
        if instance.container_id != self.container_id:
            self._follow(instance.container_id)
        if self.on_hold:
            return Step.WAIT
        if not instance.started_at:
            self.results.set(self.container_id, ProbeResult.FAILURE, self.key[0])
            return Step.END if instance.ended and not instance.restarts else Step.WAIT
        if deleted and self.kind is not Kind.READINESS:
            # So that nothing restarts what is being stopped.
            self.results.set(self.container_id, ProbeResult.SUCCESS, self.key[0])
            return Step.END
        if now_ns - instance.started_at < self.spec.initial_delay_seconds * _SECOND_NS:
            return Step.WAIT
        # A started container has no more startup probes; until then it has no others.
        return Step.PROBE if started is not (self.kind is Kind.STARTUP) else Step.WAIT

    def conclude(self, container_id: str, result: ProbeResult) -> None:
        """Counts a result that was had of an instance, and publishes it when its threshold is reached."""
        if container_id != self.container_id:
            # Another instance came while the old one was asked.
            return
        if result is self.last_result:
            self.run += 1
        else:
            self.last_result, self.run = result, 1
        failed = result is ProbeResult.FAILURE
        threshold = (self.spec.failure_threshold or 3) if failed else (self.spec.success_threshold or 1)
        if self.run < threshold:
            return
        self.results.set(self.container_id, result, self.key[0])
        if self.kind is Kind.STARTUP or (self.kind is Kind.LIVENESS and failed):
            # It will be restarted, or has started: until there is another instance there is nothing to be learnt.
            self.on_hold = True
            self.run = 0

    def adopt(self, container_id: str) -> None:
        """Takes an instance that was good before for good, until a try says otherwise."""
        self.container_id = container_id
        self.results.set(container_id, ProbeResult.SUCCESS, self.key[0])

    def forget(self) -> None:
        """Takes back what it has published."""
        if self.container_id:
            self.results.remove(self.container_id)

    def _follow(self, container_id: str) -> None:
        self.forget()
        self.container_id = container_id
        self.results.set(container_id, _INITIAL[self.kind], self.key[0])
        self.on_hold = False
        self.request = None
