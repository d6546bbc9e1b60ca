"""inotify(7), for an event loop: a non-blocking fd, watches, and the events that have come.

Sources: inotify(7) and include/uapi/linux/inotify.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_CLOSE_NOWRITE = 0x10
IN_OPEN = 0x20
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_DONT_FOLLOW = 0x02000000
IN_EXCL_UNLINK = 0x04000000
IN_MASK_ADD = 0x20000000
IN_ISDIR = 0x40000000
IN_ONESHOT = 0x80000000

_HEADER = struct.Struct("iIII")  # wd, mask, cookie, len
# One event needs at most 16 + NAME_MAX + 1 bytes; this takes some two hundred ordinary ones.
_BUFFER = 16384
_MAX_READS = 16

_libc = ctypes.CDLL(None, use_errno=True)
_inotify_init1 = _libc.inotify_init1
_inotify_init1.argtypes = [ctypes.c_int]
_inotify_add_watch = _libc.inotify_add_watch
_inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_inotify_rm_watch = _libc.inotify_rm_watch
_inotify_rm_watch.argtypes = [ctypes.c_int, ctypes.c_int]


class Event(NamedTuple):
    """`watch` is what add_watch returned, or -1 for IN_Q_OVERFLOW: events were lost, so look at everything again.

    `name` is the entry of a watched directory, empty for the watched object itself. The two halves of a rename
    have the same `cookie`.
    """

    watch: int
    mask: int
    cookie: int
    name: str


def _error(call: str, about: str = "") -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}", about or None)


def init() -> int:
    """A non-blocking, close-on-exec inotify fd. Raises OSError, EMFILE at the user's limit of instances."""
    fd = int(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        raise _error("inotify_init1")
    return fd


def add_watch(fd: int, path: str | os.PathLike[str], mask: int) -> int:
    """Watches `path` for the events in `mask`; a path that is watched already keeps its number and gets the new mask.

    Raises OSError: ENOSPC at the user's limit of watches, ENOENT.
    """
    watch = int(_inotify_add_watch(fd, os.fsencode(path), mask))
    if watch < 0:
        raise _error("inotify_add_watch", os.fspath(path))
    return watch


def rm_watch(fd: int, watch: int) -> None:
    """Ends a watch; IN_IGNORED confirms it. One that ended by itself (its object is gone) is no error."""
    if _inotify_rm_watch(fd, watch) < 0 and ctypes.get_errno() != 22:  # EINVAL
        raise _error("inotify_rm_watch", str(watch))


def read_events(fd: int) -> list[Event]:
    """The events that have come, in order, or an empty list; after a flood some may be left for the next call.

    Raises OSError.
    """
    events: list[Event] = []
    for _ in range(_MAX_READS):
        try:
            chunk = os.read(fd, _BUFFER)
        except BlockingIOError:
            break
        events.extend(parse(chunk))
        if len(chunk) < _BUFFER // 2:
            break
    return events


def parse(chunk: bytes) -> list[Event]:
    """The events in what was read from an inotify fd. Pure."""
    events = []
    offset = 0
    while offset + _HEADER.size <= len(chunk):
        watch, mask, cookie, length = _HEADER.unpack_from(chunk, offset)
        offset += _HEADER.size
        events.append(Event(watch, mask, cookie, os.fsdecode(chunk[offset : offset + length].rstrip(b"\0"))))
        offset += length
    return events
