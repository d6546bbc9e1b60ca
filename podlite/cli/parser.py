"""Reading command lines: argparse with complaints in podlite's form, and commands that have a command in them."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, NoReturn

from podlite.cli import terminal
from podlite.cli.exit_status import USAGE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from podlite.cli.verbs import Verb


# Go's strconv.ParseBool.
_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


def _width() -> int:
    """The terminal's width, but for the 2 columns that argparse leaves free."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns) - 2
    try:
        return (os.get_terminal_size(1).columns or 80) - 2
    except (OSError, ValueError, AttributeError):
        return 78


def make_parser(name: str, verb: Verb, module: ModuleType) -> Parser:
    """The parser of one verb; `module` is what `verb.module` names."""
    parser = Parser(
        prog=f"podlite {name}",
        description=sentence(verb.summary),
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def read(parser: Parser, module: ModuleType, argv: list[str]) -> argparse.Namespace:
    """The arguments of a verb. Raises SystemExit after --help and for what cannot be understood.

    A module with WORDS_BEFORE_COMMAND, or a function `words_before_command(argv)` that does not return None, has
    another command at the end of its own: `arguments.command` is that, without the `--` before it.
    """
    words = getattr(module, "WORDS_BEFORE_COMMAND", None)
    if hasattr(module, "words_before_command"):
        words = module.words_before_command(argv)
    if words is None:
        return parser.parse_args(argv)
    own, command = split_command(parser, argv, words)
    arguments = parser.parse_args(own)
    arguments.command = command
    return arguments


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """`-o, --output json|yaml` where argparse says it twice: `-o {json,yaml}, --output {json,yaml}`."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        value = f"[={value}]" if action.nargs == "?" else f" {value}"
        return f"{', '.join(action.option_strings)}{value}"


class Parser(argparse.ArgumentParser):
    """Complains in sentences, with what was probably meant."""

    def _get_formatter(self) -> argparse.HelpFormatter:
        # argparse makes one for every option that is added, and without a width each looks for the terminal's by way
        # of shutil, whose import takes 2 ms.
        return self.formatter_class(prog=self.prog, width=_width())  # type: ignore[call-arg]

    def error(self, message: str) -> NoReturn:
        terminal.error(_in_words(message), hint=f"`{self.prog} --help` says what there is")
        raise SystemExit(USAGE)

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        arguments: argparse.Namespace
        args = self._without_truths(args)
        if any(isinstance(each, argparse._SubParsersAction) for each in self._actions):
            arguments, unknown = self.parse_known_args(args, namespace)
        else:
            # `run a.yaml --keep b.yaml`: options between the words of a list.
            arguments, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            self._refuse(unknown, arguments)
        return arguments

    def _without_truths(self, words: Any) -> Any:
        """`--watch=true` is `--watch`, and `--watch=false` nothing, as with kubectl's flags."""
        found: list[str] = []
        rest = iter(words or ())
        for word in rest:
            if word == "--":
                return [*found, word, *rest]
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name) if equals and word.startswith("--") else None
            if not isinstance(action, argparse._StoreTrueAction):
                found.append(word)
            elif value.lower() in _TRUE:
                found.append(name)
            elif value.lower() not in _FALSE:
                self.error(f"argument {name}: it is true or false, not {value!r}")
        return found if words is not None else None

    def _refuse(self, unknown: list[str], arguments: argparse.Namespace) -> NoReturn:
        asked = self._asked(arguments)
        options = [each for each in unknown if each.startswith("-") and each != "-"]
        if not options:
            terminal.error(
                f"there is one argument too many: {unknown[0]!r}"
                if len(unknown) == 1
                else f"there are {len(unknown)} arguments too many: {' '.join(map(repr, unknown))}",
                hint=f"`{asked.prog} --help` says what there is",
            )
            raise SystemExit(USAGE)
        option = options[0].partition("=")[0]
        near = nearest(option, asked._option_string_actions)
        hint = f"did you mean {near}? " if near else ""
        terminal.error(f"there is no option {option}", hint=f"{hint}`{asked.prog} --help` says what there is")
        raise SystemExit(USAGE)

    def _asked(self, arguments: argparse.Namespace) -> argparse.ArgumentParser:
        """The parser of the command's own command, if it has some and one was given."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found = action.choices.get(str(getattr(arguments, action.dest, "")))
                if isinstance(found, argparse.ArgumentParser):
                    return found
        return self

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(each) for each in action.choices]
        near = nearest(str(value), choices)
        what = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest).lower()
        verdict = f"there is no {what} {value!r}" if not action.option_strings else f"{what} cannot be {value!r}"
        offer = f", did you mean {near!r}" if near else ""
        raise argparse.ArgumentError(None, f"{verdict}{offer}: it is one of {', '.join(choices)}")


def _in_words(message: str) -> str:
    """What argparse says, as a sentence. Pure."""
    missing = message.removeprefix("the following arguments are required: ")
    if missing != message:
        return f"{missing} {'are' if ',' in missing else 'is'} missing"
    option, colon, rest = message.removeprefix("argument ").partition(": ")
    if colon and rest == "expected one argument":
        return f"{option} needs a value"
    if message.startswith("argument ") and colon:
        return f"{option}: {rest}"
    return message


def nearest(word: str, words: Iterable[str]) -> str:
    """The one of `words` that `word` was probably meant to be; empty if none is like it. Pure."""
    import difflib

    found = difflib.get_close_matches(word, list(words), 1)
    return found[0] if found else ""


def sentence(summary: str) -> str:
    """The summary of a verb as a sentence."""
    return f"{summary[0].upper()}{summary[1:]}."


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
