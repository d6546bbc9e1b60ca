"""Runs the probes of all pods: one timer for all of them, and a task for each try that is under way.

A probe ticks when its pod is added and then every `periodSeconds`, whatever its tries take; a tick that comes while
a try is still under way is made up for once, right after it. A container that has started and is not yet ready is
asked at once whenever there is news of its pod.

Source: pkg/kubelet/prober/prober_manager.go and worker.go, Kubernetes 1.36. One difference: the kubelet delays
every probe by a random part of its period while it has itself only just started, so that after a restart not all of
them come at once; here only those of containers that ran before are delayed.
"""

from __future__ import annotations

from functools import partial
from heapq import heappop, heappush
from random import random
from typing import TYPE_CHECKING

import anyio

from podlite import log
from podlite.kubelet import restart
from podlite.kubelet.labels import pod_name
from podlite.kubelet.prober.outcome import ProbeError, Verdict
from podlite.kubelet.prober.results import ResultsManager
from podlite.kubelet.prober.run import attempt
from podlite.kubelet.prober.worker import Instance, Kind, Step, Worker
from podlite.kubelet.types import ProbeResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anyio.abc import TaskGroup

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.probes import Probe
    from podlite.cri.services import RuntimeService
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.types import Results

    # Called with (pod UID, container id, kind, result) when a result changes; kind is liveness, readiness or startup.
    OnResult = Callable[[str, str, str, ProbeResult], None]
    # Records an event of a container: its pod, itself, type, reason and message.
    Record = Callable[[Pod, Container, str, str, str], None]

# Due times are sums of floats: a tick this early, in seconds, is not early.
_TOLERANCE = 1e-6

UNHEALTHY = "Unhealthy"
PROBE_WARNING = "ProbeWarning"


class _Pod:
    __slots__ = ("ended", "instances", "ip", "pod", "workers")

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.ip = ""
        self.instances: dict[str, Instance] = {}
        self.workers: dict[tuple[str, Kind], Worker] = {}
        self.ended: set[tuple[str, str, Kind]] = set()  # probes that are over for good


