"""Tables of API objects with kubectl's columns. Pure.

Source: k8s.io/cli-runtime/pkg/printers/tableprinter.go and k8s.io/kubectl/pkg/cmd/events/event_printer.go, 1.36.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict

from podlite.agent.printers.duration import age
from podlite.agent.printers.pods import NONE
from podlite.agent.printers.tables import COLUMNS, cells, object_type
from podlite.api.decode import from_builtins
from podlite.cli.jsonpath import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.cli.api import Kind

Plain = dict[str, Any]

EVENTS_HEADER = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]


class Form(TypedDict):
    """What of a table is shown: columns of wide tables, the namespace first, labels last, kinds before names."""

    wide: bool
    namespaces: bool
    labels: bool
    label_columns: Sequence[str]
    with_kind: bool


def header(kind: Kind, form: Form) -> list[str]:
    """The first line."""
    found = [each.name.upper() for each in COLUMNS[kind.kind] if form["wide"] or not each.priority]
    chosen = [each.rpartition("/")[2].upper() for each in form["label_columns"]]
    return [*(["NAMESPACE"] if form["namespaces"] else []), *found, *chosen, *(["LABELS"] if form["labels"] else [])]


def row(kind: Kind, value: Plain, now_ns: int, form: Form) -> list[str]:
    """One object's line."""
    meta = value["metadata"]
    prefix = f"{kind.singular}/" if form["with_kind"] else ""
    found = [
        cell_text(f"{prefix if column.format == 'name' else ''}{cell}")
        for column, cell in zip(COLUMNS[kind.kind], cells(kind.kind, _typed(kind, value), now_ns), strict=True)
        if form["wide"] or not column.priority
    ]
    labels = meta.get("labels", {})
    found += [labels.get(each, NONE) for each in form["label_columns"]]
    if form["labels"]:
        found.append(",".join(f"{key}={text}" for key, text in sorted(labels.items())) or NONE)
    return [*([meta.get("namespace", "")] if form["namespaces"] else []), *found]


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
    return [*([value["metadata"].get("namespace", "")] if namespaces else []), *map(escaped, found)]


def custom_cell(found: list[Any]) -> str:
    """A cell of -o custom-columns: what its path leads to."""
    return ",".join(escaped(go_text(each)) for each in found) or NONE


def go_text(value: Any) -> str:
    """As Go's fmt prints a value with %v."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(each)}' for key, each in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    return "<nil>" if value is None else text_of(value)


def cell_text(text: str) -> str:
    """A cell has one line."""
    first = re.split(r"[\f\n\r]", text, maxsplit=1)[0]
    return escaped(first) + ("..." if first != text else "")


def escaped(text: str) -> str:
    """What a terminal takes for a command is shown instead."""
    return text.replace("\x1b", "^[").replace("\r", "\\r")


def _typed(kind: Kind, value: Plain) -> Any:
    return from_builtins(value, object_type(kind.kind))
