"""The command line: finds the verb's module, reads its arguments, and turns errors into sentences and exit codes.

Each verb is a module of this package with `SUMMARY`, `add_arguments(parser)` and `main(arguments, launched) -> int`;
only the one that is asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from podlite.cli import terminal
from podlite.cli.verbs import VERBS
from podlite.errors import PodliteError, PrivilegeError, UsageError, explain
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
    parser = argparse.ArgumentParser(prog=f"podlite {argv[0]}", description=verb.summary, allow_abbrev=False)
    module.add_arguments(parser)
    try:
        arguments = parser.parse_args(argv[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    try:
        return int(module.main(arguments, launched) or 0)
    except UsageError as error:
        terminal.error(error.message, hint=error.hint)
        return 2
    except PodliteError as error:
        terminal.error(error.message, hint=error.hint)
        return verb.failure
    except PermissionError as error:
        wrapped = PrivilegeError(explain(error), hint="podlite works on namespaces and mounts: run it as root")
        terminal.error(wrapped.message, hint=wrapped.hint)
        return verb.failure
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        terminal.error(explain(error))
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


def _nearest(word: str) -> str:
    import difflib

    found = difflib.get_close_matches(word, VERBS, 1)
    return f"did you mean {found[0]!r}? `podlite --help` lists the commands" if found else "`podlite --help` lists them"
