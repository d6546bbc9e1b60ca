"""What the kubelet remembers of one pod while it works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from podlite.kubelet.clock import Wake
from podlite.kubelet.worker_states import WorkerEvent, WorkerState, transition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.pod import Pod
    from podlite.api.status import PodStatus
    from podlite.cri.types import PodSandboxConfig
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.types import Waiting


class PodRecord:
    """One pod. The status manager has its status, the PLEG what the runtime says; the rest is here.

    `pod` is what is wanted; the object is replaced, never changed. `waiting` says why containers could not be
    started. `volumes` and `cgroup_parent` are None until they have been made.
    """

    __slots__ = (
        "adopted",
        "cgroup_parent",
        "evicted",
        "finished",
        "grace",
        "hooks_done",
        "keep_logs",
        "last",
        "pod",
        "published",
        "removed",
        "retry_at",
        "sandbox_config",
        "sandbox_made_at",
        "scope",
        "stale_before",
        "state",
        "tended",
        "uid",
        "volumes",
        "waiting",
        "wake",
    )

    def __init__(self, pod: Pod, state: WorkerState = WorkerState.SYNC) -> None:
        self.uid = pod.metadata.uid
        self.pod = pod
        self.state = state
        self.wake = Wake()
        self.scope: anyio.CancelScope | None = None  # of the work under way
        self.retry_at: float | None = None  # when to try again, by the monotonic clock
        self.stale_before = 0  # a runtime status must be newer than this, in ns, to be decided upon

        self.grace: int | None = None  # the shortest grace period asked for
        self.hooks_done: set[str] = set()  # containers whose killing has begun, by id
        self.evicted: tuple[str, str] | None = None  # the reason and message of an end from outside
        self.keep_logs = False

        self.waiting: dict[str, Waiting] = {}
        self.volumes: Mapping[str, str] | None = None
        self.cgroup_parent: str | None = None
        self.sandbox_config: PodSandboxConfig | None = None
        self.sandbox_made_at: float | None = None  # by the monotonic clock
        self.adopted = False  # whether its containers were started by another podlite
        self.tended: Pod | None = None  # the specification that the prober was last given

        self.published: Published | None = None  # the status that was computed last
        self.last: Pod | None = None  # as it was shown before it was removed
        self.finished = anyio.Event()
        self.removed = anyio.Event()

    @property
    def deleted(self) -> bool:
        return self.pod.metadata.deletion_timestamp is not None

    def advance(self, event: WorkerEvent) -> None:
        """Follows the transition table."""
        self.state = transition(self.state, event)
        if self.state in (WorkerState.FINISHED, WorkerState.REMOVING, WorkerState.REMOVED):
            self.finished.set()
        if self.state is WorkerState.REMOVED:
            self.removed.set()

    def interrupt(self) -> None:
        """Cancels the work under way, if any, and makes the worker look again."""
        if self.scope is not None:
            self.scope.cancel()
        self.wake.set()


class Published:
    """A status and what it was computed from: of a pod without probes, the same comes from the same again.

    A short pod's status is asked for eight times in its life, and five of these are new.
    """

    __slots__ = ("_evicted", "_pod", "_runtime", "_terminal", "_waiting", "status")

    def __init__(self, record: PodRecord, runtime: RuntimePodStatus, status: PodStatus, *, terminal: bool) -> None:
        self._pod = record.pod
        self._evicted = record.evicted
        self._waiting = dict(record.waiting)
        self._runtime = runtime
        self._terminal = terminal
        self.status = status

    def same(self, record: PodRecord, runtime: RuntimePodStatus, *, terminal: bool) -> bool:
        """Whether the status would be computed from nothing else now."""
        known = self._runtime
        return (
            self._pod is record.pod
            and self._terminal == terminal
            and self._evicted == record.evicted
            and self._waiting == record.waiting
            and (known.sandboxes, known.containers, known.ips) == (runtime.sandboxes, runtime.containers, runtime.ips)
        )


def effective_grace_period(current: int | None, requested: int) -> int:
    """The shorter of what was asked for and what is now asked for: a grace period never grows. Pure."""
    requested = max(requested, 0)
    return requested if current is None else min(current, requested)
