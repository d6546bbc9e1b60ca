"""podlite get: pods and other objects, as kubectl gets them: a table, their text, or as they change."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from podlite.cli import api, options, pods, terminal
from podlite.cli.printer import Printer, add_output
from podlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podlite.agent.client import Client
    from podlite.cli.api import Kind
    from podlite.errors import PodliteError
    from podlite.runtime.spawner import Launched

    # Who prints it, what of which names was asked for, what there is, and what is missing.
    _Result = tuple[Printer, Kind, list[str], list[dict[str, Any]], list[PodliteError]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite get`."""
    parser.usage = (
        "podlite get pods|events|configmaps|secrets[,KIND...] [NAME...] [OPTIONS]\n       podlite get KIND/NAME..."
    )
    parser.add_argument("what", metavar="KIND [NAME...]", nargs="+", help="what to get, or KIND/NAME")
    api.add_namespaces(parser)
    api.add_selectors(parser)
    add_output(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="and then every change")
    parser.add_argument("--watch-only", action="store_true", help="changes only")
    parser.add_argument("--output-watch-events", action="store_true", help="with -w: the event's type before each")
    parser.add_argument("--show-labels", action="store_true", help="labels in the last column")
    parser.add_argument(
        "-L", "--label-columns", metavar="LABELS", type=_labels, default=[], help="a column for each of these labels"
    )
    parser.add_argument("--show-kind", action="store_true", help="the kind before each name")
    parser.add_argument("--sort-by", metavar="PATH", default="", help="in the order of this: .metadata.name")
    parser.add_argument("--no-headers", action="store_true", help="the table without its first line")
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there is no error")
    options.add_directories(parser, "run-dir")


def _labels(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the objects; returns the exit status."""
    chosen = api.chosen(arguments.what)
    several = len(chosen) > 1 or arguments.what[0] == "all"
    printers = [(Printer(kind, arguments, with_kind=several), kind, names) for kind, names in chosen]
    from podlite.agent.local_api import open_client

    with open_client(pods.run_dir(arguments)) as client:
        if arguments.watch or arguments.watch_only:
            if len(chosen) > 1:
                raise UsageError("you may only specify a single resource type to watch")
            return _watch(client, *printers[0], arguments)
        results = [(*each, *api.find_objects(client, *each[1:], arguments)) for each in printers]
    _print(results, arguments)
    missing = [error for *_, errors in results for error in errors]
    if arguments.ignore_not_found:
        return 0
    for error in missing:
        terminal.error(error.message)
    return 1 if missing else 0


def _print(results: list[_Result], arguments: argparse.Namespace) -> None:
    every = [value for _, _, _, found, _ in results for value in found]
    by_name = any(names for _, _, names, _, _ in results)
    if arguments.sort_by:
        from podlite.cli.sort_by import sorted_by

        every = sorted_by(every, arguments.sort_by)
    in_table = arguments.output in (None, "wide")
    if not every:
        if in_table and not by_name:
            where = api.namespace(arguments)
            terminal.note(f"No resources found in {where} namespace." if where else "No resources found")
        if in_table or by_name:
            return
    if not in_table:
        results[0][0].all(every, single=len(results) == 1 and len(results[0][2]) == 1)
        return
    tables = [(printer, [each for each in every if each["kind"] == kind.kind]) for printer, kind, *_ in results]
    for index, (printer, found) in enumerate(each for each in tables if each[1]):
        if index:
            print()
        printer.all(found, single=False)


def _watch(client: Client, printer: Printer, kind: Kind, names: list[str], arguments: argparse.Namespace) -> int:
    if len(names) > 1:
        raise UsageError("you may only specify a single object to watch")
    if arguments.sort_by:
        terminal.note("warning: --watch requested, --sort-by will be ignored")
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
