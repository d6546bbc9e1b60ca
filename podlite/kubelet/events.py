"""What happened to pods and their containers, as core/v1 Events with the kubelet's reasons.

The same event again only counts up. More than ten that differ in their message alone become one, and a pod
that never stops failing is cut off, as client-go's correlator does it. Memory is bounded: the oldest are dropped.
Sources: pkg/kubelet/events/event.go and k8s.io/client-go/tools/record/events_cache.go, Kubernetes 1.36.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec import structs

from podlite.api.events import Event, EventSource
from podlite.api.meta import ObjectMeta
from podlite.api.references import ObjectReference
from podlite.kubelet import labels
from podlite.kubelet.gotime import NANOSECONDS, rfc3339
from podlite.kubelet.watch import Broadcast, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.kubelet.clock import Clock

NORMAL = "Normal"
WARNING = "Warning"

CREATED = "Created"
STARTED = "Started"
FAILED = "Failed"
KILLING = "Killing"
BACK_OFF = "BackOff"
PULLING = "Pulling"
PULLED = "Pulled"
INSPECT_FAILED = "InspectFailed"
SECRET_NOT_RETRIEVED = "FailedToRetrieveImagePullSecret"  # noqa: S105 - no secret
ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
FAILED_KILL_POD = "FailedKillPod"
FAILED_CREATE_POD_CONTAINER = "FailedCreatePodContainer"
FAILED_CREATE_POD_SANDBOX = "FailedCreatePodSandBox"
FAILED_POD_SANDBOX_STATUS = "FailedPodSandBoxStatus"
SANDBOX_CHANGED = "SandboxChanged"
FAILED_MOUNT = "FailedMount"
FAILED_SYNC = "FailedSync"
FAILED_POST_START_HOOK = "FailedPostStartHook"
FAILED_PRE_STOP_HOOK = "FailedPreStopHook"
UNHEALTHY = "Unhealthy"
PROBE_WARNING = "ProbeWarning"
CONTAINER_GC_FAILED = "ContainerGCFailed"
IMAGE_GC_FAILED = "ImageGCFailed"
FREE_DISK_SPACE_FAILED = "FreeDiskSpaceFailed"
INVALID_DISK_CAPACITY = "InvalidDiskCapacity"

COMPONENT = "kubelet"

MAX_EVENTS = 4096
_SIMILAR = 10  # messages of one reason, before they are combined
_SIMILAR_NS = 600 * NANOSECONDS
_BURST = 25  # events of one object and type, before they are held back
_REFILL_NS = 300 * NANOSECONDS


class _Similar:
    """The different messages of one reason that came within ten minutes of each other."""

    __slots__ = ("last_ns", "messages")

    def __init__(self) -> None:
        self.messages: set[str] = set()
        self.last_ns = 0


class _Allowance:
    """A token bucket: 25 at once, then one every five minutes."""

    __slots__ = ("filled_ns", "tokens")

    def __init__(self, now_ns: int) -> None:
        self.tokens = float(_BURST)
        self.filled_ns = now_ns

    def take(self, now_ns: int) -> bool:
        self.tokens = min(self.tokens + (now_ns - self.filled_ns) / _REFILL_NS, _BURST)
        self.filled_ns = now_ns
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class _About:
    """What is kept of one object: the keys of its events, and what holds them back."""

    __slots__ = ("allowances", "keys", "similar")

    def __init__(self) -> None:
        self.keys: dict[str, None] = {}  # the one that happened last comes last
        self.similar: dict[str, _Similar] = {}
        self.allowances: dict[str, _Allowance] = {}


class EventRecorder:
    """Records events, and hands them to who watches. Events that were handed out are never changed.

    `on_change` is called with the UID of what has another event, or one more time the same, at once.
    """

    def __init__(self, clock: Clock, node_name: str, on_change: Callable[[str], None] | None = None) -> None:
        self._on_change = on_change
        self._clock = clock
        self._source = EventSource(component=COMPONENT, host=node_name)
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._objects: dict[str, _About] = {}
        self._changes: Broadcast[Event] = Broadcast()

    def pod_event(self, pod: Pod, type: str, reason: str, message: str) -> None:
        """Records what happened to a pod."""
        self._record(_reference(pod, ""), type, reason, message)

    def container_event(
        self, pod: Pod, container: Container, type: str, reason: str, message: str, container_id: str = ""
    ) -> None:
        """Records what happened to a container. Its id is replaced by its name, or no two events would be the same."""
        if container_id:
            message = message.replace(container_id, container.name)
        self._record(_reference(pod, labels.field_path(pod, container.name)), type, reason, message)

    def node_event(self, type: str, reason: str, message: str) -> None:
        """Records what happened to this machine."""
        node = self._source.host
        self._record(ObjectReference(kind="Node", name=node, uid=node), type, reason, message)

    def events(self, uid: str | None = None) -> list[Event]:
        """The events, of one object if its UID is given; the one that happened last comes last."""
        if uid is None:
            return list(self._events.values())
        about = self._objects.get(uid)
        return [self._events[key] for key in about.keys] if about is not None else []

    def __len__(self) -> int:
        return len(self._events)

    def watch(self) -> Subscription[Event]:
        """Events from now on, each time they happen; of one that happens faster than it is read, the newest count."""
        return self._changes.subscribe()

    def remove(self, uid: str) -> None:
        """Forgets the events of an object. Idempotent."""
        about = self._objects.pop(uid, None)
        for key in about.keys if about is not None else ():
            del self._events[key]

    def close(self) -> None:
        """Ends every watcher's iteration."""
        self._changes.close()

    def _record(self, reference: ObjectReference, type: str, reason: str, message: str) -> None:
        now_ns = self._clock.now_ns()
        about = self._objects.setdefault(reference.uid, _About())
        group = f"{reference.uid} {type} {reason}"
        key = f"{group} {reference.field_path} {message}"
        similar = about.similar.setdefault(group, _Similar())
        if now_ns - similar.last_ns > _SIMILAR_NS:
            similar.messages.clear()
        similar.last_ns = now_ns
        similar.messages.add(message)
        if len(similar.messages) >= _SIMILAR:
            similar.messages.pop()
            message = f"(combined from similar events): {message}"
            key = group
        allowance = about.allowances.get(type)
        if allowance is None:
            allowance = about.allowances[type] = _Allowance(now_ns)
        allowed = allowance.take(now_ns)
        before = self._events.pop(key, None)
        if not allowed and before is None:
            return
        event = self._event(reference, type, reason, message, now_ns, before)
        self._events[key] = event
        about.keys.pop(key, None)
        about.keys[key] = None
        if len(self._events) > MAX_EVENTS:
            self._drop_oldest()
        if allowed:
            self._changes.send(key, event)
        if self._on_change is not None:
            self._on_change(reference.uid)

    def _drop_oldest(self) -> None:
        key, event = self._events.popitem(last=False)
        uid = event.involved_object.uid
        about = self._objects[uid]
        about.keys.pop(key, None)
        if not about.keys:
            del self._objects[uid]

    def _event(
        self, about: ObjectReference, type: str, reason: str, message: str, now_ns: int, before: Event | None
    ) -> Event:
        now = rfc3339(now_ns)
        if before is not None:
            return structs.replace(before, message=message, count=before.count + 1, last_timestamp=now)
        meta = ObjectMeta(
            name=f"{about.name}.{now_ns:x}", namespace=about.namespace or "default", creation_timestamp=now
        )
        return Event(
            metadata=meta,
            involved_object=about,
            reason=reason,
            message=message,
            source=self._source,
            first_timestamp=now,
            last_timestamp=now,
            count=1,
            type=type,
            reporting_component=COMPONENT,
            reporting_instance=self._source.host,
        )


def _reference(pod: Pod, field_path: str) -> ObjectReference:
    meta = pod.metadata
    return ObjectReference(
        kind="Pod",
        api_version="v1",
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        field_path=field_path,
    )
