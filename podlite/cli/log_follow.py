"""Logs of a pod as they grow: across rotations and restarts, until their containers have ended for good.

No event loop: one inotify instance tells of new output and of every change of the pod's status, and a pidfd of
the process that runs the pod tells of its death.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from podlite.kubelet.log_file import LogFile
from podlite.kubelet.log_source import ended_for_good, find_status, newest_instance
from podlite.kubelet.read_logs import Buffer, LogOptions, Writer, wanted
from podlite.kubelet.written_pods import find
from podlite.linux import inotify

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.pod import Pod
    from podlite.kubelet.written_pods import WrittenPod

    Write = Callable[[str, bytes], None]

_POD_CHANGES = inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_DELETE_SELF | inotify.IN_ONLYDIR
_LOG_CHANGES = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE_SELF | inotify.IN_ONLYDIR


class OpenLog:
    """One instance's log, read from where `options` say. Raises FileNotFoundError."""

    def __init__(self, path: str, options: LogOptions) -> None:
        self._file = LogFile(path)
        self._options = options
        self._buffer = Buffer()
        self._writer = Writer(options)
        if options.tail_lines is not None:
            self._file.seek_tail(options.tail_lines)

    def copy(self, write: Write, *, last: bool) -> bool:
        """Writes all there is; with `last` also a line that has no end. True if no more is wanted."""
        data = b"."
        while data and not self._writer.full:
            data = self._file.read()
            lines = wanted(self._buffer.feed(data, last=last), self._options)
            for output in self._writer.write(lines):
                write(output.stream, output.data)
        return self._writer.full

    def close(self) -> None:
        self._file.close()


class _Follower:
    """Follows one container through its instances. `number` is the instance whose log is open or comes next."""

    def __init__(self, name: str, directory: str, options: LogOptions, write: Write, number: int) -> None:
        self.name = name
        self.number = number
        self.done = False
        self._directory = directory
        self._options = options
        self._write = write
        self._log: OpenLog | None = None

    @property
    def directory(self) -> str:
        return f"{self._directory}/{self.name}"

    def copy(self, pod: Pod, *, over: bool) -> None:
        """Writes what is new. `over`: no more comes from any container of the pod."""
        status = find_status(pod, self.name)
        newest = newest_instance(status) if status is not None else -1
        ended = over or ended_for_good(pod, self.name)
        while not self.done and self.number <= newest:
            if self._log is None and not self._open():
                self.number += 1
                continue
            assert self._log is not None
            running = status is not None and status.state.running is not None
            last = self.number < newest or ended or not running
            self.done = self._log.copy(self._write, last=last)
            if not last:
                return
            self._log.close()
            self._log = None
            self.number += 1
        self.done = self.done or ended

    def _open(self) -> bool:
        """False if the instance has no log: it was never started, or is forgotten already."""
        try:
            self._log = OpenLog(f"{self.directory}/{self.number}.log", self._options)
        except FileNotFoundError:
            return False
        # What was asked for of the past is asked of the first instance only.
        self._options = LogOptions(
            timestamps=self._options.timestamps, stream=self._options.stream, limit_bytes=self._options.limit_bytes
        )
        return True


class Follow:
    """Follows containers of one pod; `log_directory` is where the pod's logs are."""

    def __init__(self, found: WrittenPod, log_directory: str) -> None:
        self._found = found
        self._log_directory = log_directory
        self._followers: list[_Follower] = []
        self._inotify = inotify.init()
        self._watched: set[str] = set()
        self._pod_watch = inotify.add_watch(self._inotify, found.directory, _POD_CHANGES)

    def add(self, name: str, options: LogOptions, write: Write) -> None:
        """Follows a container from its newest instance on."""
        status = find_status(self._found.pod, name)
        number = max(newest_instance(status), 0) if status is not None else 0
        self._followers.append(_Follower(name, self._log_directory, options, write, number))

    def run(self) -> bool:
        """Copies until all have ended; False if the process that runs the pod was killed before."""
        found = self._found
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        process = _open_process(found)
        if process >= 0:
            poll.register(process, select.POLLIN)
        gone = False
        try:
            while True:
                for each in self._followers:
                    if not each.done:
                        self._watch(each.directory)
                        each.copy(found.pod, over=gone or not found.held)
                if all(each.done for each in self._followers) or gone or not found.held:
                    return gone or not found.orphaned
                poll.poll()
                inotify.read_events(self._inotify)
                try:
                    found = find(found.directory)
                except (OSError, ValueError):
                    gone = True  # removed; what is in the logs that are open is read once more
        finally:
            os.close(self._inotify)
            if process >= 0:
                os.close(process)

    def _watch(self, directory: str) -> None:
        if directory in self._watched:
            return
        try:
            inotify.add_watch(self._inotify, directory, _LOG_CHANGES)
        except (FileNotFoundError, NotADirectoryError):
            return  # not started yet: the pod's status will tell
        self._watched.add(directory)


def _open_process(found: WrittenPod) -> int:
    """A pidfd of the process that runs the pod, or -1."""
    if not found.held:
        return -1
    try:
        return os.pidfd_open(found.holder.pid)
    except OSError:
        return -1
