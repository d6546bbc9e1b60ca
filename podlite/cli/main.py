"""The command line: finds the verb's module, reads its arguments, and turns errors into sentences and exit codes.

Each verb is a module of this package with `add_arguments(parser)` and `main(arguments, launched) -> int`; only the
one that is asked for is imported. podlite.cli.verbs has the table, podlite.cli.parser reads the arguments.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from podlite.cli import terminal
from podlite.cli.exit_status import CLOSED, INTERRUPTED, USAGE
from podlite.cli.parser import make_parser, nearest, read
from podlite.cli.verbs import VERBS, Verb
from podlite.errors import PodliteError, UsageError, explain, first_error
from podlite.version import __version__

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched


def main(argv: list[str], launched: Launched | None = None) -> int:
    """Carries out the command line; returns the exit status."""
    if argv[:1] == ["help"] and argv[1:]:
        argv = [*argv[1:], "--help"]
    if not argv:
        print(usage(), file=sys.stderr)
        return USAGE
    if argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("--version", "-V", "version"):
        print(f"podlite {__version__}")
        return 0
    verb = VERBS.get(argv[0])
    if verb is None:
        return _unknown(argv[0])
    module = importlib.import_module(verb.module)
    try:
        arguments = read(make_parser(argv[0], verb, module), module, argv[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    try:
        return int(module.main(arguments, launched) or 0)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
        return _failed(first_error(error), verb)


def _unknown(word: str) -> int:
    if word.startswith("-"):
        terminal.error(
            f"there is no option {word} before a command", hint="options come after it: podlite COMMAND [OPTIONS]"
        )
    else:
        near = nearest(word, VERBS)
        hint = f"did you mean {near!r}? `podlite --help` lists the commands" if near else "`podlite --help` lists them"
        terminal.error(f"there is no command {word!r}", hint=hint)
    return USAGE


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
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        # Python has no more of it than this sentence: EAGAIN, or what a filter answers.
        hint = (
            "the limit of processes may be reached (ulimit -u, pids.max); a filter that denies clone3 has to say ENOSYS"
        )
        terminal.error("podlite cannot start a thread: the kernel refuses it", hint=hint)
        return verb.failure
    import traceback

    traceback.print_exception(error)
    terminal.error("this is a mistake in podlite itself")
    return verb.failure


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
