"""The page of the documentation that has every command and option: `python -m podlite.cli.docs_page FILE`.

Made of the parsers themselves, so that what it says is what there is.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from podlite.api.fields_page import write_page
from podlite.cli import options
from podlite.cli.directories import DEFAULTS, variable
from podlite.cli.exit_status import TABLE
from podlite.cli.parser import make_parser
from podlite.cli.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD = """# The command line

Written by `python -m podlite.cli.docs_page docs/cli.md` from the commands' own parsers; do not edit.
`podlite COMMAND --help` prints the same.

Every command works from any terminal, on what any podlite of this machine runs: pods are found in the run directory,
and there is no daemon. A pod is named `NAME`, `NAMESPACE/NAME`, or by its uid or the beginning of one. Output that is
asked for goes to standard output; what podlite says itself goes to standard error, an error as `podlite: SENTENCE`
and, where there is something to do about it, a line `hint: …`. Colours are for terminals only (`NO_COLOR` is heeded).

A failure of podlite itself is exit status 1, and 125 for commands whose other statuses belong to what they run (`run`,
`exec`, `nsenter`). A command line that is not understood is 2.
"""

_STATUS_HEAD = """
## The exit status of `podlite run`

| status | meaning |
|---|---|
"""

_SHARED_HEAD = """
## Options that several commands share
"""

_ENVIRONMENT = """
The directories can also be set in the environment, by {variables}.
"""


# What argparse calls the groups that every parser has.
_UNTITLED = ("positional arguments", "options")


def markdown() -> str:
    """The page."""
    parts = [_HEAD]
    groups: dict[str, list[argparse.Action]] = {}
    for name, verb in VERBS.items():
        parser = make_parser(name, verb, importlib.import_module(verb.module))
        parts += _command(parser, groups, level=2)
        if name == "run":
            parts += [_STATUS_HEAD, *(f"| {status} | {meaning} |\n" for status, meaning in TABLE)]
    parts.append(_SHARED_HEAD)
    for title in options.SHARED:
        if title in groups:
            parts += [f"\n### {_heading(title)}\n", *_table(groups[title])]
    names = ", ".join(f"`{variable(name)}`" for name in DEFAULTS)
    return "".join([*parts, _ENVIRONMENT.format(variables=names)])


def _command(parser: argparse.ArgumentParser, groups: dict[str, list[argparse.Action]], level: int) -> Iterator[str]:
    """One command, and below it its own commands; puts the options that it shares with others into `groups`."""
    yield f"\n{'#' * level} `{parser.prog}`\n\n{parser.description}\n\n```\n{_usage(parser)}\n```\n"
    shared: list[str] = []
    commands: list[argparse.ArgumentParser] = []
    untitled: list[argparse.Action] = []
    titled: list[str] = []
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if not isinstance(each, argparse._HelpAction)]
        for action in [each for each in actions if isinstance(each, argparse._SubParsersAction)]:
            commands += action.choices.values()
            actions.remove(action)
        if group.title in options.SHARED:
            known = groups.setdefault(str(group.title), [])
            known += [each for each in actions if each.dest not in {one.dest for one in known}]
            shared += [each.option_strings[-1] for each in actions]
        elif group.title in _UNTITLED:
            untitled += actions
        elif actions:
            titled += [f"\n{_heading(str(group.title))}:\n", *_table(actions)]
    if untitled:
        yield from _table(untitled)
    yield from titled
    if shared:
        names = ", ".join(f"`{each}`" for each in shared)
        yield f"\nAnd of the [shared options](#options-that-several-commands-share): {names}.\n"
    if parser.epilog and "exit status:" not in parser.epilog:
        yield f"\n```text\n{parser.epilog.strip()}\n```\n"
    for command in commands:
        yield from _command(command, groups, level + 1)


def _usage(parser: argparse.ArgumentParser) -> str:
    if parser.usage:
        return "\n".join(line.strip() for line in parser.usage.splitlines())
    words = [parser.prog]
    if any(each.option_strings and not isinstance(each, argparse._HelpAction) for each in parser._actions):
        words.append("[OPTIONS]")
    for each in parser._actions:
        if not each.option_strings:
            name = str(each.metavar or each.dest)
            words.append({"*": f"[{name}...]", "+": f"{name}...", "?": f"[{name}]"}.get(str(each.nargs), name))
    return " ".join(words)


def _table(actions: Iterable[argparse.Action]) -> Iterator[str]:
    yield "\n| | |\n|---|---|\n"
    for each in actions:
        text = (each.help or "").replace("|", "\\|")
        yield f"| {_names(each)} | {text} |\n"


def _names(action: argparse.Action) -> str:
    """`-o`, `--output json|yaml`."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = str(value).replace("|", "\\|")
    if not action.option_strings:
        return f"`{value}`"
    takes = {0: "", "?": f"[={value}]"}.get(action.nargs or ("" if action.nargs is None else 0), f" {value}")
    *others, last = action.option_strings
    return ", ".join([*(f"`{each}`" for each in others), f"`{last}{takes}`"])


def _heading(title: str) -> str:
    return f"{title[0].upper()}{title[1:]}"


def main(arguments: list[str]) -> int:
    """See `write_page`."""
    return write_page("podlite.cli.docs_page", markdown(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
