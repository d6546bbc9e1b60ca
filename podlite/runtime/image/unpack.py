"""Unpacks a layer's tar archive into a directory in overlayfs' form.

A whiteout `.wh.NAME` becomes a character device 0/0, an opaque directory's `.wh..wh..opq` the attribute
trusted.overlay.opaque. They are made last, when it is known what else the layer has, and only where there is
something to hide: in a directory that it does not merge with another, overlayfs lists a whiteout as an
entry. Directories that the archive only implies take their attributes from the layers below, as they would
if the archive were applied to those (OCI image-spec, layer.md).

What a hostile archive can try is refused, with a sentence that names the entry: absolute names, `..`,
anything through a symbolic link or a file of this layer, hard links to what the layer does not contain,
device nodes, overlayfs' own attributes, names twice, names too long, more data or entries than the limits.
None of these checks is what keeps the extraction inside: every entry is made by name in a directory fd that
was reached from the root without following links, so there is no path for the kernel to resolve.

The directory must be private to the caller while it is filled; on any error its content is to be removed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from podlite.cri.errors import ImageError
from podlite.linux.fs import write_all
from podlite.runtime.image import tar
from podlite.runtime.image.decompress import DecodedStream
from podlite.runtime.image.layer_tree import META, WHITEOUT, Directory, LayerTree, join
from podlite.runtime.image.limits import NAME_MAX, PATH_MAX, Limits
from podlite.runtime.image.merged import MergedTree
from podlite.runtime.image.read_ahead import ReadAhead
from podlite.runtime.image.tar import Entry, TarError, TarReader, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ID_MAX = 2**32 - 2  # (uid_t) -1 means "unchanged" to chown(2)
_TIME_MIN = -(2**31) * 1_000_000_000
_TIME_MAX = 2**34 * 1_000_000_000

_KINDS = {tar.CHARACTER: "character device", tar.BLOCK_DEVICE: "block device"}


class Unpacked(NamedTuple):
    """What was unpacked: the digests of the archive as it came and decompressed, how many entries it has, the bytes
    of their data, about how much of the disk they take, and whether it hides everything in the layers below
    (overlayfs does not look for that mark on a layer's root, so those are to be left out)."""

    digest: str
    diff_id: str
    entries: int
    bytes: int
    disk_bytes: int
    opaque: bool


def unpack_layer(
    read: Callable[[int], bytes],
    target: str,
    *,
    lower: Sequence[str] = (),
    limits: Limits | None = None,
    what: str = "the layer",
) -> Unpacked:
    """Unpacks the archive that `read(n)` returns piece by piece into the existing, empty directory `target`.

    `lower` are the directories of the layers below, top layer first. `what` names the archive in messages.
    The caller compares the digests before it uses the result. Raises ImageError for what is wrong with the
    archive and OSError for what is wrong with the machine.
    """
    limits = limits or Limits()
    stream = DecodedStream(read, limits, what)
    with MergedTree(lower) as below:
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            writer = LayerWriter(root, below, limits, what)
            try:
                with ReadAhead(stream) as pieces:
                    reader = TarReader(pieces)
                    while (entry := reader.next_entry()) is not None:
                        writer.add(entry, reader.data())
                    reader.drain()
                writer.finish()
            except TarError as error:
                raise ImageError(f"{what} is not a valid tar archive: it {error}") from error
            finally:
                writer.tree.close()
        finally:
            os.close(root)
    return Unpacked(stream.digest, stream.diff_id, writer.entries, writer.bytes, writer.disk_bytes, writer.tree.opaque)


class LayerWriter:
    """Makes entries below a directory fd, which stays the caller's. Paths are bytes, relative, `/` between them."""

    def __init__(self, root: int, below: MergedTree, limits: Limits, what: str) -> None:
        self._limits = limits
        self._what = what
        self._umask = _umask()
        # Whether what is made belongs to 0:0 by itself: not where a set-group-id directory passes its group on.
        inherits = os.fstat(root).st_mode & stat.S_ISGID
        self._owned_by_root = os.geteuid() == 0 and os.getegid() == 0 and not inherits
        self._name = b""
        self.tree = LayerTree(root, below, self._refuse, what)
        self.entries = 0
        self.bytes = 0
        self.disk_bytes = 0

    def add(self, entry: Entry, data: Iterator[memoryview]) -> None:
        """Makes one entry. Raises ImageError if it is refused, OSError."""
        self.entries += 1
        if self.entries > self._limits.max_entries:
            raise ImageError(
                f"{self._what} has more than {self._limits.max_entries} entries, which is the limit",
                hint="raise the limit if the image is to be trusted",
            )
        self._name = entry.name
        parts = self._split(entry.name)
        if not parts:
            if entry.type != tar.DIRECTORY:
                self._refuse("it would replace the root directory")
            self._state(self.tree.directories[b""], entry)
            return
        base = parts.pop()
        for part in parts:
            if part.startswith(META):
                return  # aufs' own housekeeping, in images of its time
            if part.startswith(WHITEOUT):
                self._refuse(f"names that begin with {WHITEOUT.decode()} are reserved for whiteouts")
        parent = self.tree.canonical(b"/".join(parts))
        if base.startswith(WHITEOUT):
            self.tree.whiteout(parent, base)
        else:
            self._check_ids(entry)
            self._make(parent, base, entry, data)

    def finish(self) -> None:
        """Hides what the layer removes, and gives the directories their owners, modes and times, the deepest first."""
        tree = self.tree
        tree.hide()
        for path in sorted(tree.directories, key=len, reverse=True):
            directory = tree.directories[path]
            fd = tree.open(path)
            if directory.uid or directory.gid or not self._owned_by_root:
                os.chown(fd, directory.uid, directory.gid)
            self._set_xattrs(fd, directory.xattrs)
            os.chmod(fd, directory.mode)
            os.utime(fd, ns=(directory.mtime, directory.mtime))
            self.disk_bytes += 4096

    # --- names ---

    def _refuse(self, why: str) -> NoReturn:
        raise ImageError(f"{self._what} is refused because of its entry {shown(self._name)}: {why}")

    def _refuse_name(self, name: bytes, why: str) -> NoReturn:
        self._refuse(f"its name {why}" if name == self._name else f"the target {shown(name)} of the hard link {why}")

    def _split(self, name: bytes) -> list[bytes]:
        """A name's components. Refuses what leads elsewhere."""
        if name[:1] == b"/":
            self._refuse_name(name, "is absolute")
        if len(name) > PATH_MAX:
            self._refuse_name(name, f"is longer than {PATH_MAX} bytes")
        if b"\0" in name:
            self._refuse_name(name, "contains a zero byte")
        parts = [part for part in name.split(b"/") if part and part != b"."]
        if b".." in parts:
            self._refuse_name(name, "contains '..'")
        if len(name) > NAME_MAX and any(len(part) > NAME_MAX for part in parts):
            self._refuse_name(name, f"has a component of more than {NAME_MAX} bytes")
        return parts

    # --- entries ---

    def _make(self, parent: bytes, name: bytes, entry: Entry, data: Iterator[memoryview]) -> None:
        tree = self.tree
        kind = entry.type
        try:
            if kind == tar.REGULAR:
                self._make_file(tree.open(parent), name, entry, data)
            elif kind == tar.DIRECTORY:
                path = join(parent, name)
                if path not in tree.directories:
                    tree.make(parent, name, Directory())
                self._state(tree.directories[path], entry)
            elif kind == tar.SYMLINK:
                self._make_symlink(tree.open(parent), name, entry)
            elif kind == tar.HARD_LINK:
                self._make_hard_link(parent, name, entry)
            elif kind == tar.FIFO:
                os.mkfifo(name, 0o600, dir_fd=tree.open(parent))
                self._set_attributes(tree.open(parent), name, entry)
            elif kind == tar.CHARACTER and entry.major == 0 and entry.minor == 0:
                # overlayfs' own form of a whiteout, as in an archive of an upper directory
                tree.whiteout(parent, WHITEOUT + name)
            elif kind in _KINDS:
                self._refuse(f"it is a {_KINDS[kind]} ({entry.major}:{entry.minor}), and images may have none")
            else:
                self._refuse(f"it is of the unknown type {shown(kind)}")
        except FileExistsError:
            self._refuse("the layer has an entry of this name already")

    def _make_file(self, parent: int, name: bytes, entry: Entry, data: Iterator[memoryview]) -> None:
        mode = entry.mode
        fd = os.open(name, _NEW_FILE, mode & 0o777, dir_fd=parent)
        try:
            if entry.sparse is not None:
                self._check_size(entry)
                _write_sparse(fd, entry, data)
            else:
                for piece in data:
                    write_all(fd, piece)
            self.bytes += entry.real_size
            self.disk_bytes += (entry.size + 4095) & ~4095
            owned = entry.uid or entry.gid or not self._owned_by_root
            if owned:
                os.chown(fd, entry.uid, entry.gid)
            if entry.xattrs:
                self._set_xattrs(fd, self._allowed_xattrs(entry))
            # chown(2) clears the set-id bits, so the mode comes after it.
            if mode & (self._umask | 0o7000):
                os.chmod(fd, mode)
            mtime = _bounded(entry.mtime)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _make_symlink(self, parent: int, name: bytes, entry: Entry) -> None:
        if not entry.link or b"\0" in entry.link or len(entry.link) >= PATH_MAX:
            self._refuse("the target of the symbolic link is empty, too long, or contains a zero byte")
        os.symlink(entry.link, name, dir_fd=parent)
        if entry.uid or entry.gid or not self._owned_by_root:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        mtime = _bounded(entry.mtime)
        os.utime(name, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)

    def _make_hard_link(self, parent: bytes, name: bytes, entry: Entry) -> None:
        parts = self._split(entry.link)
        if not parts:
            self._refuse("the hard link has no target")
        base = parts.pop()
        tree = self.tree
        where = tree.known(b"/".join(parts))
        if where is None or join(where, base) in tree.directories:
            self._refuse_link(entry)
        try:
            os.link(base, name, src_dir_fd=tree.open(where), dst_dir_fd=tree.open(parent), follow_symlinks=False)
        except FileNotFoundError:
            self._refuse_link(entry)

    def _refuse_link(self, entry: Entry) -> NoReturn:
        self._refuse(f"it is a hard link to {shown(entry.link)}, which is no file of this layer")

    # --- attributes ---

    def _state(self, directory: Directory, entry: Entry) -> None:
        self._check_ids(entry)
        directory.mode = entry.mode
        directory.uid = entry.uid
        directory.gid = entry.gid
        directory.mtime = _bounded(entry.mtime)
        directory.xattrs = self._allowed_xattrs(entry)

    def _set_attributes(self, parent: int, name: bytes, entry: Entry) -> None:
        """For a FIFO, which must not be opened: nobody else can replace it, so by name is safe."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=parent)
        mtime = _bounded(entry.mtime)
        os.utime(name, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)

    def _check_ids(self, entry: Entry) -> None:
        if entry.uid > _ID_MAX or entry.gid > _ID_MAX:
            self._refuse(f"its owner {entry.uid}:{entry.gid} is beyond the kernel's range")

    def _check_size(self, entry: Entry) -> None:
        if entry.real_size > self._limits.max_bytes:
            self._refuse(f"it is a sparse file of {entry.real_size} bytes; the limit is {self._limits.max_bytes}")

    def _allowed_xattrs(self, entry: Entry) -> dict[str, bytes]:
        """Capabilities, ACLs and the user's own; labels of the security modules of another machine mean nothing here.

        overlayfs' own could make a layer show what other layers hide, so they are refused.
        """
        allowed = {}
        for name, value in entry.xattrs.items():
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                self._refuse(f"its extended attribute {name} is overlayfs' own")
            if name == "security.capability" or name.startswith(("user.", "system.posix_acl_")):
                allowed[name] = value
        return allowed

    def _set_xattrs(self, fd: int, xattrs: dict[str, bytes]) -> None:
        for name, value in xattrs.items():
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    continue  # the filesystem has none of this class
                if error.errno in (errno.EINVAL, errno.ERANGE, errno.E2BIG):
                    self._refuse(f"its extended attribute {name} is not valid: {error.strerror}")
                raise


def _write_sparse(fd: int, entry: Entry, data: Iterator[memoryview]) -> None:
    pieces = iter(data)
    piece = memoryview(b"")
    for offset, length in entry.sparse or ():
        os.lseek(fd, offset, os.SEEK_SET)
        while length:
            if not piece:
                piece = next(pieces)
            part = piece[:length]
            write_all(fd, part)
            length -= len(part)
            piece = piece[len(part) :]
    os.truncate(fd, entry.real_size)


def _bounded(nanoseconds: int) -> int:
    return max(_TIME_MIN, min(_TIME_MAX, nanoseconds))


def _umask() -> int:
    """The process's umask, read without changing it, for other threads may be creating files."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777
