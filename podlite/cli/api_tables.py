"""Tables of API objects with kubectl's columns. Pure.

Source: k8s.io/cli-runtime/pkg/printers/tableprinter.go and k8s.io/kubectl/pkg/cmd/events/event_printer.go, 1.36.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from podlite.agent.printers.duration import age
from podlite.agent.printers.pods import NONE
from podlite.agent.printers.tables import COLUMNS, cells
from podlite.api.decode import from_builtins

if TYPE_CHECKING:
    from podlite.api.base import Object
    from podlite.cli.api import Kind

Plain = dict[str, Any]

EVENTS_HEADER = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]


def header(kind: Kind, *, wide: bool, namespaces: bool, labels: bool) -> list[str]:
    """The first line."""
    found = [each.name.upper() for each in COLUMNS[kind.kind] if wide or not each.priority]
    return [*(["NAMESPACE"] if namespaces else []), *found, *(["LABELS"] if labels else [])]


def row(kind: Kind, value: Plain, now_ns: int, *, wide: bool, namespaces: bool, labels: bool) -> list[str]:
    """One object's line."""
    every = zip(COLUMNS[kind.kind], cells(kind.kind, _typed(kind, value), now_ns), strict=True)
    found = [cell_text(str(cell)) for column, cell in every if wide or not column.priority]
    return _decorated(value, found, namespaces=namespaces, labels=labels)


def event_row(kind: Kind, value: Plain, now_ns: int, *, namespaces: bool) -> list[str]:
    """One line of `kubectl events`, which says how often something happened in how long a time."""
    event = _typed(kind, value)
    first = age(event.event_time or event.first_timestamp, now_ns)
    seen = first
    if event.series is not None:
        seen = f"{age(event.series.last_observed_time, now_ns)} (x{event.series.count} over {first})"
    elif event.count > 1:
        seen = f"{age(event.last_timestamp, now_ns)} (x{event.count} over {first})"
    about = event.involved_object
    found = [seen, event.type, event.reason, f"{about.kind}/{about.name}", event.message.strip()]
    return _decorated(value, [escaped(each) for each in found], namespaces=namespaces, labels=False)


def cell_text(text: str) -> str:
    """A cell has one line."""
    first = re.split(r"[\f\n\r]", text, maxsplit=1)[0]
    return escaped(first) + ("..." if first != text else "")


def escaped(text: str) -> str:
    """What a terminal takes for a command is shown instead."""
    return text.replace("\x1b", "^[").replace("\r", "\\r")


def _decorated(value: Plain, found: list[str], *, namespaces: bool, labels: bool) -> list[str]:
    meta = value["metadata"]
    shown = ",".join(f"{key}={text}" for key, text in sorted(meta.get("labels", {}).items())) or NONE
    return [*([meta.get("namespace", "")] if namespaces else []), *found, *([shown] if labels else [])]


def _typed(kind: Kind, value: Plain) -> Any:
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.events import Event
    from podlite.api.pod import Pod

    kinds: dict[str, type[Object]] = {"Pod": Pod, "Event": Event, "ConfigMap": ConfigMap, "Secret": Secret}
    return from_builtins(value, kinds[kind.kind])
