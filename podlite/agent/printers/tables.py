"""Tables of objects: which columns each kind has, and an object's cells. Pure.

The columns, their types and their priorities are those of an API server; the descriptions are podlite's. A column with
a priority above 0 is for wide tables only.

Source: pkg/printers/internalversion/printers.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from podlite.agent.printers.duration import age
from podlite.agent.printers.pods import columns, wide_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.config import ConfigMap, Secret
    from podlite.api.events import Event
    from podlite.api.pod import Pod

Cell = str | int


class Column(NamedTuple):
    """metav1.TableColumnDefinition."""

    name: str
    description: str
    priority: int = 0
    type: str = "string"
    format: str = ""


_NAME = Column("Name", "the object's name, of which there is one in a namespace", format="name")
_AGE = Column("Age", "how long ago the object was created")

COLUMNS: dict[str, tuple[Column, ...]] = {
    "Pod": (
        _NAME,
        Column("Ready", "how many of the pod's containers are ready, of how many"),
        Column("Status", "what the pod's containers do, in a word"),
        Column("Restarts", "how often its containers were started again, and how long ago the last of them ended"),
        _AGE,
        Column("IP", "the pod's first address", 1),
        Column("Node", "the machine that the pod is on", 1),
        Column("Nominated Node", "the machine that is being made free for the pod", 1),
        Column("Readiness Gates", "how many of the pod's readiness gates are open, of how many", 1),
    ),
    "Event": (
        Column("Last Seen", "how long ago it happened the last time"),
        Column("Type", "Normal or Warning"),
        Column("Reason", "why it happened, in a word that does not change"),
        Column("Object", "what it happened to"),
        Column("Subobject", "the part of the object that it happened to", 1),
        Column("Source", "who tells of it", 1),
        Column("Message", "what happened, in a sentence"),
        Column("First Seen", "how long ago it happened the first time", 1),
        Column("Count", "how often it has happened", 1),
        _NAME._replace(priority=1),
    ),
    "ConfigMap": (_NAME, Column("Data", "how many keys it has"), _AGE),
    "Secret": (_NAME, Column("Type", "what the secret is for"), Column("Data", "how many keys it has"), _AGE),
}


def object_type(kind: str) -> type[Any]:
    """The class of the objects of a kind that there is a table of."""
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.events import Event
    from podlite.api.pod import Pod

    kinds: dict[str, type[Any]] = {"Pod": Pod, "Event": Event, "ConfigMap": ConfigMap, "Secret": Secret}
    return kinds[kind]


def cells(kind: str, value: Any, now_ns: int) -> list[Cell]:
    """An object's cells at `now_ns` nanoseconds since the epoch, one for each of the kind's columns."""
    return _PRINTERS[kind](value, now_ns)


def conditions(kind: str, value: Any) -> list[dict[str, str]]:
    """metav1.TableRowConditions: that a pod is over, so that it may be shown with less weight."""
    phase = value.status.phase if kind == "Pod" else ""
    if phase not in _OVER:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _OVER[phase]}]


_OVER = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}


def _pod(pod: Pod, now_ns: int) -> list[Cell]:
    return [pod.metadata.name, *columns(pod, now_ns), *wide_columns(pod)]


def _event(event: Event, now_ns: int) -> list[Cell]:
    first = age(event.first_timestamp or event.event_time, now_ns)
    last = age(event.last_timestamp, now_ns) if event.last_timestamp else first
    count = event.count or 1  # one of the new form that is no series has no count
    if event.series is not None:
        last, count = age(event.series.last_observed_time, now_ns), event.series.count
    about = event.involved_object
    kind = about.kind.lower()
    source = event.source.component or event.reporting_component
    host = event.source.host or event.reporting_instance
    return [
        last,
        event.type,
        event.reason,
        f"{kind}/{about.name}" if about.name else kind,
        about.field_path,
        f"{source}, {host}" if host else source,
        event.message.strip(),
        first,
        count,
        event.metadata.name,
    ]


def _config_map(value: ConfigMap, now_ns: int) -> list[Cell]:
    meta = value.metadata
    return [meta.name, len(value.data) + len(value.binary_data), age(meta.creation_timestamp, now_ns)]


def _secret(value: Secret, now_ns: int) -> list[Cell]:
    meta = value.metadata
    return [meta.name, value.type, len(value.data), age(meta.creation_timestamp, now_ns)]


_PRINTERS: dict[str, Callable[[Any, int], list[Cell]]] = {
    "Pod": _pod,
    "Event": _event,
    "ConfigMap": _config_map,
    "Secret": _secret,
}
