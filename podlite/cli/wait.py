"""podlite wait: returns when pods are as they should be, as `kubectl wait` does."""

from __future__ import annotations

import argparse
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from podlite.cli import api, options, pods, terminal, values
from podlite.cli.jsonpath import JsonPathError, relaxed, text_of
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.agent.client import Client
    from podlite.cli.api import Kind
    from podlite.runtime.spawner import Launched

_FOREVER = 7 * 24 * 3600.0  # what kubectl makes of a negative time


class Condition(NamedTuple):
    """`how` is condition, jsonpath, delete or create; `key` a condition's type, or a path."""

    how: str
    key: str = ""
    value: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite wait`."""
    parser.usage = "podlite wait --for=CONDITION pod/NAME...|pods -l LABELS|--all [OPTIONS]"
    parser.epilog = (
        "CONDITION is delete, create, condition=TYPE[=STATUS], or jsonpath={.PATH}[=VALUE]: "
        "condition=Ready, jsonpath='{.status.phase}'=Succeeded"
    )
    parser.add_argument("what", metavar="KIND/NAME", nargs="+", help="what to wait for")
    parser.add_argument("--for", metavar="CONDITION", dest="condition", required=True, help="what it has to be")
    api.add_namespaces(parser)
    api.add_selectors(parser)
    parser.add_argument("--all", action="store_true", help="all of the kind")
    parser.add_argument("--timeout", type=_timeout, metavar="TIME", default=30.0, help="give up after this (30s)")
    options.add_directories(parser, "run-dir")


def _timeout(text: str) -> float:
    return _FOREVER if text.startswith("-") else values.duration(text)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Waits; returns the exit status."""
    condition = read_condition(arguments.condition)
    kind, names = api.named(arguments.what)
    if not names and not (arguments.all or arguments.selector or arguments.field_selector):
        raise UsageError("say what to wait for: by names, or by -l, --field-selector or --all")
    deadline = time.monotonic() + arguments.timeout
    from podlite.agent.local_api import open_client

    with open_client(pods.run_dir(arguments)) as client:
        if condition.how == "create":
            return _wait_created(client, kind, names, arguments, deadline)
        found, missing = api.find_objects(client, kind, names, arguments)
        if condition.how == "delete":
            missing = []
        elif not found and not missing:
            terminal.error("no matching resources found")
            return 1
        failed = bool(missing)
        for error in missing:
            terminal.error(error.message)
        for value in found:
            if _wait(client, kind, value, condition, deadline):
                how = "deleted" if condition.how == "delete" else "condition met"
                print(f"{kind.singular}/{value['metadata']['name']} {how}", flush=True)
            else:
                terminal.error(f"timed out waiting for the condition on {kind.resource}/{value['metadata']['name']}")
                failed = True
    return 1 if failed else 0


def _wait_created(client: Client, kind: Kind, names: list[str], arguments: argparse.Namespace, deadline: float) -> int:
    if not names:
        raise UsageError("--for=create needs a name")
    status = 0
    for name in names:
        where = api.path(kind, api.namespace(arguments) or api.DEFAULT_NAMESPACE)
        if api.watched(client, where, name, deadline, lambda event: event["type"] != "DELETED"):
            print(f"{kind.singular}/{name} condition met", flush=True)
        else:
            terminal.error(f"timed out waiting for the condition on {kind.resource}/{name}")
            status = 1
    return status


def _wait(client: Client, kind: Kind, value: dict[str, Any], condition: Condition, deadline: float) -> bool:
    """False when the time is up. Raises PodliteError."""
    meta = value["metadata"]
    if condition.how != "delete" and is_met(condition, value):
        return True

    def decide(event: dict[str, Any]) -> bool:
        now = event["object"]
        gone = event["type"] == "DELETED" or now["metadata"].get("uid") != meta.get("uid")
        return gone if condition.how == "delete" else not gone and is_met(condition, now)

    where = api.path(kind, meta.get("namespace", api.DEFAULT_NAMESPACE))
    since = api.version_of(client, where, meta["name"]) if condition.how == "delete" else "0"
    return not since or api.watched(client, where, meta["name"], deadline, decide, since=since)


def read_condition(text: str) -> Condition:
    """What `--for` says. Pure. Raises UsageError."""
    if text in ("delete", "create"):
        return Condition(text)
    how, _, rest = text.partition("=")
    if how == "condition" and rest:
        type, _, status = rest.partition("=")
        return Condition("condition", type.lower(), (status or "True").lower())
    if how == "jsonpath" and rest:
        # A path in braces may have `=` and quotes in a filter; what is around braces may have quotes, too.
        found = re.fullmatch(r"(\{.+\})(?:=(.*))?|(\.[^={}]+)(?:=(.*))?", rest.strip("'"), re.DOTALL)
        found = found or re.fullmatch(r"'?(\{.+\})'?(?:=(.*))?", rest, re.DOTALL)
        if found is not None:
            groups = [each for each in found.groups() if each is not None]
            relaxed(groups[0])
            return Condition("jsonpath", groups[0], groups[1].strip("'") if len(groups) > 1 else None)
    raise UsageError(f"unrecognized condition: {text!r}", hint="`podlite wait --help` says what there is")


def is_met(condition: Condition, value: dict[str, Any]) -> bool:
    """Whether an object is as it should be. Pure."""
    if condition.how == "condition":
        return any(
            each["type"].lower() == condition.key and each["status"].lower() == condition.value
            for each in value.get("status", {}).get("conditions", ())
        )
    try:
        found = [text_of(each) for each in relaxed(condition.key).find(value) if each is not None]
    except JsonPathError:
        return False  # what it leads through is not there yet
    if condition.value is None:
        return bool(found)
    return len(found) == 1 and found[0].strip() == condition.value.strip()
