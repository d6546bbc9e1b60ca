"""What the machine refused to the image store, as a sentence."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from podlite.cri.errors import ImageError
from podlite.errors import explain

if TYPE_CHECKING:
    from types import TracebackType


class storing:  # noqa: N801 - reads as a statement: `with storing(root, "unpacking …")`
    """Turns an OSError in its block into an ImageError that says what was being done; other errors pass."""

    __slots__ = ("doing", "root")

    def __init__(self, root: str, doing: str) -> None:
        self.root = root
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise store_error(error, self.root, self.doing) from error


def store_error(error: OSError, root: str, doing: str) -> ImageError:
    """The sentence for `error`, which came up in the store at `root` while `doing` (`unpacking layer …`)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = "is full" if error.errno == errno.ENOSPC else "has no room left within the disk quota"
        return ImageError(
            f"the file system {filesystem_of(root)} {full}; podlite was {doing} in {root}",
            hint="free space there, remove images with `podlite image rm`, or choose another --state-dir",
        )
    if error.errno == errno.EROFS:
        return ImageError(
            f"the file system {filesystem_of(root)} is read-only; podlite was {doing} in {root}",
            hint="choose another --state-dir",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ImageError(f"permission denied while {doing} in {root}: {explain(error)}", hint="run podlite as root")
    return ImageError(f"{doing} in {root} failed: {explain(error)}")


def filesystem_of(path: str) -> str:
    """`/var (ext4 on /dev/sda2)`: the mount that `path`, or its nearest parent that exists, lies on."""
    path = os.path.realpath(path)
    best = ("/", "", "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            # proc_pid_mountinfo(5): … mount point (5th), options, optional fields, "-", type, source
            before, _, after = line.partition(" - ")
            point = _unescape(before.split(" ")[4])
            kind, source = after.split(" ")[:2]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind, _unescape(source))
    point, kind, source = best
    return f"{point} ({kind} on {source})" if kind else point


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