class ProbeManager:
    """The probes of this kubelet's pods. For the event loop's thread; `tasks` must outlive it."""

    def __init__(
        self, tasks: TaskGroup, runtime: RuntimeService, clock: Clock, on_result: OnResult, record: Record
    ) -> None:
        self._tasks = tasks
        self._runtime = runtime
        self._clock = clock
        self._on_result = on_result
        self._record = record
        self._pods: dict[str, _Pod] = {}
        self._queue: list[tuple[float, int, Worker]] = []
        self._sequence = 0
        self._sleeping: anyio.CancelScope | None = None
        self._running = False
        self._managers = {kind: ResultsManager(partial(self._changed, kind)) for kind in Kind}
        self.startup: Results = self._managers[Kind.STARTUP]
        self.liveness: Results = self._managers[Kind.LIVENESS]
        self.readiness: Results = self._managers[Kind.READINESS]

    # --- what the kubelet tells ---------------------------------------------------------------

    def add_pod(self, pod: Pod, *, adopted: bool = False) -> None:
        """Begins with the pod's probes, before its containers exist or after; idempotent. A probe that has become
        another one begins anew.

        For an `adopted` pod, whose containers another podlite started, what its status says of them holds until a
        probe says otherwise.
        """
        uid = pod.metadata.uid
        known = self._pods.get(uid)
        wanted = {(container.name, kind): (container, spec) for container, kind, spec in _probes(pod)}
        if known is None:
            if not wanted:
                return
            known = self._pods[uid] = _Pod(pod)
        known.pod = pod
        for key, worker in list(known.workers.items()):
            if key not in wanted or wanted[key][1] != worker.spec:
                self._end(worker)
        for (name, kind), (container, spec) in wanted.items():
            if (name, kind) in known.workers or (uid, name, kind) in known.ended:
                continue
            worker = known.workers[name, kind] = Worker(pod, container, kind, spec, self._managers[kind])
            delay = 0.0
            if adopted:
                good = _good_instance(pod, name, kind)
                if good:
                    worker.adopt(good)
                delay = random() * worker.period  # noqa: S311 - spreads load
            self._schedule(worker, self._clock.monotonic() + delay)

    def observe(self, pod: Pod, status: RuntimePodStatus, pod_ips: Sequence[str]) -> None:
        """Takes in what the runtime says of a pod, as often as that changes. A pod that is not known is left alone."""
        known = self._pods.get(pod.metadata.uid)
        if known is None:
            return
        known.pod = pod
        known.ip = pod_ips[0] if pod_ips else ""
        for name in dict.fromkeys(name for name, _ in known.workers):
            newest = status.container(name)
            if newest is None:
                known.instances.pop(name, None)
                continue
            worker = next(each for (of, _), each in known.workers.items() if of == name)
            known.instances[name] = Instance(
                container_id=newest.id,
                started_at=newest.started_at if newest.running else 0,
                ended=newest.exited,
                restarts=restart.restarts_after(worker.container, pod.spec, newest.exit_code),
            )
            self._hasten(known, name)

    def stop_liveness_and_startup(self, uid: str) -> None:
        """For a pod whose app containers are being stopped: nothing shall restart them. Sidecars are still probed."""
        known = self._pods.get(uid)
        if known is None:
            return
        apps = {container.name for container in known.pod.spec.containers}
        for (name, kind), worker in list(known.workers.items()):
            if name in apps and kind is not Kind.READINESS:
                known.ended.add(worker.key)
                self._end(worker)

    def remove_pod(self, uid: str) -> None:
        """Ends the pod's probes and forgets their results. Idempotent."""
        known = self._pods.get(uid)
        if known is not None:
            for worker in list(known.workers.values()):
                self._end(worker)
            self._pods.pop(uid, None)

    # --- the schedule -------------------------------------------------------------------------

    def _schedule(self, worker: Worker, due: float) -> None:
        worker.due = due
        self._sequence += 1
        heappush(self._queue, (due, self._sequence, worker))
        if not self._running:
            self._running = True
            self._tasks.start_soon(self._run, name="probes")
        elif self._queue[0][2] is worker and self._sleeping is not None:
            self._sleeping.cancel()

    async def _run(self) -> None:
        """Ends when there is nothing left to probe."""
        try:
            while self._queue:
                now = self._clock.monotonic()
                while self._queue and self._queue[0][0] <= now + _TOLERANCE:
                    due, _, worker = heappop(self._queue)
                    # One that was scheduled anew, or has ended, is still in the queue from before.
                    if due == worker.due and not worker.stopped:
                        self._tick(worker, now)
                if not self._queue:
                    break
                with anyio.CancelScope() as self._sleeping:
                    await self._clock.sleep_until(self._queue[0][0])
                self._sleeping = None
        finally:
            self._running = False

    def _tick(self, worker: Worker, now: float) -> None:
        following = worker.due + worker.period
        if following <= now:
            # The event loop was held up: what was missed is one tick, as it is for Go's tickers.
            following = now + worker.period - (now - worker.due) % worker.period
        self._schedule(worker, following)
        if worker.busy:
            worker.missed = True
        else:
            self._look(worker)

    def _hasten(self, known: _Pod, name: str) -> None:
        """Asks a container that has started but is not ready at once; the next time is a period later."""
        worker = known.workers.get((name, Kind.READINESS))
        instance = known.instances.get(name)
        if worker is None or worker.busy or instance is None or not instance.started_at:
            return
        if not self._started(known, name) or worker.results.get(instance.container_id) is ProbeResult.SUCCESS:
            return
        self._schedule(worker, self._clock.monotonic() + worker.period)
        self._look(worker)

    def _started(self, known: _Pod, name: str) -> bool:
        instance = known.instances.get(name)
        if instance is None or not instance.started_at:
            return False
        result = self.startup.get(instance.container_id)
        if result is None:
            return (name, Kind.STARTUP) not in known.workers
        return result is ProbeResult.SUCCESS

    def _look(self, worker: Worker) -> None:
        """Does what the worker decides."""
        uid, name, _ = worker.key
        known = self._pods[uid]
        step = worker.tick(
            known.instances.get(name),
            started=self._started(known, name),
            deleted=known.pod.metadata.deletion_timestamp is not None,
            now_ns=self._clock.now_ns(),
        )
        if step is Step.PROBE:
            worker.busy = True
            self._tasks.start_soon(self._try, worker, known)
        elif step is Step.END:
            known.ended.add(worker.key)
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        worker.stopped = True
        worker.forget()
        if worker.scope is not None:
            worker.scope.cancel()
        uid, name, kind = worker.key
        known = self._pods.get(uid)
        if known is not None:
            known.workers.pop((name, kind), None)

    # --- a try --------------------------------------------------------------------------------

    async def _try(self, worker: Worker, known: _Pod) -> None:
        with anyio.CancelScope() as worker.scope:
            container_id = worker.container_id
            result = await self._result(worker, known)
            if result is not None and not worker.stopped:
                worker.conclude(container_id, result)
        worker.scope = None
        worker.busy = False
        if worker.missed and not worker.stopped:
            worker.missed = False
            self._look(worker)

    async def _result(self, worker: Worker, known: _Pod) -> ProbeResult | None:
        """What a try comes to, None if it could not be made; tells the events."""
        kind = worker.kind.value
        try:
            outcome = await attempt(worker, self._runtime, known.ip)
        except ProbeError as error:
            text = f"{kind} probe errored and resulted in {error.verdict.word} state: {error}"
            self._tell(worker, known, UNHEALTHY, text)
            return None
        except Exception as error:
            # A mistake in one probe must not end the kubelet.
            log.error(
                "a probe failed unexpectedly", pod=pod_name(known.pod), container=worker.key[1], error=repr(error)
            )
            return None
        if outcome.verdict is Verdict.SUCCESS:
            return ProbeResult.SUCCESS
        if outcome.verdict is Verdict.WARNING:
            self._tell(worker, known, PROBE_WARNING, f"{kind} probe warning: {outcome.output}")
            return ProbeResult.SUCCESS
        self._tell(worker, known, UNHEALTHY, f"{kind} probe failed: {outcome.output}")
        return ProbeResult.FAILURE

    def _tell(self, worker: Worker, known: _Pod, reason: str, message: str) -> None:
        if not worker.stopped:
            self._record(known.pod, worker.container, "Warning", reason, message)

    def _changed(self, kind: Kind, uid: str, container_id: str, result: ProbeResult) -> None:
        self._on_result(uid, container_id, kind.value.lower(), result)
        if kind is Kind.STARTUP and result is ProbeResult.SUCCESS:
            known = self._pods.get(uid)
            for name, instance in known.instances.items() if known is not None else ():
                if known is not None and instance.container_id == container_id:
                    self._hasten(known, name)


def _probes(pod: Pod) -> Iterator[tuple[Container, Kind, Probe]]:
    """The probes of app containers and sidecars; other init containers have none."""
    sidecars = [each for each in pod.spec.init_containers if each.restart_policy == "Always"]
    for container in (*pod.spec.containers, *sidecars):
        for kind, spec in (
            (Kind.STARTUP, container.startup_probe),
            (Kind.READINESS, container.readiness_probe),
            (Kind.LIVENESS, container.liveness_probe),
        ):
            if spec is not None:
                yield container, kind, spec


def _good_instance(pod: Pod, name: str, kind: Kind) -> str:
    """The id of the instance that the status of an adopted pod says is ready, or has started; else nothing."""
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if status.name == name:
            good = status.ready if kind is Kind.READINESS else kind is Kind.STARTUP and status.started
            return status.container_id.partition("://")[2] if good else ""
    return ""
