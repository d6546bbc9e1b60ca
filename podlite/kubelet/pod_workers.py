"""One worker per pod: it serialises what happens to the pod, and takes it through the states of `worker_states`.

A worker sleeps until it is woken (a container ended, a probe turned, the pod was changed or deleted), or until
something is due: a back-off, a deadline. There is no periodic sync: idle pods cost nothing.
Source: pkg/kubelet/pod_workers.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

from podlite import log
from podlite.errors import PodliteError, explain
from podlite.kubelet import labels
from podlite.kubelet.events import FAILED_SYNC, WARNING
from podlite.kubelet.gotime import NANOSECONDS
from podlite.kubelet.pod_record import PodRecord, effective_grace_period
from podlite.kubelet.status import active_deadline
from podlite.kubelet.types import BackOffError
from podlite.kubelet.worker_states import WorkerEvent, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskGroup

    from podlite.api.pod import Pod
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.pod_sync import PodSyncer
    from podlite.kubelet.status_manager import StatusManager
    from podlite.kubelet.types import KubeletConfig

# A pod that fails is looked at again after this much at the latest, whatever its back-off: SyncFrequency.
RESYNC_SECONDS = 60.0
_JITTER = 0.5
_MOMENT = 0.001


def jitter() -> float:
    """A random number from 0 to 1; importing `random` for this would cost milliseconds."""
    return int.from_bytes(os.urandom(2)) / 65535


class PodWorkers:
    """The workers of all pods, as tasks of `tasks`. For the event loop's thread."""

    def __init__(
        self,
        tasks: TaskGroup,
        syncer: PodSyncer,
        statuses: StatusManager,
        clock: Clock,
        config: KubeletConfig,
        jitter: Callable[[], float] = jitter,
        *,
        report: Callable[[Pod, str, str, str], None] = lambda pod, kind, reason, message: None,
    ) -> None:
        """`report` records an event of a pod: its type, reason and message."""
        self._tasks = tasks
        self._syncer = syncer
        self._statuses = statuses
        self._clock = clock
        self._config = config
        self._jitter = jitter
        self._report = report
        self._records: dict[str, PodRecord] = {}
        # (namespace, name) → uid → record: one as a rule.
        self._by_name: dict[tuple[str, str], dict[str, PodRecord]] = {}

    def __iter__(self) -> Iterator[PodRecord]:
        return iter(list(self._records.values()))

    def get(self, uid: str) -> PodRecord | None:
        return self._records.get(uid)

    def named(self, namespace: str, name: str) -> PodRecord | None:
        """The pod of that name, the oldest if there are several."""
        return next(iter(self._by_name.get((namespace, name), {}).values()), None)

    def active_pods(self) -> list[Pod]:
        """The pods that run or are to run, whose requests and ports count."""
        active = (WorkerState.SYNC, WorkerState.TERMINATING)
        return [each.pod for each in self._records.values() if each.state in active]

    def add(self, pod: Pod, state: WorkerState = WorkerState.SYNC) -> PodRecord:
        """Starts the pod's worker, in `state`. The UID must be new."""
        record = PodRecord(pod, state)
        if state is WorkerState.FINISHED:
            record.finished.set()
        self._records[record.uid] = record
        self._by_name.setdefault((pod.metadata.namespace, pod.metadata.name), {})[record.uid] = record
        record.wake.set()
        self._tasks.start_soon(self._work, record)
        return record

    def _forget(self, record: PodRecord) -> None:
        if self._records.pop(record.uid, None) is None:
            return
        name = (record.pod.metadata.namespace, record.pod.metadata.name)
        same = self._by_name[name]
        del same[record.uid]
        if not same:
            del self._by_name[name]

    def update(self, record: PodRecord, pod: Pod) -> None:
        """Gives the pod another specification; a deletion that was asked for stays."""
        record.pod = pod
        record.retry_at = None
        record.wake.set()

    def wake(self, uid: str, *, unless_busy: bool = False) -> None:
        """Makes the pod's worker look again. An unknown pod is no error.

        `unless_busy` is for what the worker does itself: it looks anyway when it has done something.
        """
        record = self._records.get(uid)
        if record is not None and (record.scope is None or not unless_busy):
            record.wake.set()

    def terminate(self, record: PodRecord, grace: int | None, evicted: tuple[str, str] | None = None) -> None:
        """Ends the pod, whatever is being done with it. Asked for again it can only become faster.

        `grace` is the grace period in seconds, 0 to kill at once, None for the pod's own. `evicted` is the
        reason and message that a pod fails with, which is ended from outside.
        """
        shortened = False
        if grace is not None:
            shorter = effective_grace_period(record.grace, grace)
            shortened = shorter != record.grace
            record.grace = shorter
        if evicted is not None and record.evicted is None and record.state is WorkerState.SYNC:
            record.evicted = evicted
        before = record.state
        record.advance(WorkerEvent.TERMINATE)
        if before is WorkerState.SYNC or (before is WorkerState.TERMINATING and shortened):
            record.retry_at = None
            record.interrupt()
        else:
            record.wake.set()

    async def _work(self, record: PodRecord) -> None:
        while record.state is not WorkerState.REMOVED:
            await self._pause(record)
            state = record.state
            event: WorkerEvent | None = None
            try:
                with anyio.CancelScope() as record.scope:
                    event = await self._step(record, state)
                record.retry_at = None
            except PodliteError as error:
                self._retry(record, error)
            except Exception as error:  # a bug, or a full disk: the other pods go on
                known = isinstance(error, OSError)
                log.error("pod worker failed", pod=labels.pod_name(record.pod), why=explain(error), exc_info=not known)
                self._report(record.pod, WARNING, FAILED_SYNC, f"error syncing pod: {explain(error)}")
                self._retry(record, error)
            finally:
                record.scope = None
            record.stale_before = self._clock.now_ns()
            # While it was working, somebody may have taken the pod to another state.
            if event is not None and record.state is state:
                record.advance(event)
            if record.state is not state:
                record.retry_at = None
                record.wake.set()
        self._forget(record)

    async def _step(self, record: PodRecord, state: WorkerState) -> WorkerEvent | None:
        """Does the work of a state once; the event that its end is, or None to stay."""
        if state is WorkerState.SYNC:
            return WorkerEvent.COMPLETE if await self._syncer.sync(record) else None
        if state is WorkerState.TERMINATING:
            await self._syncer.terminate(record)
            return WorkerEvent.STOPPED
        if state is WorkerState.TERMINATED:
            await self._syncer.release(record)
            return WorkerEvent.RELEASED
        if state is WorkerState.FINISHED:
            return WorkerEvent.REMOVE if record.deleted else None
        await self._syncer.remove(record)
        return WorkerEvent.REMOVED

    async def _pause(self, record: PodRecord) -> None:
        """Waits until there is something to do: word of a change, or the time of the next attempt."""
        due = self._due(record)
        if due is None:
            await record.wake.wait()
            return
        with self._clock.timeout(due - self._clock.monotonic()):
            await record.wake.wait()

    def _due(self, record: PodRecord) -> float | None:
        """When the worker has to look by itself, by the monotonic clock."""
        due = record.retry_at
        status = self._statuses.get(record.uid)
        if record.state is WorkerState.SYNC and record.evicted is None and status is not None:
            deadline = active_deadline(record.pod, status)
            if deadline is not None:
                at = self._clock.monotonic() + (deadline - self._clock.now_ns()) / NANOSECONDS
                due = at if due is None else min(due, at)
        return due

    def _retry(self, record: PodRecord, error: Exception) -> None:
        """Notes when to try again: when a back-off is over, else after the kubelet's ten seconds, and a bit."""
        if isinstance(error, BackOffError):
            seconds = max((error.until - self._clock.now_ns()) / NANOSECONDS, 0)
            seconds = min(seconds, RESYNC_SECONDS)
        else:
            seconds = self._config.sync_error_back_off * (1 + _JITTER * self._jitter())
            # The pod's status and events tell the person; this is for who follows the flow.
            log.info("error syncing pod", pod=labels.pod_name(record.pod), state=record.state.value, why=str(error))
        # A moment later: waking up before the back-off is over would count as another failure.
        record.retry_at = self._clock.monotonic() + seconds + _MOMENT
