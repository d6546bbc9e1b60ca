"""podlite bench: how fast pod sandboxes come and go, on this machine, with the peers in the same run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, terminal
from podlite.cli.exit_status import INTERRUPTED, TERMINATED
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.agent.node import NodeOptions
    from podlite.bench.plan import Settings
    from podlite.bench.results import ReportFile
    from podlite.bench.run import Outcome
    from podlite.runtime.spawner import Launched

SUMMARY = "measure how fast pod sandboxes come and go, beside other runtimes"

_EPILOG = """scenarios, each a rung of the ladder:
  floor    unshare, bind mount, restore, and its unmount, in a tight loop: what the kernel takes
  netns    a pinned network namespace     sandbox  a pod sandbox      pod   a one-shot pod, whole
  exec     a process in a container       restart  a container in a ready sandbox

peers (--vs, more than once; NAME:PATH for a program that is not on the PATH):
  ip, unshare, cni, runc, crun, bwrap, podman, cri:unix:///run/containerd/containerd.sock

All times are milliseconds. Everything that is compared runs interleaved, in rounds. docs/bench.md says how each
figure is measured. Exit status: 0; 1 an operation failed, or something was left behind; 130 ended by Ctrl-C.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite bench`."""
    parser.usage = "podlite bench SCENARIO... [OPTIONS]\n       podlite bench --compare OLD.json NEW.json"
    parser.epilog = _EPILOG
    parser.add_argument("scenarios", metavar="SCENARIO", nargs="*", help="floor, netns, sandbox, pod, exec, restart")
    how_much = parser.add_argument_group("how much")
    how_much.add_argument("--count", type=int, default=200, metavar="N", help="operations of each case (200)")
    how_much.add_argument("--duration", type=float, default=0.0, metavar="S", help="instead: seconds for each case")
    how_much.add_argument("--rounds", type=int, default=5, metavar="N", help="in so many interleaved rounds (5)")
    how_much.add_argument("--warm-up", type=int, default=10, metavar="N", help="operations before that (10)")
    how_much.add_argument("--rest", type=float, default=0.0, metavar="S", help="rest before each case of a round")
    load = parser.add_argument_group("load")
    load.add_argument("--concurrency", type=int, default=1, metavar="C", help="operations at a time (1)")
    load.add_argument("--sweep", type=_numbers, metavar="C,C,...", help="several concurrencies: 1,2,4,8")
    load.add_argument("--rate", type=float, default=0.0, metavar="R", help="open loop: R arrivals per second")
    load.add_argument(
        "--live",
        type=_numbers,
        default=(0,),
        metavar="N",
        help="keep N sandboxes or pods alive meanwhile; also N,N,...",
    )
    load.add_argument(
        "--warm-pool", type=int, default=0, metavar="N", help="take sandboxes from a pool of N ready ones"
    )
    load.add_argument(
        "--network", choices=("builtin", "none", "cni"), default="builtin", help="podlite's own (builtin)"
    )
    against = parser.add_argument_group("against")
    against.add_argument("--vs", metavar="PEER", action="append", default=[], help="a peer, in the same run")
    against.add_argument("--peer-image", metavar="IMAGE", default="", help="what a CRI peer makes containers of")
    against.add_argument(
        "--compare", nargs=2, metavar=("OLD", "NEW"), help="say what changed between two --json files, and run nothing"
    )
    output = parser.add_argument_group("output, beside the table")
    output.add_argument("--json", metavar="FILE", help="the report")
    output.add_argument("--csv", metavar="FILE", help="one line for each case")
    output.add_argument("--samples", metavar="FILE", help="every single operation, as CSV")
    output.add_argument("--plot", metavar="FILE", action="append", default=[], help="plots: .png or .html")
    output.add_argument("-q", "--quiet", action="store_true", help="no progress")
    options.add_network_details(parser)
    options.add_logging(parser)
    options.add_directories(parser)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Measures, or compares; returns the exit status."""
    options.configure_logging(arguments)
    if arguments.compare:
        return _compare(*arguments.compare)
    if not arguments.scenarios:
        raise UsageError(
            "there is nothing to measure", hint="name scenarios: floor, netns, sandbox, pod, exec, restart"
        )
    _check_outputs(arguments)
    import anyio

    from podlite.bench import plan

    settings = _settings(arguments)
    plan.check(settings)
    outcome, received = anyio.run(_run, arguments, settings)
    _report(arguments, outcome)
    if received:
        return TERMINATED if received == signal.SIGTERM else INTERRUPTED
    return 1 if outcome.failed else 0


def _settings(arguments: argparse.Namespace) -> Settings:
    from podlite.bench.plan import Settings

    if arguments.sweep and arguments.rate:
        raise UsageError("--sweep is of the closed loop, --rate makes an open one")
    return Settings(
        scenarios=tuple(dict.fromkeys(arguments.scenarios)),
        count=arguments.count,
        duration=arguments.duration,
        concurrency=arguments.sweep or (arguments.concurrency,),
        rate=arguments.rate,
        live=arguments.live,
        pool=arguments.warm_pool,
        network=arguments.network,
        peers=tuple(dict.fromkeys(arguments.vs)),
        rounds=arguments.rounds,
        warm_up=arguments.warm_up,
        rest=arguments.rest,
        peer_image=arguments.peer_image,
    )


def _node_options(arguments: argparse.Namespace) -> NodeOptions:
    from podlite.bench.ours import NAMESPACE_THREADS

    node = options.node_options(arguments)
    node.namespace_threads = NAMESPACE_THREADS
    node.many = True
    # The run fills and empties the pool itself.
    node.warm_pool = 0
    return node


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Said before an hour of measuring, not after it."""
    for path in (arguments.json, arguments.csv, arguments.samples, *arguments.plot):
        if path and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise UsageError(f"{path} cannot be written: there is no directory {os.path.dirname(path)}")
    for path in arguments.plot:
        if not path.endswith((".png", ".html")):
            raise UsageError(f"--plot {path}: the name must end in .png or .html")
    if arguments.plot:
        from podlite.bench import plot

        plot.require()


async def _run(arguments: argparse.Namespace, settings: Settings) -> tuple[Outcome, int]:
    """The outcome, and the signal that ended it early, or 0."""
    import anyio

    from podlite.bench.run import Run

    progress = _Progress(quiet=arguments.quiet)
    keep = bool(arguments.samples or arguments.plot)
    run = Run(settings, _node_options(arguments), progress.show, keep_samples=keep)
    received = 0
    scope = anyio.CancelScope()

    async def watch() -> None:
        nonlocal received
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                if not received:
                    progress.show("ending: what was made is taken back")
                received = number
                scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await run.run(scope)
            tasks.cancel_scope.cancel()
    finally:
        progress.clear()
    return run.outcome, received


class _Progress:
    """One line on standard error: over and over on a terminal, one after the other elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = os.isatty(2)

    def show(self, text: str) -> None:
        if self._quiet:
            return
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{text[:99]}")
            sys.stderr.flush()
        else:
            terminal.note(text)

    def clear(self) -> None:
        if self._terminal and not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _report(arguments: argparse.Namespace, outcome: Outcome) -> None:
    from podlite.bench import files, results, table

    command = ["podlite", *sys.argv[1:]]
    report: ReportFile = results.report_file(outcome.results, outcome.machine, command, outcome.leaks)
    print(
        table.report(
            outcome.results, report.ratios, outcome.leaks, idle_settle_ms=outcome.idle_settle_ms, notes=outcome.notes
        ),
        end="",
    )
    if arguments.json:
        files.write_json(arguments.json, report)
    if arguments.csv:
        files.write_csv(arguments.csv, outcome.results)
    if arguments.samples:
        files.write_samples(arguments.samples, outcome.results)
    for path in arguments.plot:
        from podlite.bench import plot

        plot.write(path, outcome.results, outcome.machine)


def _compare(old: str, new: str) -> int:
    from podlite.bench import compare, files

    print(compare.report(compare.compare(files.read_json(old), files.read_json(new))), end="")
    return 0
