"""Directory trees that go at once by name, and a little later by content.

Removing a small tree can take long: an rmdir(2) waits for the file system's journal, half a millisecond to four on
an ext4 that is mounted with `discard`, and an overlay's writable layer has six directories. Nobody should wait for
that; containerd's snapshotters do the same. A tree is renamed into the trash, which takes microseconds, and a
thread removes what is there. What a killed process has left in it the next one's thread removes.

Standard library only. Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue

from podlite.linux import affinity
from podlite.linux.fs import remove_path

Problem = Callable[[str, OSError], None]

# Of the process, not of one Trash: the names have to differ.
_numbers = count()


class Trash:
    """One process's way into the trash `directory`, which any number of them may share. Safe between threads.

    `problem(path, error)` is told, on the thread, what could not be removed; it stays in the trash.
    """

    def __init__(self, directory: str, problem: Problem) -> None:
        """Makes nothing yet."""
        self.directory = directory
        self._problem = problem
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def throw(self, path: str) -> None:
        """Takes a directory away; idempotent: what is gone already is success. Raises OSError.

        On another file system it is removed here and now. No mount may be below it: it would stay in the trash.
        """
        name = f"{os.path.basename(path)}.{os.getpid()}.{next(_numbers)}"
        while True:
            try:
                os.rename(path, f"{self.directory}/{name}")
            except FileNotFoundError:
                if not os.path.lexists(path):
                    return
                # The trash is not there yet, or its last user has just left.
                os.makedirs(self.directory, mode=0o700, exist_ok=True)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                remove_path(path)
                return
            else:
                break
        self._start()
        self._waiting.put(name)

    def wait(self) -> None:
        """Returns when all that has been thrown away so far is removed, but for problems."""
        if self._thread is not None:
            done = threading.Event()
            self._waiting.put(done)
            done.wait()

    def close(self) -> None:
        """Returns when all that this process has thrown away is removed, but for problems. Idempotent."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()
            try:
                os.rmdir(self.directory)
            except OSError:
                pass  # somebody else's is in it, or a problem

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="podlite-trash", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        cpu = -1
        # What a killed process has left, and what other processes are removing at this moment: both do no harm.
        try:
            names = os.listdir(self.directory)
        except OSError:
            names = []
        for left in names:
            self._empty(left)
        while (item := self._waiting.get()) is not None:
            cpu = affinity.follow(cpu)
            if isinstance(item, str):
                self._empty(item)
            else:
                item.set()

    def _empty(self, name: str) -> None:
        path = f"{self.directory}/{name}"
        try:
            remove_path(path)
        except OSError as error:
            self._problem(path, error)


def abandoned(directory: str) -> list[str]:
    """The paths in the trash `directory` that killed processes have left there. Blocking."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(f"{directory}/{name}" for name in names if not _thrower_lives(name))


def _thrower_lives(name: str) -> bool:
    pid = name.split(".")[-2:-1]
    return bool(pid) and pid[0].isdigit() and os.path.exists(f"/proc/{pid[0]}")
