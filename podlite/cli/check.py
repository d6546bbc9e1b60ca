"""podlite check: what this machine and this user can and cannot do; with --fields what of a Pod is supported."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, terminal
from podlite.cli.table import format_table

if TYPE_CHECKING:
    from typing import Any

    from podlite.api.fields import Row
    from podlite.linux.facts import Fact
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite check`."""
    parser.epilog = (
        "Exit status: 0 if `podlite run` can work here, 1 if it cannot;"
        " with --network 1 if a way is not as it should be."
    )
    parser.add_argument("--fields", action="store_true", help="every field of a Pod, and whether it is supported")
    parser.add_argument("-o", "--output", choices=("json", "yaml"), help="another form than lines")
    parser.add_argument(
        "--network",
        nargs="?",
        choices=("builtin", "cni"),
        const="builtin",
        default="",
        help="make two pods and a stand-in for the rest of the world, and try who reaches whom (builtin)",
    )
    options.add_network_details(parser)
    options.add_directories(parser)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the facts; returns the exit status."""
    if arguments.fields:
        return _print_fields(arguments.output)
    if arguments.network:
        from podlite.cli.check_network import check_network

        return check_network(arguments)
    from podlite.linux import facts

    found = facts.facts(arguments.cgroup_root)
    works = facts.can_run(found)
    if arguments.output:
        _dump({"facts": [each._asdict() for each in found], "canRun": works}, arguments.output)
    else:
        _print_facts(found, works=works)
    return 0 if works else 1


_COLOURS = {"ok": "green", "degraded": "yellow", "missing": "red"}


def _print_facts(found: list[Fact], *, works: bool) -> None:
    colour = terminal.wants_colour(1)
    width = max(len(each.name) for each in found)
    for each in found:
        state = terminal.paint(f"{each.state:8}", _COLOURS[each.state], on=colour)
        said = (
            f"{each.detail}: {each.consequence}"
            if each.detail and each.consequence
            else each.detail or each.consequence
        )
        print(f"{state}  {each.name:{width}}  {said}".rstrip())
    degraded = sum(each.state == "degraded" for each in found)
    print()
    if not works:
        print("podlite run cannot work here: see what is missing above.")
    elif degraded:
        print(f"podlite run works here, with {degraded} restriction{'s' * (degraded > 1)}.")
    else:
        print("podlite run works here.")


def _print_fields(output: str | None) -> int:
    from podlite.api.fields import rows

    found = [{"path": each.path, "status": each.status, "reason": _reason(each)} for each in rows()]
    if output:
        _dump(found, output)
    else:
        table = [(each["path"], each["status"], each["reason"]) for each in found]
        sys.stdout.write(format_table(("FIELD", "STATUS", "REASON"), table))
    return 0


def _reason(row: Row) -> str:
    if not row.harmless:
        return row.reason
    values = [str(value).lower() if isinstance(value, bool) else str(value) for value in row.harmless]
    return f"{row.reason} (may be given as {', '.join(values)})"


def _dump(plain: Any, form: str) -> None:
    from podlite.api import encode

    text = encode.dump_json(plain) if form == "json" else encode.dump_yaml(plain)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
