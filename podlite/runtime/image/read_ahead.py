"""Runs an iterator in a thread of its own, a few pieces ahead of who consumes it.

Reading, decompressing and hashing a layer release the GIL, and so does creating its files: on two cores
they go on at the same time.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from podlite.linux import affinity

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH = 8


class ReadAhead:
    """An iterator over the pieces of another one, at most `DEPTH` ahead, and a context manager.

    What the other iterator raises is raised here, in its place. When the context is left the thread has
    ended: at once after the last piece or a failure, else when its current piece is done.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ready: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="podlite-unpack", daemon=True)

    def __enter__(self) -> ReadAhead:
        # Long work, and mostly without Python's lock: for both threads it is better on CPUs of their own.
        affinity.spread()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._ready and not self._ended:
                self._changed.wait()
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
        if self._failure is not None:
            raise self._failure
        raise StopIteration

    def _run(self) -> None:
        affinity.spread()
        try:
            for piece in self._pieces:
                with self._changed:
                    while len(self._ready) >= DEPTH and not self._stopped:
                        self._changed.wait()
                    if self._stopped:
                        return
                    self._ready.append(piece)
                    self._changed.notify_all()
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
