"""podlite get: pods and other objects, as kubectl gets them: a table, their text, or as they change."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from podlite.cli import api, options, pods, terminal
from podlite.cli.table import format_table
from podlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podlite.agent.client import Client
    from podlite.cli.api import Kind
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite get`."""
    parser.usage = "podlite get pods|events|configmaps|secrets [NAME...] [OPTIONS]\n       podlite get pod/NAME..."
    parser.add_argument("what", metavar="KIND [NAME...]", nargs="+", help="what to get, or KIND/NAME")
    api.add_namespaces(parser)
    api.add_selectors(parser)
    parser.add_argument("-o", "--output", choices=("wide", "json", "yaml", "name"), help="another form than the table")
    parser.add_argument("-w", "--watch", action="store_true", help="and then every change")
    parser.add_argument("--watch-only", action="store_true", help="changes only")
    parser.add_argument("--output-watch-events", action="store_true", help="with -w: the event's type before each")
    parser.add_argument("--show-labels", action="store_true", help="labels in the last column")
    parser.add_argument("--no-headers", action="store_true", help="the table without its first line")
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there is no error")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the objects; returns the exit status."""
    kind, names = api.named(arguments.what)
    from podlite.agent.local_api import open_client

    with open_client(pods.run_dir(arguments)) as client:
        if arguments.watch or arguments.watch_only:
            return _watch(client, kind, names, arguments)
        found, missing = api.find_objects(client, kind, names, arguments)
    printer = Printer(kind, arguments)
    if found or (arguments.output in ("json", "yaml") and not names):
        printer.all(found, single=len(names) == 1)
    elif not names and arguments.output != "name":
        where = api.namespace(arguments)
        terminal.note(f"No resources found in {where} namespace." if where else "No resources found")
    if arguments.ignore_not_found:
        return 0
    for error in missing:
        terminal.error(error.message)
    return 1 if missing else 0


def _watch(client: Client, kind: Kind, names: list[str], arguments: argparse.Namespace) -> int:
    if len(names) > 1:
        raise UsageError("you may only specify a single object to watch")
    printer = Printer(kind, arguments)
    for event in changes(client, kind, names, arguments, initial=not arguments.watch_only):
        printer.event(event["type"], event["object"])
    return 0


def changes(
    client: Client, kind: Kind, names: list[str], arguments: argparse.Namespace, *, initial: bool
) -> Iterator[dict[str, Any]]:
    """The events of a watch; `initial` has what there is come first, as ADDED. Raises PodliteError."""
    fields = getattr(arguments, "field_selector", "")
    if names:
        fields = ",".join([*([fields] if fields else []), f"metadata.name={names[0]}"])
    where = api.path(kind, api.namespace(arguments))
    selectors: dict[str, Any] = {
        "labelSelector": getattr(arguments, "selector", "") or None,
        "fieldSelector": fields or None,
    }
    with api.server_errors():
        listed = client.request("GET", where, **selectors)
        if names and not listed["items"] and initial:
            client.request("GET", api.path(kind, api.namespace(arguments) or api.DEFAULT_NAMESPACE, names[0]))
        for value in listed["items"] if initial else ():
            yield {"type": "ADDED", "object": value}
        version = listed["metadata"]["resourceVersion"]
        yield from client.watch(where, resourceVersion=version, **selectors)


class Printer:
    """Prints objects in the form that was asked for."""

    def __init__(self, kind: Kind, arguments: argparse.Namespace, *, intervals: bool = False) -> None:
        """With `intervals` the table of events is that of `kubectl events`."""
        self._kind = kind
        self._intervals = intervals and arguments.output != "wide"
        self._output = arguments.output
        self._events = getattr(arguments, "output_watch_events", False)
        self._with_header = not arguments.no_headers
        self._form = {
            "wide": arguments.output == "wide",
            "namespaces": arguments.all_namespaces,
            "labels": getattr(arguments, "show_labels", False),
        }
        self._widths: list[int] = []

    def all(self, found: list[dict[str, Any]], *, single: bool) -> None:
        """What was got: one object as it is, several as a List."""
        if self._output in ("json", "yaml"):
            whole = {"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"resourceVersion": ""}}
            self._text(found[0] if single and len(found) == 1 else whole)
        elif self._output == "name":
            _write("".join(f"{self._kind.singular}/{each['metadata']['name']}\n" for each in found))
        else:
            rows = [self._row(each) for each in found]
            _write(format_table(self._header(), rows, with_header=self._with_header))

    def event(self, type: str, value: dict[str, Any]) -> None:
        """One change, at once; the columns grow as they must."""
        if self._output in ("json", "yaml"):
            self._text({"type": type, "object": value} if self._events else value)
            return
        if self._output == "name":
            _write(f"{self._kind.singular}/{value['metadata']['name']}\n")
            return
        lines = [[type, *self._row(value)] if self._events else self._row(value)]
        if not self._widths and self._with_header:
            lines.insert(0, ["EVENT", *self._header()] if self._events else self._header())
        for line in lines:
            self._widths = [max(pair) for pair in zip(self._widths or [0] * len(line), map(len, line), strict=True)]
        text = "".join(
            "   ".join(cell.ljust(width) for cell, width in zip(line, self._widths, strict=True)).rstrip() + "\n"
            for line in lines
        )
        _write(text)

    def _header(self) -> list[str]:
        from podlite.cli.api_tables import EVENTS_HEADER, header

        if self._intervals:
            return [*(["NAMESPACE"] if self._form["namespaces"] else []), *EVENTS_HEADER]
        return header(self._kind, **self._form)

    def _row(self, value: dict[str, Any]) -> list[str]:
        from podlite.cli.api_tables import event_row, row

        if self._intervals:
            return event_row(self._kind, value, time.time_ns(), namespaces=self._form["namespaces"])
        return row(self._kind, value, time.time_ns(), **self._form)

    def _text(self, plain: Any) -> None:
        from podlite.api import encode

        if self._output == "json":
            _write(encode.dump_json(plain) + "\n")
        else:
            _write(encode.dump_yaml(plain))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
