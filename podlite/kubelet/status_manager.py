"""Holds the current status of every pod, keeps it from going backwards, and tells who watches.

The status that the workers compute with and the one that is shown differ in one thing: a terminal phase is
shown only once no container of the pod can run any more.
Source: pkg/kubelet/status/status_manager.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from podlite import log
from podlite.kubelet import conditions, labels, status
from podlite.kubelet.gotime import rfc3339
from podlite.kubelet.watch import Broadcast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus, PodCondition, PodStatus
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.watch import Subscription

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"


class PodChange(msgspec.Struct, frozen=True):
    """`type` is ADDED, MODIFIED or DELETED; `pod` is the whole pod with its status, not to be changed."""

    type: str
    pod: Pod


class _Record:
    __slots__ = ("could_run", "pod", "shown", "status", "told", "version")

    def __init__(self, pod: Pod, version: int) -> None:
        self.pod = pod
        self.status = pod.status
        self.shown = pod.status
        self.could_run = True
        self.version = version
        self.told = False


class StatusManager:
    """The statuses of this kubelet's pods. `on_change` is called with every pod that is shown anew, at once."""

    def __init__(
        self, clock: Clock, on_change: Callable[[PodChange], None] | None = None, *, first_version: int = 0
    ) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._changes: Broadcast[PodChange] = Broadcast(_merge)
        self._on_change = on_change
        self._version = first_version

    def add(self, pod: Pod) -> None:
        """Knows the pod from now on, with the status it came with; watchers hear of it with its first status."""
        if pod.metadata.uid not in self._records:
            self._records[pod.metadata.uid] = _Record(pod, self._version)

    def set_spec(self, pod: Pod) -> None:
        """Replaces everything but the status."""
        record = self._records.get(pod.metadata.uid)
        if record is not None:
            record.pod = pod
            if record.told:
                self._show(record, record.shown, force=True)

    def get(self, uid: str) -> PodStatus | None:
        """The status to compute with, or None for a pod that is not known."""
        record = self._records.get(uid)
        return record.status if record else None

    @property
    def newest_version(self) -> int:
        """That of the last change of any pod."""
        return self._version

    def version(self, uid: str) -> int:
        """Grows with every change that is shown."""
        record = self._records.get(uid)
        return record.version if record else 0

    def pod(self, uid: str) -> Pod | None:
        """The pod with the status that is shown. Not to be changed."""
        record = self._records.get(uid)
        return self._shown_pod(record) if record else None

    def pods(self) -> Iterator[Pod]:
        """All pods, oldest first."""
        return (self._shown_pod(each) for each in self._records.values())

    def watch(self) -> Subscription[PodChange]:
        """Changes from now on, the newest of each pod only; nothing waits for a slow reader."""
        return self._changes.subscribe()

    def set(self, pod: Pod, new: PodStatus) -> bool:
        """Makes `new` the status of the pod; says whether that changed anything.

        `pod` is what it was computed of. It may have changed since by `set_spec`: its deletion may have been asked for.
        A container that came back from an end that its restart policy makes final is a mistake: such a status
        is dropped, and logged.
        """
        record = self._records.get(pod.metadata.uid)
        if record is None:
            return False
        problem = status.illegal_transition(pod, record.status, new)
        if problem:
            log.error("status update aborted", pod=labels.pod_name(pod), why=problem)
            return False
        changed = new != record.status
        record.status = new
        self._publish(record)
        return changed

    def set_container_readiness(self, uid: str, container_id: str, ready: bool) -> bool:
        """Notes what a readiness probe came to, without waiting for a sync; False if that changes nothing."""
        record = self._records.get(uid)
        found = _find(record.status, container_id) if record else None
        if record is None or found is None or found.ready == ready:
            return False
        new = _with_container(record.status, structs.replace(found, ready=ready))
        by_name = {each.name: each for each in (*new.init_container_statuses, *new.container_statuses)}
        replaced = {
            conditions.READY: conditions.ready(record.pod, by_name, new.phase, new.conditions),
            conditions.CONTAINERS_READY: conditions.containers_ready(record.pod, by_name, new.phase),
        }
        found_conditions = [replaced.get(each.type, each) for each in new.conditions]
        new.conditions = conditions.with_transition_times(found_conditions, record.status.conditions, self._now())
        record.status = new
        self._publish(record)
        return True

    def set_container_startup(self, uid: str, container_id: str, started: bool) -> bool:
        """Notes what a startup probe came to; False if that changes nothing."""
        record = self._records.get(uid)
        found = _find(record.status, container_id) if record else None
        if record is None or found is None or bool(found.started) == started:
            return False
        record.status = _with_container(record.status, structs.replace(found, started=started))
        self._publish(record)
        return True

    def set_condition(self, uid: str, condition: PodCondition) -> None:
        """Adds or replaces a condition that the kubelet does not own. Raises ValueError for one that it does."""
        if condition.type in conditions.OWNED:
            raise ValueError(f"the condition {condition.type} is the kubelet's own")
        record = self._records.get(uid)
        if record is None:
            return
        before = record.status.conditions
        others = [each for each in before if each.type != condition.type]
        found = conditions.with_transition_times([condition, *others], before, self._now())
        record.status = structs.replace(record.status, conditions=found)
        self._publish(record)

    def set_stopped(self, uid: str) -> None:
        """No container of the pod runs or will be started: its terminal phase may be shown."""
        record = self._records.get(uid)
        if record is not None:
            record.could_run = False
            self._publish(record)

    def terminate(self, uid: str) -> None:
        """The pod is over: what is not known of its containers counts as failure, and its phase is terminal."""
        record = self._records.get(uid)
        if record is not None:
            record.could_run = False
            record.status = status.final_status(record.pod, record.status)
            self._publish(record)

    def remove(self, uid: str) -> None:
        """Forgets the pod, and tells the watchers that it is gone. Idempotent."""
        record = self._records.pop(uid, None)
        if record is None:
            return
        self._version += 1
        record.version = self._version
        self._tell(PodChange(DELETED, self._shown_pod(record)))

    def close(self) -> None:
        """Ends every watcher's iteration."""
        self._changes.close()

    def _now(self) -> str:
        return rfc3339(self._clock.now_ns())

    def _publish(self, record: _Record) -> None:
        self._show(
            record,
            status.published_status(record.shown, record.status, could_run=record.could_run, now=self._now()),
        )

    def _show(self, record: _Record, shown: PodStatus, *, force: bool = False) -> None:
        if record.told and shown == record.shown and not force:
            return
        record.shown = shown
        self._version += 1
        record.version = self._version
        type = MODIFIED if record.told else ADDED
        record.told = True
        self._tell(PodChange(type, self._shown_pod(record)))

    def _tell(self, change: PodChange) -> None:
        if self._on_change is not None:
            self._on_change(change)
        self._changes.send(change.pod.metadata.uid, change)

    def _shown_pod(self, record: _Record) -> Pod:
        meta = structs.replace(record.pod.metadata, resource_version=str(record.version))
        return structs.replace(record.pod, metadata=meta, status=record.shown)


def _merge(unread: PodChange, change: PodChange) -> PodChange:
    """A pod that was added and has changed since is still new to who has not read of it."""
    if unread.type == ADDED and change.type == MODIFIED:
        return PodChange(ADDED, change.pod)
    return change


def _find(pod_status: PodStatus, container_id: str) -> ContainerStatus | None:
    for each in (*pod_status.container_statuses, *pod_status.init_container_statuses):
        if each.container_id.partition("://")[2] == container_id:
            return each
    return None


def _with_container(pod_status: PodStatus, changed: ContainerStatus) -> PodStatus:
    def replaced(statuses: list[ContainerStatus]) -> list[ContainerStatus]:
        return [changed if each.name == changed.name else each for each in statuses]

    return structs.replace(
        pod_status,
        container_statuses=replaced(pod_status.container_statuses),
        init_container_statuses=replaced(pod_status.init_container_statuses),
    )
