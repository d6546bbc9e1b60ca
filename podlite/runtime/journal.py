"""A pod's record: a file of JSON lines, each appended before what it names is made.

Appending is what makes "record first" cheap (8 µs; a file written aside and renamed takes 60), and a crash in the
middle of it leaves a last line without an end, which is ignored: what it would have named was not made yet.
Nothing is fsynced: the record carries the boot id, and after a reboot it is void together with everything that
it names (DESIGN 6).
"""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec

# Raised by one when an entry changes its meaning; records of this version and of the one before it are read.
VERSION = 1
FILE = "record"

_encode = msgspec.json.Encoder().encode

Entry = dict[str, Any]


def boot_id() -> str:
    """This boot's id: what runtime records of another boot name does not exist any more."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            _boot_id = file.read().strip()
    return _boot_id


_boot_id = ""


class RecordVersionError(ValueError):
    """A record of a version that this podlite does not read: whatever it names is not to be touched."""

    def __init__(self, path: str, version: object) -> None:
        if isinstance(version, int) and version > VERSION:
            why = f"a newer podlite wrote it, in version {version} of the records, and this one reads {VERSION} at most"
        else:
            why = f"it is of version {version} of the records, and this podlite reads {VERSION - 1} and {VERSION}"
        super().__init__(f"the record {path} cannot be used: {why}")


class Journal:
    """Appends to one pod's record. Blocking; one owner at a time (the holder of the pod's lock)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def create(cls, directory_fd: int, header: Entry) -> Journal:
        """A new record in the pod's directory; `header` says what the pod is. Raises FileExistsError, OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        journal = cls(os.open(FILE, flags, 0o600, dir_fd=directory_fd))
        journal.append({"version": VERSION, "boot": boot_id(), **header})
        return journal

    @classmethod
    def reopen(cls, directory_fd: int) -> Journal:
        """An existing record, to go on with. Raises FileNotFoundError, OSError."""
        return cls(os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, dir_fd=directory_fd))

    def append(self, entry: Any) -> None:
        """Writes one entry in one write(2). Raises OSError: then nothing of what it names may be made."""
        line = _encode(entry) + b"\n"
        written = os.write(self._fd, line)
        if written < len(line):
            # A disk that is full to the byte: the rest must not become the beginning of the next line.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), FILE)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def load(path: str) -> list[Entry]:
    """The entries of a record, header first; a last line without an end is ignored.

    A spare sandbox that became a pod's (podlite.runtime.sandbox.pool) has the pod in its header. Returns an empty
    list for a record of another boot's, or without a header. Raises OSError, RecordVersionError for one of a version
    that is not understood, and ValueError for what is no record.
    """
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    entries: list[Entry] = []
    for line in lines:
        entry = msgspec.json.decode(line)
        if not isinstance(entry, dict):
            raise ValueError(f"{path} is not a record of podlite: a line of it is no object")
        if not entries and entry.get("version") not in (VERSION, VERSION - 1):
            raise RecordVersionError(path, entry.get("version"))
        entries.append(entry)
    if not entries:
        return []
    for entry in entries:
        entries[0].update(entry.get("claim", {}))
    return entries if entries[0].get("boot") == boot_id() else []
