"""podlite exec: another process in a running container, with our own streams or terminal."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched

# `exec POD COMMAND …`: what comes after the pod is the command's, options too.
WORDS_BEFORE_COMMAND = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite exec`."""
    parser.usage = "podlite exec [-it] POD [-c NAME] [--] COMMAND [ARGUMENT...]"
    parser.epilog = (
        "Exit status: the command's; 126 if it cannot be executed, 127 if it was not found, 125 if podlite cannot."
    )
    pods.add_pod(parser)
    parser.add_argument("-c", "--container", metavar="NAME", default="", help="the container (the first one)")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what the command says")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Runs the command; returns its exit status."""
    command: list[str] = arguments.command
    if not command:
        raise UsageError("there is no command to run", hint="podlite exec POD -- COMMAND")
    from podlite.cli.guest import running_container

    found = pods.find_pod(pods.run_dir(arguments), arguments.pod, arguments.namespace)
    name = pods.choose_container(found.pod, arguments.container, quiet=arguments.quiet)
    container_id = running_container(found, name)
    tty = arguments.tty
    if tty and arguments.stdin and not os.isatty(0):
        if not arguments.quiet:
            terminal.note("Unable to use a TTY - input is not a terminal or the right kind of file")
        tty = False
    import anyio

    from podlite.cri.errors import StartError

    if found.holder.runtime_endpoint:
        from podlite.cli.remote_pod import run_exec
    else:
        from podlite.cli.exec_streams import run_exec
    try:
        return anyio.run(run_exec, found, container_id, command, arguments.stdin, tty)
    except StartError as error:
        terminal.error(error.message, hint=error.hint)
        return error.exit_code
