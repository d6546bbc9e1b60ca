"""podlite delete: ends and removes pods, ConfigMaps and Secrets, as kubectl deletes them."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from podlite.cli import api, options, pods, terminal, values
from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.agent.client import Client
    from podlite.cli.api import Kind
    from podlite.runtime.spawner import Launched

    _Found = tuple[list[tuple[Kind, dict[str, Any]]], list[PodliteError]]
    _Find = Callable[[Client], _Found]

_FOREVER = 7 * 24 * 3600.0
# What is said after what would have been done.
_DRY_RUNS = {"none": "", "client": " (dry run)", "server": " (server dry run)"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite delete`."""
    parser.usage = (
        "podlite delete KIND NAME...|-l LABELS|--all [OPTIONS]\n       podlite delete KIND/NAME...\n"
        "       podlite delete -f FILE..."
    )
    parser.add_argument("what", metavar="KIND [NAME...]", nargs="*", help="what to delete, or KIND/NAME")
    parser.add_argument(
        "-f", "--filename", metavar="FILE", action="append", default=[], help="what this manifest describes; - is stdin"
    )
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help="the namespace (default)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="with -l: in all namespaces")
    api.add_selectors(parser)
    parser.add_argument("--all", action="store_true", help="all of the kind in the namespace")
    parser.add_argument(
        "--grace-period", type=int, metavar="SECONDS", default=-1, help="the time to end in (the pod's own)"
    )
    parser.add_argument("--now", action="store_true", help="as --grace-period=1")
    parser.add_argument("--force", action="store_true", help="with --grace-period=0: kill at once")
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there is no error")
    parser.add_argument("--timeout", type=values.duration, metavar="TIME", default=0.0, help="wait no longer than this")
    parser.add_argument(
        "--wait",
        type=values.truth,
        nargs="?",
        const=True,
        default=True,
        metavar="true|false",
        help="until it is gone (true)",
    )
    parser.add_argument(
        "--dry-run",
        choices=tuple(_DRY_RUNS),
        nargs="?",
        const="client",
        default="none",
        help="delete nothing, say what would be; server has the agent check it, too",
    )
    parser.add_argument("-o", "--output", choices=("name",), help="print names only")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Deletes, and waits for the end; returns the exit status."""
    grace = _grace(arguments)
    find = _find_described(arguments) if arguments.filename else _find_named(arguments)
    from podlite.agent.local_api import open_client

    with open_client(pods.run_dir(arguments)) as client:
        found, missing = find(client)
        failures = [] if arguments.ignore_not_found else list(missing)
        begun = []
        for kind, value in found:
            try:
                with api.server_errors():
                    _delete(client, kind, value, grace, arguments.dry_run)
            except PodliteError as error:
                failures.append(error)
                continue
            begun.append((kind, value))
            _say(kind, value, arguments)
        if arguments.wait and arguments.dry_run == "none" and not _wait(client, begun, arguments.timeout):
            failures.append(PodliteError("timed out waiting for the condition"))
    if not found and not missing:
        terminal.note("No resources found")
    for each in failures:
        terminal.error(each.message, hint=each.hint)
    return 1 if failures else 0


def _find_named(arguments: argparse.Namespace) -> _Find:
    """By kinds, and by names or selectors. Raises UsageError."""
    if not arguments.what:
        raise UsageError("say what to delete: KIND NAME, KIND/NAME, or -f FILE")
    chosen = api.chosen(arguments.what)
    if any(names for _, names in chosen) + bool(arguments.selector or arguments.field_selector) + arguments.all != 1:
        raise UsageError("say what to delete: by names, or by -l, --field-selector or --all")

    def find(client: Client) -> _Found:
        found: list[tuple[Kind, dict[str, Any]]] = []
        missing: list[PodliteError] = []
        for kind, names in chosen:
            there, absent = api.find_objects(client, kind, names, arguments)
            found += [(kind, value) for value in there]
            missing += absent
        return found, missing

    return find


def _find_described(arguments: argparse.Namespace) -> _Find:
    """By manifests: the pods of workloads, too. Raises ManifestError, UsageError."""
    if arguments.what or arguments.selector or arguments.field_selector or arguments.all:
        raise UsageError("-f and KIND, -l, --field-selector or --all exclude each other")
    from podlite.api.manifest import load_manifests
    from podlite.cli.run import read_manifest

    manifests = load_manifests([read_manifest(each) for each in arguments.filename], validate="ignore")

    def find(client: Client) -> _Found:
        found: list[tuple[Kind, dict[str, Any]]] = []
        missing: list[PodliteError] = []
        every: list[Any] = [*manifests.pods, *manifests.config_maps, *manifests.secrets]
        for each in every:
            kind = api.find_kind(each.kind)
            named = argparse.Namespace(namespace=each.metadata.namespace or arguments.namespace)
            there, absent = api.find_objects(client, kind, [each.metadata.name], named)
            found += [(kind, value) for value in there]
            missing += absent
        return found, missing

    return find


def _grace(arguments: argparse.Namespace) -> int | None:
    if arguments.now:
        if arguments.grace_period != -1:
            raise UsageError("--now and --grace-period cannot be specified together")
        return 1
    if arguments.force and arguments.grace_period > 0:
        raise UsageError("--force and --grace-period greater than 0 cannot be specified together")
    if arguments.force and arguments.grace_period < 0:
        return 0
    if arguments.grace_period == 0 and not arguments.force:
        return 1  # as kubectl: killing at once has to be forced
    return arguments.grace_period if arguments.grace_period >= 0 else None


def _delete(client: Client, kind: Kind, value: dict[str, Any], grace: int | None, dry_run: str) -> None:
    if dry_run == "client":
        return
    meta = value["metadata"]
    body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if meta.get("uid"):
        body["preconditions"] = {"uid": meta["uid"]}
    if grace is not None:
        body["gracePeriodSeconds"] = grace
    if dry_run == "server":
        body["dryRun"] = ["All"]
    client.request("DELETE", api.path(kind, meta.get("namespace", api.DEFAULT_NAMESPACE), meta["name"]), body)


def _say(kind: Kind, value: dict[str, Any], arguments: argparse.Namespace) -> None:
    meta = value["metadata"]
    if arguments.output == "name":
        print(f"{kind.singular}/{meta['name']}", flush=True)
    else:
        how = "force deleted" if arguments.force else "deleted"
        where = f"from {meta.get('namespace', 'default')} namespace{_DRY_RUNS[arguments.dry_run]}"
        print(f'{kind.singular} "{meta["name"]}" {how} {where}', flush=True)


def _wait(client: Client, objects: list[tuple[Kind, dict[str, Any]]], timeout: float) -> bool:
    """Until none is there any more; False when the time was up before. Raises PodliteError."""
    deadline = time.monotonic() + (timeout or _FOREVER)
    for kind, value in objects:
        meta = value["metadata"]
        uid = meta.get("uid")
        where = api.path(kind, meta.get("namespace", api.DEFAULT_NAMESPACE))
        since = api.version_of(client, where, meta["name"])

        def gone(event: dict[str, Any], uid: str | None = uid) -> bool:
            return bool(event["type"] == "DELETED" or event["object"]["metadata"].get("uid") != uid)

        if since and not api.watched(client, where, meta["name"], deadline, gone, since=since):
            return False
    return True
