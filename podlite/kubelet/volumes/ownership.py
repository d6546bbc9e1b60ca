"""fsGroup: a volume's files belong to the pod's group, which may read and write them; what is new in it follows.

Nothing here follows a symbolic link, nor trusts that a name still means what it did: other pods may be at work in
the volume meanwhile.

Source: pkg/volume/volume_linux.go, Kubernetes 1.36.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from podlite import log

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_WRITE, _READ = 0o660, 0o440
_DIRECTORY = stat.S_ISGID | 0o110
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

# When a slow change is told of, and how often after that (in seconds).
_FIRST_REPORT, _REPORT_PERIOD = 30.0, 60.0

# A file descriptor is held for each level. (The kubelet ends where a path has 4096 characters.)
_MAX_DEPTH = 400


def set_ownership(
    directory: str,
    group: int,
    *,
    read_only: bool = False,
    on_root_mismatch: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Gives everything in a volume to a group. Blocking, for as long as the volume is large.

    With `on_root_mismatch` (fsGroupChangePolicy OnRootMismatch) nothing is done if the volume's root is right
    already. `progress` gets the number of files done so far: after 30 s, then every minute. A file that cannot be
    changed is logged and left, as the kubelet does; a directory that cannot be read raises OSError.
    """
    if on_root_mismatch and not needs_change(os.stat(directory), group, read_only=read_only):
        return
    change = _Change(group, read_only, progress)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        change.tree(fd, directory)
    finally:
        os.close(fd)


def needs_change(root: os.stat_result, group: int, *, read_only: bool) -> bool:
    """Whether the root of a volume lacks the group, its permissions or the setgid bit. Pure."""
    wanted = (_READ if read_only else _READ_WRITE) | _DIRECTORY
    return root.st_gid != group or not stat.S_ISDIR(root.st_mode) or root.st_mode & wanted != wanted


def changed_mode(mode: int, *, read_only: bool) -> int:
    """The permission bits that a file gets: those that it has, and the group's. Pure."""
    added = _READ if read_only else _READ_WRITE
    if stat.S_ISDIR(mode):
        added |= _DIRECTORY
    return stat.S_IMODE(mode) | added


class _Change:
    def __init__(self, group: int, read_only: bool, progress: Callable[[int], None] | None) -> None:
        self.group = group
        self.read_only = read_only
        self.progress = progress
        self.count = 0
        self.next_report = time.monotonic() + _FIRST_REPORT

    def tree(self, fd: int, path: str, depth: int = 0) -> None:
        """What is below a directory first, then the directory: its root is right only when all is."""
        if depth > _MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"directories are nested more than {_MAX_DEPTH} deep", path)
        with os.scandir(f"/proc/self/fd/{fd}") as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                child = os.open(name, _OPEN, dir_fd=fd)
            except FileNotFoundError:
                continue
            try:
                if stat.S_ISDIR(os.fstat(child).st_mode):
                    self.tree(child, f"{path}/{name}", depth + 1)
                else:
                    self.one(child, f"{path}/{name}", fd, name)
            finally:
                os.close(child)
        self.one(fd, path)

    def one(self, fd: int, path: str, parent: int = -1, name: str = "") -> None:
        mode = os.fstat(fd).st_mode
        try:
            if stat.S_ISLNK(mode):
                # Its own permissions mean nothing, and those of what it points to are not ours to change.
                os.chown(name, -1, self.group, dir_fd=parent, follow_symlinks=False)
            else:
                # Through the fd: by now the name may stand for something else.
                os.chown(f"/proc/self/fd/{fd}", -1, self.group)
                os.chmod(f"/proc/self/fd/{fd}", changed_mode(mode, read_only=self.read_only))
        except OSError as error:
            log.warning("cannot give a file of a volume to the pod's group", path=path, error=str(error))
        self.count += 1
        if self.progress is not None and not self.count % 256 and time.monotonic() >= self.next_report:
            self.next_report = time.monotonic() + _REPORT_PERIOD
            self.progress(self.count)
