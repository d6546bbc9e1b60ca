"""podlite completion: the shells' completion, of commands, options and pods.

The script that is printed asks `podlite completion -- WORDS` for what may come next, so it never goes out of date.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from podlite.cli.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.runtime.spawner import Launched

WORDS_BEFORE_COMMAND = 1

# What an option or argument of this metavar takes.
_FILES = "files"
_PODS = ("POD", "pod/NAME", "KIND/NAME")

_BASH = """\
_podlite() {
    local IFS=$'\\n' words
    words=$(podlite completion -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    if [ "$words" = ":files" ]; then
        COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
        compopt -o filenames 2>/dev/null
    else
        COMPREPLY=($words)
    fi
}
complete -F _podlite podlite
"""
_ZSH = """\
#compdef podlite
_podlite() {
    local -a found
    found=("${(@f)$(podlite completion -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ "${found[1]}" == ":files" ]]; then
        _files
    else
        compadd -- "${found[@]}"
    fi
}
compdef _podlite podlite
"""
_FISH = """\
function __podlite
    set -l found (podlite completion -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c podlite -f -a '(__podlite)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite completion`."""
    parser.usage = "podlite completion bash|zsh|fish"
    parser.epilog = "For bash: source <(podlite completion bash), or its output in /etc/bash_completion.d/podlite"
    parser.add_argument(
        "shell", choices=[*SCRIPTS, ""], nargs="?", default="", help="the shell to print the script for"
    )


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the script, or what may come next; returns the exit status."""
    if arguments.shell:
        sys.stdout.write(SCRIPTS[arguments.shell])
        return 0
    found = complete(arguments.command or [""])
    sys.stdout.write("".join(f"{each}\n" for each in found))
    return 0


def complete(words: list[str]) -> list[str]:
    """What the last of the words, which is being typed, may become; `:files` for the name of a file."""
    *before, typed = words
    if not before:
        return _beginning(typed, [*VERBS, "help", "--help", "--version"])
    verb = VERBS.get(before[0])
    if verb is None:
        return []
    module = importlib.import_module(verb.module)
    parser = argparse.ArgumentParser(prog=f"podlite {before[0]}", add_help=True)
    module.add_arguments(parser)
    before = before[1:]
    if "--" in before:
        return [":files"]
    subparsers = next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)
    if subparsers is not None:
        if not before:
            return _beginning(typed, [*subparsers.choices, *(parser._option_string_actions if typed else ())])
        if before[0] in subparsers.choices:
            parser, before = subparsers.choices[before[0]], before[1:]
    known = parser._option_string_actions
    name, equals, value = typed.partition("=")
    if equals and name in known:
        return [f"{name}={each}" for each in _values(known[name], value, parser, before)]
    if before and before[-1] in known and known[before[-1]].nargs != 0:
        return _values(known[before[-1]], typed, parser, before[:-1])
    if typed.startswith("-"):
        return _beginning(typed, known)
    return _positional(parser, before, typed)


def _positional(parser: argparse.ArgumentParser, before: list[str], typed: str) -> list[str]:
    actions = [each for each in parser._actions if not each.option_strings]
    if not actions:
        return []
    given = _without_options(parser, before)
    for count, each in enumerate(actions):
        if each.nargs in ("*", "+") or count >= len(given):
            return _values(each, typed, parser, before)
    return [":files"]


def _without_options(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    known = parser._option_string_actions
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = "=" not in word and word in known and known[word].nargs != 0
        else:
            found.append(word)
    return found


def _values(action: argparse.Action, typed: str, parser: argparse.ArgumentParser, before: list[str]) -> list[str]:
    """What an option, or an argument in its place, may be."""
    if action.choices is not None:
        return _beginning(typed, map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar.startswith("json|"):
        return _beginning(
            typed, (name + equals for name, equals, _ in (each.partition("=") for each in metavar.split("|")))
        )
    if metavar == "KIND [NAME...]":
        from podlite.cli.api import KINDS

        if not _without_options(parser, before):
            return _beginning(typed, [*(each.resource for each in KINDS), *(f"pod/{each}" for each in pod_names())])
        return _beginning(typed, pod_names())
    if metavar in _PODS:
        slash = "pod/" if metavar != "POD" else ""
        return _beginning(typed, (f"{slash}{each}" for each in pod_names()))
    if metavar in ("FILE", "PATH", "DIR", "HOST:PATH[:ro]"):
        return [":files"]
    if metavar == "IMAGE":
        return _beginning(typed, image_names())
    return []


def _beginning(typed: str, words: Iterable[str]) -> list[str]:
    return sorted({each for each in words if each.startswith(typed)})


def pod_names() -> list[str]:
    """The names of the pods that are there."""
    from podlite.cli.directories import directories
    from podlite.errors import PodliteError

    try:
        from podlite.cli.pods import every_pod

        return [each.pod.metadata.name for each in every_pod(directories([], os.environ)["run-dir"])]
    except PodliteError:
        return []


def image_names() -> list[str]:
    """The names of the images that are in the store."""
    from podlite.cli.directories import directories
    from podlite.cri.errors import CRIError
    from podlite.runtime.image.store import ImageStore

    try:
        store = ImageStore(f"{directories([], os.environ)['state-dir']}/images")
        return [name for each in store.images() for name in each.names]
    except (CRIError, OSError):
        return []
