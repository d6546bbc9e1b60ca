"""What `podlite run` prints: the containers' output as it comes, and what becomes of the pods."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite.cli import terminal
from podlite.cli.lines import Lines
from podlite.cli.pod_changes import describe
from podlite.kubelet.clock import Wake
from podlite.kubelet.log_source import newest_instance
from podlite.kubelet.log_watch import DirectoryWatcher
from podlite.kubelet.paths import container_log_path, pod_logs_dir
from podlite.kubelet.read_logs import LogEnd, LogOptions, read_logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from podlite.api.events import Event
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus
    from podlite.cli.lines import LineWriter
    from podlite.cli.pod_changes import Change
    from podlite.kubelet.read_logs import Output
    from podlite.kubelet.types import KubeletConfig


_TOLD_BY_STATE = frozenset(("Failed", "BackOff", "ErrImageNeverPull", "InspectFailed"))


class Printer:
    """Prints for a person on a terminal, and plain lines into a pipe.

    An async context manager: leaving it waits until everything that the containers wrote is printed, unless `abandon`
    was called. `on_closed` is called when nobody reads our output any more.
    """

    def __init__(self, config: KubeletConfig, arguments: argparse.Namespace, on_closed: Callable[[], None]) -> None:
        self._config = config
        self._output = arguments.output
        self._quiet = arguments.quiet or arguments.output is not None
        prefix = arguments.prefix == "always" or (arguments.prefix == "auto" and os.isatty(1))
        self._lines = Lines(labels=prefix)
        self._on_closed = on_closed
        self._abandoned = False
        # One write at a time, or lines of several containers would be mixed.
        self._limiter = anyio.CapacityLimiter(1)
        self._containers: dict[tuple[str, str], _Container] = {}
        # By UID, container and subject: what was said last; and by UID what is still to be said.
        self._known: dict[tuple[str, str, str], str] = {}
        self._unsaid: dict[str, list[Change]] = {}

    async def __aenter__(self) -> Printer:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._watcher = DirectoryWatcher(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if error is not None:
            self._tasks.cancel_scope.cancel()
        for each in self._containers.values():
            each.finish()
        try:
            for each in self._containers.values():
                await each.done.wait()
            for uid in self._unsaid:
                self._say(uid, everything=True)
        finally:
            self._watcher.close()
            closed = await self._tasks.__aexit__(kind, error, traceback)
        return closed

    def abandon(self) -> None:
        """Prints no more of what containers wrote: somebody is in a hurry. Idempotent."""
        self._abandoned = True
        for each in self._containers.values():
            each.scope.cancel()

    def note(self, text: str) -> None:
        """A remark about the run, on standard error."""
        if not self._quiet:
            try:
                terminal.note(f"podlite: {text}")
            except BrokenPipeError:
                self._on_closed()

    def show(self, pod: Pod) -> None:
        """Takes in a pod's status: what is new in it is said, and what runs is followed."""
        if self._output is None:
            for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
                self._follow(pod, status)
        if not self._quiet:
            self._take_changes(pod)

    def show_event(self, event: Event) -> None:
        """Takes in a warning about a pod; what a container's state tells anyway, and repetitions, are not said."""
        if event.reason not in _TOLD_BY_STATE and event.count == 1 and not self._quiet:
            container = event.involved_object.field_path.partition("{")[2].rstrip("}")
            name = f"{event.involved_object.name}/{container}" if container else event.involved_object.name
            self.note(f"{name} {event.reason}: {event.message.strip()}")

    # --- state changes ----------------------------------------------------------------------

    def _take_changes(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        for change in describe(pod):
            key = (uid, change.container, change.subject)
            if self._known.get(key) != change.text:
                self._known[key] = change.text
                self._unsaid.setdefault(uid, []).append(change)
        self._say(uid)

    def _say(self, uid: str, *, everything: bool = False) -> None:
        """Says what is due: what a container's end says comes after what the container printed."""
        waiting = self._unsaid.get(uid, [])
        while waiting and (everything or self._is_due(uid, waiting[0])):
            self.note(waiting.pop(0).text)

    def _is_due(self, uid: str, change: Change) -> bool:
        container = self._containers.get((uid, change.container))
        return container is None or container.done.is_set() or container.printed >= change.after

    # --- logs -------------------------------------------------------------------------------

    def _follow(self, pod: Pod, status: ContainerStatus) -> None:
        key = (pod.metadata.uid, status.name)
        container = self._containers.get(key)
        if container is None:
            if newest_instance(status) < 0:
                return
            container = self._containers[key] = _Container()
            if self._abandoned:
                container.scope.cancel()
            self._tasks.start_soon(self._copy, pod, status.name, container)
        container.update(status)

    async def _copy(self, pod: Pod, name: str, container: _Container) -> None:
        """Prints the output of one container after the other instance."""
        directory = pod_logs_dir(self._config, pod)
        writer = self._lines.writer(f"{pod.metadata.name}/{name}")
        try:
            with container.scope:
                while await container.next():
                    path = f"{directory}/{container_log_path(name, container.number)}"
                    await self._copy_log(path, writer, container.end)
                    writer.end()
                    container.printed = container.number
                    self._say(pod.metadata.uid)
        except BrokenPipeError:
            self._on_closed()
        finally:
            container.done.set()
            self._say(pod.metadata.uid)

    async def _copy_log(self, path: str, writer: LineWriter, end: LogEnd) -> None:
        def write(output: Output) -> None:
            writer.write(output.stream, output.data)

        try:
            async with aclosing(read_logs(path, LogOptions(follow=True), self._watcher, end)) as outputs:
                async for output in outputs:
                    # On a thread: whoever reads our output may be slow.
                    await to_thread.run_sync(write, output, abandon_on_cancel=True, limiter=self._limiter)
        except FileNotFoundError:
            pass  # it never had output, or it is removed already

    # --- objects ----------------------------------------------------------------------------

    def print_objects(self, pods: list[Pod]) -> None:
        """The final Pods on standard output: one as it is, several as a List."""
        from podlite.api import encode

        plain = encode.to_builtins(pods[0]) if len(pods) == 1 else encode.list_of(pods)
        text = encode.dump_json(plain) if self._output == "json" else encode.dump_yaml(plain)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()


class _Container:
    """Which instance of a container is being printed, the last one that is, and whether its log gets more."""

    def __init__(self) -> None:
        self.number = -1
        self.printed = -1
        self.end = LogEnd()
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self._newest = -1
        self._running = False
        self._over = False
        self._wake = Wake()

    def update(self, status: ContainerStatus) -> None:
        """Takes in the container's status."""
        self._newest = newest_instance(status)
        self._running = status.state.running is not None
        self._tell()

    def finish(self) -> None:
        """There is no more to come than what is in the logs."""
        self._over = True
        self._tell()

    async def next(self) -> bool:
        """Goes on to the next instance as soon as there is one; False if there will be none."""
        while self.number >= self._newest:
            if self._over:
                return False
            await self._wake.wait()
        self.number += 1
        self.end = LogEnd()
        self._tell()
        return True

    def _tell(self) -> None:
        if self.number < self._newest or not self._running or self._over:
            self.end.set()
        self._wake.set()
