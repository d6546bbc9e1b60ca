"""podlite describe: a pod for a person, with its events, as `kubectl describe pod` prints it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from podlite.cli import options, pods

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite describe`."""
    parser.add_argument("pods", metavar="POD", nargs="+", help="NAME, NAMESPACE/NAME, or a uid or the beginning of one")
    pods.add_namespace(parser)
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the pods, with blank lines between them; returns the exit status."""
    from podlite.cli.describe_pod import describe_pod
    from podlite.kubelet.written_pods import read_events

    every = pods.every_pod(pods.run_dir(arguments))
    found = [pods.choose(every, word, arguments.namespace) for word in arguments.pods]
    now = time.time_ns()
    texts = [describe_pod(each.shown(), read_events(each.directory), now) for each in found]
    sys.stdout.write("\n\n".join(texts))
    sys.stdout.flush()
    return 0
