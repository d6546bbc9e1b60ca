"""What `podlite run` prints: the containers' output as it comes, and what becomes of the pods."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from podlite.cli import terminal
from podlite.kubelet.log_watch import DirectoryWatcher
from podlite.kubelet.paths import container_log_path, pod_logs_dir
from podlite.kubelet.read_logs import LogEnd, LogOptions, read_logs

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus
    from podlite.kubelet.kubelet import Kubelet


class Printer:
    """Prints for a person on a terminal, and plain lines into a pipe."""

    def __init__(self, kubelet: Kubelet, arguments: argparse.Namespace, pods: int) -> None:
        self._kubelet = kubelet
        self._output = arguments.output
        self._quiet = arguments.quiet or arguments.output is not None
        self._colour = terminal.wants_colour(1)
        self._prefix = arguments.prefix == "always" or (arguments.prefix == "auto" and os.isatty(1))
        self._followed: dict[tuple[str, str], tuple[int, LogEnd]] = {}
        self._shown: dict[str, str] = {}
        self._watcher: DirectoryWatcher | None = None
        self._colours: dict[str, str] = {}

    def note(self, text: str) -> None:
        """A remark about the run, on standard error."""
        if not self._quiet:
            print(terminal.paint(f"podlite: {text}", "dim", on=terminal.wants_colour(2)), file=sys.stderr)

    def show(self, pod: Pod, tasks: TaskGroup) -> None:
        """Takes in a pod's status: what is new in it is said, and what runs is followed."""
        if not self._quiet:
            self._say_changes(pod)
        if self._output is None:
            for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
                self._follow(pod, status, tasks)

    def stop(self) -> None:
        """Ends the following of logs after what is in them."""
        for _, end in self._followed.values():
            end.set()
        if self._watcher is not None:
            self._watcher.close()

    # --- state changes ----------------------------------------------------------------------

    def _say_changes(self, pod: Pod) -> None:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        self._say(name, name, _phase_text(pod))
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            self._say(f"{name}/{status.name}", f"{pod.metadata.name}/{status.name}", _state_text(status))

    def _say(self, key: str, name: str, text: str) -> None:
        if text and self._shown.get(key) != text:
            self._shown[key] = text
            self.note(f"{name} {text}")

    # --- logs -------------------------------------------------------------------------------

    def _follow(self, pod: Pod, status: ContainerStatus, tasks: TaskGroup) -> None:
        """One follower for each instance of a container: it is told when that one has ended."""
        key = (pod.metadata.uid, status.name)
        started = status.state.running is not None or (
            status.state.terminated is not None and bool(status.container_id)
        )
        followed = self._followed.get(key)
        if followed is not None:
            count, end = followed
            if status.restart_count > count or status.state.terminated is not None:
                end.set()
            if status.restart_count == count:
                return
        first = 0 if followed is None else followed[0] + 1
        last = status.restart_count if started else status.restart_count - 1
        for count in range(first, last + 1):
            end = LogEnd()
            if count < status.restart_count or status.state.running is None:
                end.set()
            self._followed[key] = (count, end)
            tasks.start_soon(self._copy, pod, status.name, count, end, tasks)

    async def _copy(self, pod: Pod, container: str, count: int, end: LogEnd, tasks: TaskGroup) -> None:
        if self._watcher is None:
            self._watcher = DirectoryWatcher(tasks)
        path = f"{pod_logs_dir(self._kubelet.config, pod)}/{container_log_path(container, count)}"
        writer = LineWriter(self._label(pod, container) if self._prefix else b"")
        try:
            async with aclosing(read_logs(path, LogOptions(follow=True), self._watcher, end)) as outputs:
                async for output in outputs:
                    writer.write(output.stream, output.data)
        except FileNotFoundError:
            pass  # it never had output, or it is removed already
        writer.end()

    def _label(self, pod: Pod, container: str) -> bytes:
        name = f"{pod.metadata.name}/{container}"
        if name not in self._colours:
            self._colours[name] = terminal.CYCLE[len(self._colours) % len(terminal.CYCLE)]
        return f"{terminal.paint(name, self._colours[name], on=self._colour)} ".encode()

    # --- objects ----------------------------------------------------------------------------

    def print_objects(self, pods: list[Pod]) -> None:
        """The final Pods on standard output: one as it is, several as a List."""
        from podlite.api import encode

        plain = encode.to_builtins(pods[0]) if len(pods) == 1 else encode.list_of(pods)
        text = encode.dump_json(plain) if self._output == "json" else encode.dump_yaml(plain)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()


class LineWriter:
    """Copies output to our own streams, byte for byte, with a label before each line if there is one."""

    def __init__(self, label: bytes) -> None:
        self._label = label
        self._at_start = {"stdout": True, "stderr": True}

    def write(self, stream: str, data: bytes) -> None:
        """Writes what came from `stream`."""
        target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
        if self._label:
            data = self._labelled(stream, data)
        target.write(data)
        target.flush()

    def _labelled(self, stream: str, data: bytes) -> bytes:
        lines = data.split(b"\n")
        start = self._label if self._at_start[stream] and data else b""
        self._at_start[stream] = not lines[-1]
        end = b"\n" if not lines[-1] else b""
        body = lines[:-1] if not lines[-1] else lines
        return start + (b"\n" + self._label).join(body) + end

    def end(self) -> None:
        """On a labelled terminal, a last line without an end gets one, for somebody else's follows."""
        for stream, at_start in self._at_start.items():
            if self._label and not at_start:
                self.write(stream, b"\n")


def _phase_text(pod: Pod) -> str:
    status = pod.status
    if status.phase == "Pending":
        return ""
    reason = f" ({status.reason})" if status.reason else ""
    return f"is {status.phase}{reason}"


def _state_text(status: ContainerStatus) -> str:
    state = status.state
    if state.running is not None:
        return "started" if not status.restart_count else f"started again (restart {status.restart_count})"
    if state.terminated is not None:
        ended = state.terminated
        return f"ended: {ended.reason}, exit code {ended.exit_code}"
    if state.waiting is not None and state.waiting.reason not in ("ContainerCreating", "PodInitializing", ""):
        message = f": {state.waiting.message}" if state.waiting.message else ""
        return f"waits: {state.waiting.reason}{message}"
    return ""
