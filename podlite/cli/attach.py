"""podlite attach: our streams on a running container's own, through its pod's shim; leaving it leaves it running."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal
from podlite.errors import PodliteError

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite attach`."""
    parser.epilog = (
        "Exit status: the container's, if it ends meanwhile; Ctrl-C leaves it running, unless -it passes it on to the "
        "container's terminal."
    )
    pods.add_pod(parser)
    parser.add_argument("-c", "--container", metavar="NAME", default="", help="the container (the first one)")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="our terminal is the container's")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what the container says")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Attaches until the container ends, or we are ended; returns the exit status."""
    from podlite.cli.guest import running_container
    from podlite.kubelet.labels import find_container

    found = pods.find_pod(pods.run_dir(arguments), arguments.pod, arguments.namespace)
    name = pods.choose_container(found.pod, arguments.container, quiet=arguments.quiet)
    container_id = running_container(found, name)
    container = find_container(found.pod, name)
    assert container is not None
    if arguments.stdin and not container.stdin:
        raise PodliteError(
            f"container {name} has no standard input", hint="its manifest would have to say `stdin: true`"
        )
    if arguments.tty and not container.tty and not arguments.quiet:
        terminal.note(f"Unable to use a TTY - container {name} did not allocate one")
    import anyio

    return anyio.run(_attach, found, container, container_id, arguments)


async def _attach(found: WrittenPod, container: Container, container_id: str, arguments: argparse.Namespace) -> int:
    from podlite.cli.attachment import open_attachment
    from podlite.cli.debug_follow import StatusWatch
    from podlite.cli.exec_streams import Detachable, Session
    from podlite.cli.raw_terminal import RawTerminal, window_size

    raw = arguments.tty and container.tty and arguments.stdin and os.isatty(0)
    with StatusWatch(found, container.name) as watch:
        async with open_attachment(
            found, container_id, partial(watch.ended, container_id), tty=container.tty, stdin=arguments.stdin
        ) as attached:
            if raw:
                if not arguments.quiet:
                    terminal.note("If you don't see a command prompt, try pressing enter.")
                await attached.resize(*window_size(0))
            with RawTerminal(0) if raw else nullcontext():
                return await Session(Detachable(attached)).run()
