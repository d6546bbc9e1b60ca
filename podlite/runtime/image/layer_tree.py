"""The directories of a layer while it is unpacked, and how they relate to the layers below it.

Every directory is reached from the root's fd without following links. What the layer removes is noted, and
made last (`finish`): what it hides is only known when all of it is there.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from podlite.cri.errors import ImageError
from podlite.linux.fs import open_directory_beneath
from podlite.runtime.image.merged import OPAQUE_XATTR, WHITEOUT_XATTR, MergedTree
from podlite.runtime.image.tar import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Refuse = Callable[[str], NoReturn]

WHITEOUT = b".wh."
META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_OPEN_DIRECTORIES = 128


class Directory:
    """The attributes that a directory gets when everything else is done."""

    __slots__ = ("gid", "mode", "mtime", "uid", "xattrs")

    def __init__(self, mode: int = 0o755, uid: int = 0, gid: int = 0, mtime: int = 0) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.xattrs: dict[str, bytes] = {}


class LayerTree:
    """The directories below the fd `root`, which stays the caller's. Paths are bytes, relative, `/` between them.

    `below` are the layers below, merged. `refuse` raises the ImageError for the entry that is being made, and
    `what` names the layer.
    """

    def __init__(self, root: int, below: MergedTree, refuse: Refuse, what: str) -> None:
        self._root = root
        self._below = below
        self._refuse = refuse
        self._what = what
        self.directories: dict[bytes, Directory] = {b"": self._implied(b"")}
        self._fds: dict[bytes, int] = {b"": root}
        self._removed: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._aliases: dict[bytes, bytes] = {}

    @property
    def opaque(self) -> bool:
        """Whether the layer hides everything in those below."""
        return b"" in self._opaque

    def open(self, path: bytes) -> int:
        """The fd of a directory of this layer; a bounded number of them stays open."""
        fd = self._fds.get(path)
        if fd is None:
            fd = open_directory_beneath(self._root, path)
            if len(self._fds) > _OPEN_DIRECTORIES:
                oldest = next(key for key in self._fds if key)
                os.close(self._fds.pop(oldest))
            self._fds[path] = fd
        return fd

    def canonical(self, path: bytes) -> bytes:
        """The directory `path`, made where it is missing, under the name it has in this layer.

        That is another one where a layer below has a symbolic link on the way, for what this layer adds
        then belongs where the link leads.
        """
        if path in self.directories:
            return path
        known = self._aliases.get(path)
        if known is not None:
            return known
        done = b""
        for part in path.split(b"/"):
            step = done + b"/" + part if done else part
            if step in self.directories:
                done = step
                continue
            alias = self._aliases.get(step)
            if alias is None:
                alias = self._link_below(step)
                if alias != step:
                    self._aliases[step] = alias = self.canonical(alias)
                else:
                    self._make_implied(done, part, step)
            done = alias
        if done != path:
            self._aliases[path] = done
        return done

    def known(self, path: bytes) -> bytes | None:
        """As `canonical`, but None for what this layer has not made."""
        path = self._aliases.get(path, path)
        return path if path in self.directories else None

    def make(self, parent: bytes, name: bytes, directory: Directory) -> None:
        """Makes a directory. Raises FileExistsError if this layer has something else of this name."""
        os.mkdir(name, 0o700, dir_fd=self.open(parent))
        self.directories[join(parent, name)] = directory

    def whiteout(self, parent: bytes, base: bytes) -> None:
        """Notes what the layers below have under this name as removed; what this layer itself has there stays.

        `base` is the last component of an entry's name, with its prefix.
        """
        if base == _OPAQUE:
            self._opaque.add(parent)
            return
        if base.startswith(META):
            return  # other marks of aufs, which mean nothing here
        name = base[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            self._refuse("it is a whiteout of no name")
        self._removed.add(join(parent, name))

    def hide(self) -> None:
        """Makes the marks for what the layer removes; to be called when everything else is there."""
        for path in sorted(self._removed, key=len):
            self._hide(path)
        for path in self._opaque:
            # Nobody looks for the mark on a layer's root.
            if path:
                self._mark(self.open(path), OPAQUE_XATTR, b"y", path)

    def close(self) -> None:
        """Closes the fds that are kept open. Idempotent."""
        self._fds.pop(b"", None)
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _link_below(self, path: bytes) -> bytes:
        """Where `path` leads in the layers below if it is a symbolic link to a directory there, or `path` itself."""
        parent, _, name = path.rpartition(b"/")
        if path in self._removed or self._under_opaque(path) or self._exists(parent, name):
            return path
        try:
            found = self._below.resolve(os.fsdecode(path), follow=False)
            if found is None or not stat.S_ISLNK(found[1].st_mode):
                return path
            target = self._below.resolve(os.fsdecode(path))
        except OSError:
            return path
        if target is None or not stat.S_ISDIR(target[1].st_mode):
            return path
        return os.fsencode(target[0])

    def _exists(self, parent: bytes, name: bytes) -> bool:
        try:
            os.stat(name, dir_fd=self.open(parent), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _implied(self, path: bytes) -> Directory:
        """What a directory that no entry states looks like: as it is below, or like one that mkdir makes."""
        try:
            found = self._below.resolve(os.fsdecode(path))
        except OSError:
            found = None
        if found is None or not stat.S_ISDIR(found[1].st_mode):
            return Directory()
        status = found[1]
        return Directory(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)

    def _make_implied(self, parent: bytes, name: bytes, path: bytes) -> None:
        try:
            self.make(parent, name, self._implied(path))
        except FileExistsError:
            status = os.stat(name, dir_fd=self.open(parent), follow_symlinks=False)
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a file"
            self._refuse(f"it leads through {shown(path)}, which this layer has as {kind}")

    def _under_opaque(self, path: bytes) -> bool:
        """Whether a directory above `path` hides what the layers below have there."""
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._opaque:
                return True
        return False

    def _hide(self, path: bytes) -> None:
        if self._under_opaque(path):
            return
        try:
            found = self._below.resolve(os.fsdecode(path), follow=False)
        except NotADirectoryError:
            return
        if found is None or os.fsencode(found[0]) != path:
            return  # nothing, or something elsewhere, which a link led to that this layer replaces
        if path in self.directories:
            # Removed below and made anew: it must not show the old one's content.
            self._opaque.add(path)
            return
        parent, _, name = path.rpartition(b"/")
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self.open(parent))
        except FileExistsError:
            return
        except PermissionError:
            self._hide_by_attribute(parent, name)

    def _hide_by_attribute(self, parent: bytes, name: bytes) -> None:
        """The other form of a whiteout, for a store that is on an overlay itself (kernel 6.8; overlayfs.rst, "Nesting
        overlayfs mounts"): an empty file with an attribute, in a directory marked `x`, in a layer marked so."""
        path = join(parent, name)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.open(parent))
        try:
            self._mark(fd, WHITEOUT_XATTR, b"y", path)
        finally:
            os.close(fd)
        for directory in {parent, b""} - self._opaque:
            self._mark(self.open(directory), OPAQUE_XATTR, b"x", path)

    def _mark(self, fd: int, attribute: str, value: bytes, path: bytes) -> None:
        try:
            os.setxattr(fd, attribute, value)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            raise self._no_overlay_marks(path) from error

    def _no_overlay_marks(self, path: bytes) -> ImageError:
        return ImageError(
            f"{self._what} removes {shown(path)} of the layers below, which cannot be recorded on the "
            "filesystem of the image store: it is an overlay itself and this kernel is older than 6.8, or podlite "
            "lacks CAP_MKNOD or CAP_SYS_ADMIN",
            hint="choose a state directory on an ordinary filesystem with --state-dir",
        )


def join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name
