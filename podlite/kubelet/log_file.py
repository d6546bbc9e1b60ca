"""Reading one container's log from disk, across its rotations. Everything here blocks.

A log is rotated by renaming it to `<log>.<time>`, upon which the runtime goes on in a new file; older ones are
compressed later. Whoever reads holds the file open, so that a rename takes nothing away.
"""

from __future__ import annotations

import os

CHUNK = 256 * 1024
_BLOCK = 64 * 1024


class LogFile:
    """The log at `path`, read forwards. `read` gives what has been written; at the end of a rotated file it goes on
    in the next one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def seek_tail(self, lines: int) -> None:
        """Goes to where the last `lines` lines of the file begin; a line that is not ended counts as one."""
        end = os.fstat(self._fd).st_size
        os.lseek(self._fd, tail_start(self._fd, end, lines), os.SEEK_SET)

    def read(self) -> bytes:
        """At most CHUNK bytes, or none at the end of everything there is. Raises OSError."""
        data = os.read(self._fd, CHUNK)
        while not data and self._next():
            data = os.read(self._fd, CHUNK)
        return data

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _next(self) -> bool:
        """Moves on to the file that followed this one, if it was rotated. True if there is something new to read."""
        here = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False  # renamed a moment ago; its successor is not there yet
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            if there.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
                os.lseek(self._fd, 0, os.SEEK_SET)  # somebody emptied it
                return True
            return False
        # The runtime has opened the new file, so nobody writes to this one any more: but somebody may have,
        # between the end that was read and the rename.
        rest = os.read(self._fd, 1)
        if rest:
            os.lseek(self._fd, -1, os.SEEK_CUR)
            return True
        fd = self._open_successor(here)
        if fd < 0:
            return False
        os.close(self._fd)
        self._fd = fd
        return True

    def _open_successor(self, here: os.stat_result) -> int:
        """The rotated file after this one, where several rotations came between two reads; else the current one."""
        for name in self._later_rotated(here):
            try:
                return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # compressed or removed meanwhile
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def _later_rotated(self, here: os.stat_result) -> list[str]:
        names = rotated_logs(self.path)
        for index, name in enumerate(names):
            try:
                if os.stat(name).st_ino == here.st_ino:
                    return [each for each in names[index + 1 :] if not each.endswith(".gz")]
            except FileNotFoundError:
                continue
        return []


def rotated_logs(path: str) -> list[str]:
    """The rotated files of a log, oldest first, temporary ones left out. Blocking."""
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    found = [each for each in names if each.startswith(f"{name}.") and not each.endswith(".tmp")]
    return [f"{directory}/{each}" for each in sorted(found)]


def tail_start(fd: int, end: int, lines: int) -> int:
    """The offset at which the last `lines` lines before `end` begin. Blocking."""
    if lines <= 0:
        return end
    if end and os.pread(fd, 1, end - 1) != b"\n":
        lines -= 1  # what is not ended yet is a line too
    position = end
    left = lines + 1  # the newline before the first of them is looked for
    while position > 0:
        start = max(position - _BLOCK, 0)
        block = os.pread(fd, position - start, start)
        count = block.count(b"\n")
        if count < left:
            left -= count
            position = start
            continue
        index = len(block)
        for _ in range(left):
            index = block.rindex(b"\n", 0, index)
        return start + index + 1
    return 0
