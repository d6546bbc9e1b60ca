"""Exponential back-off by key, for containers that end and for images that cannot be pulled.

Source: k8s.io/client-go/util/flowcontrol/backoff.go and pkg/kubelet/kubelet.go (newCrashLoopBackOff),
Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podlite.kubelet.labels import format_pod

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.kubelet.clock import Clock

# A container that has run this long starts over at the first delay; so does an image after twice the longest.
CONTAINER_RESET_SECONDS = 600.0

_NANO = 1_000_000_000


class _Entry:
    __slots__ = ("delay_ns", "event_ns", "seen", "updated", "updated_ns")

    def __init__(self, delay_ns: int, updated_ns: int, updated: float) -> None:
        self.delay_ns = delay_ns
        self.updated_ns = updated_ns
        # By the monotonic clock, in seconds: the last `next`, and when an event was first asked about. Somebody may set
        # the wall clock back, and no delay shall last longer for it.
        self.updated = updated
        self.event_ns = 0
        self.seen = updated


class BackOff:
    """Delays that double with every `next`, from `initial` to `maximum` seconds.

    An event that comes more than `reset_after` seconds after the last `next` starts over. Times are wall-clock
    nanoseconds, for they are compared with those the runtime reports.
    """

    __slots__ = ("_clock", "_entries", "_initial_ns", "_maximum_ns", "_reset_ns")

    def __init__(self, clock: Clock, initial: float, maximum: float, reset_after: float | None = None) -> None:
        self._clock = clock
        self._maximum_ns = int(maximum * _NANO)
        self._initial_ns = min(int(initial * _NANO), self._maximum_ns)
        self._reset_ns = int((2 * maximum if reset_after is None else reset_after) * _NANO)
        self._entries: dict[str, _Entry] = {}

    def delay(self, key: str) -> float:
        """The current delay in seconds; 0 without one."""
        entry = self._entries.get(key)
        return entry.delay_ns / _NANO if entry else 0

    def next(self, key: str, event_ns: int) -> None:
        """Notes that what happened at `event_ns` is being retried: the next time has to wait longer."""
        now = self._clock.now_ns()
        entry = self._entries.get(key)
        if entry is None or event_ns - entry.updated_ns > self._reset_ns:
            self._entries[key] = _Entry(self._initial_ns, now, self._clock.monotonic())
        else:
            entry.delay_ns = min(entry.delay_ns * 2, self._maximum_ns)
            entry.updated_ns = now
            entry.updated = self._clock.monotonic()

    def until_since_event(self, key: str, event_ns: int) -> int | None:
        """When the delay that counts from `event_ns` is over; None if it is, or if there is none."""
        entry = self._entries.get(key)
        if entry is None or event_ns - entry.updated_ns > self._reset_ns:
            return None
        if entry.event_ns != event_ns:
            entry.event_ns = event_ns
            entry.seen = self._clock.monotonic()
        return self._until(event_ns + entry.delay_ns, entry.seen, entry)

    def _until(self, until: int, since: float, entry: _Entry) -> int | None:
        """`until`, or sooner if a whole delay since `since` is over before; None if it is over already."""
        now = self._clock.now_ns()
        left = entry.delay_ns - int((self._clock.monotonic() - since) * _NANO)
        until = min(until, now + left)
        return until if now < until else None

    def until_since_update(self, key: str) -> int | None:
        """When the delay that counts from the last `next` is over; None if it is, or if there is none."""
        entry = self._entries.get(key)
        now = self._clock.now_ns()
        if entry is None or now - entry.updated_ns > self._reset_ns:
            return None
        return self._until(entry.updated_ns + entry.delay_ns, entry.updated, entry)

    def forget(self, prefix: str) -> None:
        """Drops every key that starts with `prefix`."""
        for key in [each for each in self._entries if each.startswith(prefix)]:
            del self._entries[key]

    def collect(self) -> None:
        """Drops what would start over anyway."""
        now = self._clock.now_ns()
        for key in [key for key, entry in self._entries.items() if now - entry.updated_ns > self._reset_ns]:
            del self._entries[key]


def container_key(pod: Pod, container: Container) -> str:
    """The key of a container's restarts: it changes with whatever may cure a container that fails."""
    resources = msgspec.json.encode(container.resources).decode()
    return "/".join((pod.metadata.uid, container.name, container.image, resources))


def image_key(pod: Pod, image: str) -> str:
    return f"{pod.metadata.uid}_{image}"


def restarting_message(pod: Pod, container: Container, delay: str) -> str:
    """The message of a container that waits in CrashLoopBackOff."""
    return f"back-off {delay} restarting failed container={container.name} pod={format_pod(pod)}"
