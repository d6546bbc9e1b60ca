"""Word of what changes in directories, for any number of readers, through one inotify instance.

A user has 128 instances by default, and a pod may have many containers whose logs are followed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

from podlite.linux import inotify
from podlite.readiness import notify_closing, wait_readable

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

    from podlite.kubelet.clock import Wake

_CHANGES = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_DELETE_SELF


class DirectoryWatcher:
    """Sets a Wake whenever something changes in a directory. `tasks` is where it listens, from the first watch on.

    Raises OSError, ENOSPC or EMFILE, at the user's inotify limits.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._fd = -1
        self._scope: anyio.CancelScope | None = None
        self._wakes: dict[int, list[Wake]] = {}
        self._watches: dict[str, int] = {}

    def watch(self, directory: str, wake: Wake) -> Watch:
        """A context manager: while it is open, `wake` is set after every change in `directory`."""
        if self._fd < 0:
            self._fd = inotify.init()
            self._tasks.start_soon(self._listen)
        number = inotify.add_watch(self._fd, directory, _CHANGES)
        self._watches[directory] = number
        self._wakes.setdefault(number, []).append(wake)
        return Watch(self, directory, number, wake)

    def drop(self, directory: str, number: int, wake: Wake) -> None:
        wakes = self._wakes.get(number, [])
        if wake in wakes:
            wakes.remove(wake)
        if not wakes and self._wakes.pop(number, None) is not None:
            if self._watches.get(directory) == number:
                del self._watches[directory]
            if self._fd >= 0:
                inotify.rm_watch(self._fd, number)

    def close(self) -> None:
        """Ends it; who waits for a Wake waits on. Idempotent."""
        if self._scope is not None:
            self._scope.cancel()

    async def _listen(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                while True:
                    await wait_readable(self._fd)
                    self._tell(inotify.read_events(self._fd))
        finally:
            fd, self._fd = self._fd, -1
            notify_closing(fd)
            os.close(fd)

    def _tell(self, events: list[inotify.Event]) -> None:
        for number in {each.watch for each in events}:
            told = self._wakes.get(number, []) if number >= 0 else [w for all in self._wakes.values() for w in all]
            for wake in told:
                wake.set()


class Watch:
    """One reader's watch of one directory."""

    __slots__ = ("_directory", "_number", "_wake", "_watcher")

    def __init__(self, watcher: DirectoryWatcher, directory: str, number: int, wake: Wake) -> None:
        self._watcher = watcher
        self._directory = directory
        self._number = number
        self._wake = wake

    def close(self) -> None:
        """Ends the watch. Idempotent."""
        self._watcher.drop(self._directory, self._number, self._wake)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
