"""podlite describe: a pod for a person, with its events, as `kubectl describe pod` prints it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite describe`."""
    parser.usage = "podlite describe POD... [OPTIONS]\n       podlite describe pods [NAME...] [-l LABELS] [OPTIONS]"
    parser.add_argument("pods", metavar="POD", nargs="*", help="NAME, NAMESPACE/NAME, or a uid or the beginning of one")
    pods.add_namespace(parser)
    pods.add_selector(parser)
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the pods, with blank lines between them; returns the exit status."""
    from podlite.cli.describe_pod import describe_pod
    from podlite.kubelet.written_pods import read_events

    found = _selected(pods.every_pod(pods.run_dir(arguments)), arguments)
    if not found:
        terminal.note("No resources found")
    now = time.time_ns()
    texts = [describe_pod(each.shown(), read_events(each.directory), now) for each in found]
    sys.stdout.write("\n\n".join(texts))
    sys.stdout.flush()
    return 0


def _selected(every: list[WrittenPod], arguments: argparse.Namespace) -> list[WrittenPod]:
    """Raises UsageError, PodNotFoundError."""
    words: list[str] = arguments.pods
    # `describe pod web`: the kind, unless a pod is called that.
    kind_said = bool(words) and words[0] in pods.KINDS and not pods.matching(every, words[0], arguments.namespace)
    names = words[1:] if kind_said else words
    if names and arguments.selector:
        raise UsageError("names and -l exclude each other")
    if names:
        return [pods.choose(every, word, arguments.namespace) for word in names]
    if not kind_said and not arguments.selector:
        raise UsageError("say what to describe: a pod's name, `pods` for all, or -l LABELS")
    return pods.selected(every, arguments.selector, arguments.namespace)
