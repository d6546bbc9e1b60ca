"""File locks between podlite processes: one for each pod's record, and a few with names for what all share.

flock(2) locks belong to the open file and end with it, whatever ends the process. Blocking.
"""

from __future__ import annotations

import fcntl
import os
from types import TracebackType


class FileLock:
    """An exclusive lock on a file, as a context manager or by `acquire` and `release`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def acquire(self, *, wait: bool = True) -> bool:
        """Takes the lock; False if it is another's and `wait` is False. Raises OSError."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                # Whoever held it before may have unlinked the file: then this locks what nobody can find.
                if os.fstat(fd).st_nlink:
                    self._fd = fd
                    return True
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def release(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
