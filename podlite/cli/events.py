"""podlite events: what happened, to one pod or to all, as `kubectl events` lists it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from podlite.cli import api, options, pods, terminal
from podlite.cli.get import changes
from podlite.cli.printer import Printer, add_output
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite events`."""
    api.add_namespaces(parser)
    parser.add_argument("--for", metavar="pod/NAME", dest="about", default="", help="only those of this object")
    parser.add_argument("--types", metavar="TYPES", default="", help="only these types: Normal, Warning")
    parser.add_argument("-w", "--watch", action="store_true", help="and then each as it happens")
    add_output(parser)
    parser.add_argument("--no-headers", action="store_true", help="the table without its first line")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the events, the latest last; returns the exit status."""
    kind = api.find_kind("events")
    types = {each.strip().lower() for each in arguments.types.split(",") if each.strip()}
    unknown = types - {"normal", "warning"}
    if unknown:
        raise UsageError(f"valid --types are Normal or Warning, not {', '.join(sorted(unknown))}")
    arguments.field_selector = _fields(arguments.about)
    from podlite.agent.local_api import open_client

    printer = Printer(kind, arguments, intervals=True)
    with open_client(pods.run_dir(arguments)) as client:
        if arguments.watch:
            for event in changes(client, kind, [], arguments, initial=True):
                # One that is forgotten has not happened again.
                if event["type"] != "DELETED" and _wanted(event["object"], types):
                    printer.event(event["type"], event["object"])
            return 0
        found, _ = api.find_objects(client, kind, [], arguments)
    found = sorted([each for each in found if _wanted(each, types)], key=_last)
    if not found:
        where = api.namespace(arguments)
        terminal.note(f"No events found in {where} namespace." if where else "No events found.")
        return 0
    printer.all(found, single=False)
    return 0


def _fields(about: str) -> str:
    if not about:
        return ""
    kind, slash, name = about.partition("/")
    if not slash or not name:
        raise UsageError("--for must be in resource/name form", hint="for example: --for pod/web")
    return f"involvedObject.kind={api.find_kind(kind).kind},involvedObject.name={name}"


def _wanted(event: dict[str, Any], types: set[str]) -> bool:
    return not types or event.get("type", "").lower() in types


def _last(event: dict[str, Any]) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or ""
