"""The command line: finds the verb's module, reads its arguments, and turns errors into sentences and exit codes.

Each verb is a module of this package with `SUMMARY`, `add_arguments(parser)` and `main(arguments, launched) -> int`;
only the one that is asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from podlite.cli import terminal
from podlite.cli.exit_status import CLOSED, INTERRUPTED, USAGE
from podlite.cli.verbs import VERBS, Verb
from podlite.errors import PodliteError, UsageError, explain
from podlite.version import __version__

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched


def main(argv: list[str], launched: Launched | None = None) -> int:
    """Carries out the command line; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] in ("--version", "version"):
        print(f"podlite {__version__}")
        return 0
    verb = VERBS.get(argv[0])
    if verb is None:
        terminal.error(f"there is no command {argv[0]!r}", hint=_nearest(argv[0]))
        return 2
    module = importlib.import_module(verb.module)
    parser = Parser(prog=f"podlite {argv[0]}", description=_sentence(verb.summary), allow_abbrev=False)
    module.add_arguments(parser)
    words_before_command = getattr(module, "WORDS_BEFORE_COMMAND", None)
    try:
        if words_before_command is None:
            arguments = parser.parse_args(argv[1:])
        else:
            own, command = split_command(parser, argv[1:], words_before_command)
            arguments = parser.parse_args(own)
            arguments.command = command
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    try:
        return int(module.main(arguments, launched) or 0)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
        return _failed(_first(error), verb)


def _first(error: BaseException) -> BaseException:
    """What tasks failed with, without the groups around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _failed(error: BaseException, verb: Verb) -> int:
    """Says what went wrong; returns the exit status."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has seen enough; Python would complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, PodliteError):
        terminal.error(error.message, hint=error.hint)
        return USAGE if isinstance(error, UsageError) else verb.failure
    if isinstance(error, PermissionError):
        terminal.error(explain(error), hint="podlite works on namespaces and mounts: run it as root")
        return verb.failure
    if isinstance(error, OSError):
        terminal.error(explain(error))
        return verb.failure
    import traceback

    traceback.print_exception(error)
    terminal.error("this is a mistake in podlite itself")
    return verb.failure


class Parser(argparse.ArgumentParser):
    """Complains in podlite's own form."""

    def error(self, message: str) -> NoReturn:
        terminal.error(message, hint=f"`{self.prog} --help` says what there is")
        raise SystemExit(2)


def split_command(parser: argparse.ArgumentParser, argv: list[str], words: int) -> tuple[list[str], list[str]]:
    """(podlite's own part of a command line, the command that it is to run): the part after `--` or, without that,
    after the `words`th word that is no option. Pure."""
    own: list[str] = []
    rest = iter(range(len(argv)))
    for index in rest:
        word = argv[index]
        if word == "--":
            return own, argv[index + 1 :]
        if word.startswith("-") and word != "-":
            own.append(word)
            if _value_follows(parser, word) and index + 1 < len(argv):
                own.append(argv[index + 1])
                next(rest)
        elif words:
            own.append(word)
            words -= 1
        else:
            return own, argv[index:]
    return own, []


def _value_follows(parser: argparse.ArgumentParser, word: str) -> bool:
    """Whether an option has its value in the next word."""
    known = parser._option_string_actions
    if word.startswith("--"):
        return word in known and known[word].nargs != 0
    # Several in one word: the first that takes a value takes the rest of the word, if there is any.
    for place, letter in enumerate(word[1:], 2):
        action = known.get(f"-{letter}")
        if action is None or action.nargs != 0:
            return action is not None and place == len(word)
    return False


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def usage() -> str:
    """What `podlite --help` prints."""
    lines = ["usage: podlite COMMAND [ARGUMENTS]", "", __doc_head, ""]
    group = ""
    width = max(len(name) for name in VERBS) + 2
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            lines += ["", f"{group}:"]
        lines.append(f"  {name:{width}}{verb.summary}")
    lines += ["", "`podlite COMMAND --help` says more about each."]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


__doc_head = "Runs Kubernetes Pods on this machine, without a cluster, daemon or container engine."


def _nearest(word: str) -> str:
    import difflib

    found = difflib.get_close_matches(word, VERBS, 1)
    return f"did you mean {found[0]!r}? `podlite --help` lists the commands" if found else "`podlite --help` lists them"
