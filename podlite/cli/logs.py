"""podlite logs: the output of a pod's containers, from their log files; with -f as it comes."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal, values
from podlite.cli.lines import Lines
from podlite.errors import PodliteError, UsageError
from podlite.kubelet.gotime import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from podlite.api.pod import Pod
    from podlite.cli.lines import LineWriter
    from podlite.kubelet.read_logs import LogOptions
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched


_ALL = -1
_SELECTED_TAIL = 10
# For a reader that has stopped reading; nobody waits for that one.
_LAST_WRITE_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite logs`."""
    parser.usage = "podlite logs POD [CONTAINER] [OPTIONS]\n       podlite logs -l LABELS [OPTIONS]"
    help = "NAME, NAMESPACE/NAME, or a uid or the beginning of one"
    parser.add_argument("pod", metavar="POD", nargs="?", default="", help=help)
    parser.add_argument("name", metavar="CONTAINER", nargs="?", default="", help="as --container")
    pods.add_namespace(parser)
    pods.add_selector(parser)
    parser.add_argument("-c", "--container", metavar="NAME", default="", help="the container (the first one)")
    parser.add_argument("--all-containers", action="store_true", help="all containers, init containers first")
    parser.add_argument("-f", "--follow", action="store_true", help="go on, across restarts, until the container ends")
    parser.add_argument("-p", "--previous", action="store_true", help="the instance before the current one")
    parser.add_argument(
        "--tail", type=_tail, metavar="LINES", help="begin this many lines before the end (-1, all; 10 with -l)"
    )
    parser.add_argument("--since", type=values.seconds, metavar="TIME", help="begin this long ago: 30s, 5m, 2h")
    parser.add_argument("--since-time", type=values.instant, metavar="TIME", help="begin at this time, in RFC 3339")
    parser.add_argument("--timestamps", action="store_true", help="the time before each line")
    parser.add_argument("--limit-bytes", type=values.positive, metavar="BYTES", help="print no more than this")
    parser.add_argument("--stream", choices=("stdout", "stderr"), help="only what was written there")
    parser.add_argument("--prefix", action="store_true", help="pod/container before each line")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the logs; returns the exit status."""
    _check(arguments)
    every = pods.every_pod(pods.run_dir(arguments))
    if not arguments.selector:
        chosen = [pods.choose(every, arguments.pod, arguments.namespace)]
    elif not (chosen := pods.selected(every, arguments.selector, arguments.namespace)):
        terminal.note("No resources found")
    lines = Lines(labels=arguments.prefix, merge=True)
    each_has = [(found, _writers(found, lines, arguments)) for found in chosen]
    if not arguments.follow:
        for found, writers in each_has:
            _print(found, writers, _log_options(arguments), arguments)
    elif len(each_has) == 1:
        _follow(*each_has[0], _log_options(arguments))
    elif each_has:
        _follow_all(each_has, arguments)
    return 0


def _writers(found: WrittenPod, lines: Lines, arguments: argparse.Namespace) -> dict[str, LineWriter]:
    """By the names of the containers that are meant. Raises PodliteError."""
    if arguments.all_containers:
        names = [each.name for each in pods.containers(found.pod)]
    else:
        names = [pods.choose_container(found.pod, arguments.container or arguments.name)]
    return {name: lines.writer(f"{found.pod.metadata.name}/{name}") for name in names}


def _check(arguments: argparse.Namespace) -> None:
    if bool(arguments.pod) == bool(arguments.selector):
        raise UsageError(
            "POD and -l exclude each other" if arguments.pod else "say whose logs: a pod's name, or -l LABELS"
        )
    if arguments.container and arguments.name:
        raise UsageError("only one of -c or an inline [CONTAINER] arg is allowed")
    if arguments.all_containers and (arguments.container or arguments.name):
        raise UsageError("--all-containers and --container exclude each other")
    if arguments.since is not None and arguments.since_time is not None:
        raise UsageError("--since and --since-time exclude each other")
    if arguments.follow and arguments.previous:
        raise UsageError("the previous instance of a container has ended: there is nothing to follow")


def _log_options(arguments: argparse.Namespace) -> LogOptions:
    from podlite.kubelet.read_logs import LogOptions

    since = arguments.since_time
    if arguments.since is not None:
        since = time.time_ns() - int(arguments.since * NANOSECONDS)
    return LogOptions(
        follow=arguments.follow,
        timestamps=arguments.timestamps,
        tail_lines=_tail_lines(arguments),
        limit_bytes=arguments.limit_bytes,
        since_ns=since,
        stream=arguments.stream.capitalize() if arguments.stream else "All",
    )


def _print(
    found: WrittenPod, writers: dict[str, LineWriter], log_options: LogOptions, arguments: argparse.Namespace
) -> None:
    from podlite.cli.log_follow import OpenLog

    missing: list[PodliteError] = []
    for name, writer in writers.items():
        try:
            path = _log_path(found, name, previous=arguments.previous)
            log = OpenLog(path, log_options)
        except PodliteError as error:
            missing.append(error)
            continue
        except FileNotFoundError as error:
            missing.append(PodliteError(f'the log of container "{name}" is gone: {error.filename}'))
            continue
        log.copy(writer.write, last=True)
        log.close()
        writer.end()
    if len(missing) == len(writers):
        raise missing[0]
    for each in missing:
        terminal.note(each.message)


def _log_path(found: WrittenPod, name: str, *, previous: bool) -> str:
    from podlite.kubelet.log_source import log_source

    return log_source(found.pod, pods.kubelet_config(found), name, previous=previous).path


def _follow_all(each_has: list[tuple[WrittenPod, dict[str, LineWriter]]], arguments: argparse.Namespace) -> None:
    """Several pods at a time, until all have ended. Raises the first failure at once: a closed pipe ends all."""
    import queue
    import threading

    results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    lock = threading.Lock()

    def follow(found: WrittenPod, writers: dict[str, LineWriter]) -> None:
        try:
            _follow(found, writers, _log_options(arguments), lock)
        except BaseException as error:
            results.put(error)
        else:
            results.put(None)

    for found, writers in each_has:
        # They end with the process: a failure, or Ctrl-C, is not to wait for what the other pods say next.
        threading.Thread(target=follow, args=(found, writers), daemon=True).start()
    try:
        for _ in each_has:
            error = results.get()
            if error is not None:
                raise error
    finally:
        # Kept: a thread that is writing as the interpreter ends would have it abort.
        lock.acquire(timeout=_LAST_WRITE_SECONDS)


def _follow(
    found: WrittenPod,
    writers: dict[str, LineWriter],
    log_options: LogOptions,
    lock: AbstractContextManager[object] | None = None,
) -> None:
    """`lock`, if any, is held while something is written. Raises PodliteError for a pod whose podlite was killed."""
    from podlite.cli.log_follow import Follow
    from podlite.kubelet.log_source import find_status
    from podlite.kubelet.paths import pod_logs_dir

    lock = lock if lock is not None else nullcontext()

    def locked(writer: LineWriter) -> Callable[[str, bytes], None]:
        def write(stream: str, data: bytes) -> None:
            with lock:
                writer.write(stream, data)

        return write

    follow = Follow(found, pod_logs_dir(pods.kubelet_config(found), found.pod))
    for name, writer in writers.items():
        waiting = _why_waiting(found.pod, name) if find_status(found.pod, name) is not None else ""
        if waiting:
            terminal.note(waiting)
        follow.add(name, log_options, locked(writer))
    orderly = follow.run()
    with lock:
        for writer in writers.values():
            writer.end()
        sys.stdout.flush()
    if not orderly:
        name = pods.full_name(found.pod)
        raise PodliteError(f"the podlite that ran pod {name}, process {found.holder.pid}, has been killed")


def _why_waiting(pod: Pod, name: str) -> str:
    """Said where there is nothing to print yet; following waits for it."""
    from podlite.kubelet.log_source import find_status

    status = find_status(pod, name)
    if status is None or status.state.waiting is None or status.last_state.terminated is not None:
        return ""
    return f'container "{name}" in pod "{pod.metadata.name}" is waiting to start: {status.state.waiting.reason}'


def _tail(text: str) -> int:
    """As kubectl: -1 stands for all."""
    value = values.whole(text)
    if value < _ALL:
        raise argparse.ArgumentTypeError(f"{text} is too small: it must be at least 0, or -1 for all")
    return value


def _tail_lines(arguments: argparse.Namespace) -> int | None:
    """None for all; of pods that are chosen by their labels the last few, as with kubectl."""
    if arguments.tail is None:
        return _SELECTED_TAIL if arguments.selector else None
    return None if arguments.tail == _ALL else arguments.tail
