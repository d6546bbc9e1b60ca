"""The layers of an image as one tree, as overlayfs would show it, without mounting anything.

Unpacking needs it to know what a layer changes, and users are looked up in it. Whiteouts and opaque
directories hide what lies below; symbolic links are resolved inside the tree, absolute ones too. The layers
are the store's own, so nobody changes them meanwhile; what they contain is still not trusted.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from podlite.linux.fs import read_fd

if TYPE_CHECKING:
    from collections.abc import Sequence

OPAQUE_XATTR = "trusted.overlay.opaque"
WHITEOUT_XATTR = "trusted.overlay.whiteout"
_LINKS_MAX = 40  # as the kernel's MAXSYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_whiteout(dir_fd: int, name: str, status: os.stat_result) -> bool:
    """Whether this is overlayfs' mark for a removed entry: a character device 0/0, or an empty file that says so."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if status.st_size or not stat.S_ISREG(status.st_mode):
        return False
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return _attribute(fd, WHITEOUT_XATTR) is not None
    finally:
        os.close(fd)


class Found:
    """What a path led to: its canonical path below the root, its status, and the directory fd and name to open."""

    __slots__ = ("dir_fd", "name", "path", "status")

    def __init__(self, path: str, status: os.stat_result, dir_fd: int, name: str) -> None:
        self.path = path
        self.status = status
        self.dir_fd = dir_fd
        self.name = name


class MergedTree:
    """A read-only view of the directories `layers`, top layer first. A context manager; leaving it closes its fds.

    Methods raise OSError: ENOTDIR where a path leads through a file, ELOOP for too many symbolic links.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self._layers = layers
        self._root: list[int] = []

    def __enter__(self) -> MergedTree:
        try:
            for layer in self._layers:
                self._root.append(os.open(layer, _DIRECTORY))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        while self._root:
            os.close(self._root.pop())

    def resolve(self, path: str, *, follow: bool = True) -> tuple[str, os.stat_result] | None:
        """Where `path` leads, as a canonical relative path, and its status; None if there is nothing.

        `follow` says whether a symbolic link in the last component is followed; those before it always are.
        """
        walk = _Walk(self._root)
        try:
            found = walk.go(path, follow=follow)
            return None if found is None else (found.path, found.status)
        finally:
            walk.close()

    def read(self, path: str, *, limit: int) -> bytes | None:
        """The content of a regular file; None if there is none. Raises OSError: EINVAL for another kind of file, EFBIG
        beyond `limit` bytes."""
        walk = _Walk(self._root)
        try:
            found = walk.go(path, follow=True)
            if found is None:
                return None
            if not stat.S_ISREG(found.status.st_mode):
                raise OSError(errno.EINVAL, "is not a regular file", path)
            fd = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found.dir_fd)
            try:
                return read_fd(fd, limit=limit, name=path)
            finally:
                os.close(fd)
        finally:
            walk.close()


class _Walk:
    """One resolution: a stack of merged directories, each the fds of its layers, top first; the root is borrowed."""

    def __init__(self, root: list[int]) -> None:
        self._stack = [root]
        self._names: list[str] = []

    def go(self, path: str, *, follow: bool) -> Found | None:
        pending = path.split("/")[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                self._up()
                continue
            found = self._child(name)
            if found is None:
                return None
            mode = found.status.st_mode
            if stat.S_ISDIR(mode):
                continue
            last = not any(part not in ("", ".") for part in pending)
            if stat.S_ISLNK(mode) and (follow or not last):
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(name, dir_fd=found.dir_fd)
                if target.startswith("/"):
                    while self._names:
                        self._up()
                pending += target.split("/")[::-1]
                continue
            if not last:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            return found
        top = self._stack[-1]
        if not top:
            return None
        return Found("/".join(self._names), os.fstat(top[0]), top[0], ".")

    def _child(self, name: str) -> Found | None:
        """Looks `name` up in the current directory; a directory becomes the current one."""
        below: list[int] = []
        status = None
        try:
            for fd in self._stack[-1]:
                try:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if is_whiteout(fd, name, found):
                    break
                if not stat.S_ISDIR(found.st_mode):
                    if status is None:
                        return Found("/".join((*self._names, name)), found, fd, name)
                    break
                status = status or found
                below.append(os.open(name, _DIRECTORY, dir_fd=fd))
                if _is_opaque(below[-1]):
                    break
        except BaseException:
            for fd in below:
                os.close(fd)
            raise
        if status is None:
            return None
        self._stack.append(below)
        self._names.append(name)
        return Found("/".join(self._names), status, below[0], ".")

    def _up(self) -> None:
        if self._names:
            self._names.pop()
            for fd in self._stack.pop():
                os.close(fd)

    def close(self) -> None:
        while self._names:
            self._up()


def _is_opaque(fd: int) -> bool:
    return _attribute(fd, OPAQUE_XATTR) == b"y"


def _attribute(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        # EOPNOTSUPP where the filesystem has no such attributes.
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
