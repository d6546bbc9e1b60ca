"""The files that images are loaded from: a directory, or the members of a tar archive, read in place.

Members of an archive are never written anywhere; their names are only keys here. A compressed archive, or one
that comes through a pipe, is decompressed into the writer's own directory first, for its members are needed
in another order than it has them.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from podlite.cri.errors import ImageError
from podlite.errors import explain
from podlite.linux.fs import read_fd, write_all
from podlite.linux.paths import open_in_root
from podlite.runtime.image.decompress import DecodedStream, detect_compression
from podlite.runtime.image.failure import storing
from podlite.runtime.image.tar import HARD_LINK, REGULAR, SYMLINK, TarError, TarReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podlite.runtime.image.limits import Limits

_INDEX_PIECE = 16384
_LINKS_MAX = 40


class Files(Protocol):
    """`source` names the whole for messages. A context manager that closes what it holds."""

    source: str

    def has(self, path: str) -> bool: ...

    def read(self, path: str, *, limit: int) -> bytes:
        """A file's content. Raises ImageError if there is none, or it has more than `limit` bytes."""
        ...

    def reader(self, path: str) -> Callable[[int], bytes]:
        """What reads a file from its beginning: up to n bytes at a call, none at the end. Raises ImageError."""
        ...

    def __enter__(self) -> Files: ...

    def __exit__(self, *error: object) -> None: ...


def open_files(path: str, scratch: str, limits: Limits, root: str) -> Files:
    """Opens a directory or an archive; `-` is standard input.

    `scratch` is where an archive that cannot be read in place is put, `root` the store that it lies in. The
    caller removes it. Raises ImageError.
    """
    try:
        fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {explain(error)}") from error
    source = "standard input" if path == "-" else path
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return DirectoryFiles(fd, source)
        os.set_blocking(fd, True)
        if stat.S_ISREG(mode):
            # Standard input may have been read from.
            if not os.pread(fd, 1, 0):
                raise ImageError(f"{source} is empty")
            if detect_compression(os.pread(fd, 6, 0)) == "none":
                return ArchiveFiles(fd, source, limits)
        spooled = _spool(fd, scratch, limits, source, root)
        os.close(fd)
        fd = spooled
        return ArchiveFiles(fd, source, limits)
    except BaseException:
        os.close(fd)
        raise


def _spool(fd: int, scratch: str, limits: Limits, source: str, root: str) -> int:
    """Decompresses into `scratch`; returns an fd of that."""

    def read(size: int) -> bytes:
        try:
            return os.read(fd, size)
        except OSError as error:
            raise ImageError(f"{source} cannot be read: {explain(error)}") from error

    stream = DecodedStream(read, limits, source)
    with storing(root, f"decompressing {source}"):
        spooled = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for piece in stream:
                write_all(spooled, piece)
        except BaseException:
            os.close(spooled)
            raise
    return spooled


class DirectoryFiles:
    """A directory on disk; links are followed inside it only. Owns the fd."""

    def __init__(self, fd: int, source: str) -> None:
        self._fd = fd
        self._open: list[int] = []
        self.source = source

    def __enter__(self) -> DirectoryFiles:
        return self

    def __exit__(self, *error: object) -> None:
        for fd in (*self._open, self._fd):
            os.close(fd)

    def has(self, path: str) -> bool:
        try:
            os.close(open_in_root(self._fd, path, os.O_PATH))
        except OSError:
            return False
        return True

    def read(self, path: str, *, limit: int) -> bytes:
        try:
            fd = self._open_file(path)
            try:
                return read_fd(fd, limit=limit, name=path)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failed(path, error) from error

    def reader(self, path: str) -> Callable[[int], bytes]:
        try:
            fd = self._open_file(path)
        except OSError as error:
            raise self._failed(path, error) from error
        self._open.append(fd)

        def read(size: int) -> bytes:
            try:
                return os.read(fd, size)
            except OSError as error:
                raise self._failed(path, error) from error

        return read

    def _open_file(self, path: str) -> int:
        fd = open_in_root(self._fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", path)
        return fd

    def _failed(self, path: str, error: OSError) -> ImageError:
        if error.errno == errno.ENOENT:
            return ImageError(f"{self.source} lacks {path}")
        return ImageError(f"{path} in {self.source} cannot be read: {error.strerror}")


class ArchiveFiles:
    """An uncompressed tar archive in a regular file; its headers are read once. Owns the fd."""

    def __init__(self, fd: int, source: str, limits: Limits) -> None:
        self._fd = fd
        self.source = source
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            self._read_headers(limits)
        except TarError as error:
            raise ImageError(f"{source} is not a valid tar archive: it {error}") from error

    def __enter__(self) -> ArchiveFiles:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)

    def _read_headers(self, limits: Limits) -> None:
        position = 0

        def pieces() -> Iterator[bytes]:
            nonlocal position
            while piece := os.pread(self._fd, _INDEX_PIECE, position):
                position += len(piece)
                yield piece

        def skip(size: int) -> None:
            nonlocal position
            position += size

        size = os.fstat(self._fd).st_size
        reader = TarReader(pieces(), skip=skip)
        count = 0
        while (entry := reader.next_entry()) is not None:
            count += 1
            if count > limits.max_entries:
                raise ImageError(f"{self.source} has more than {limits.max_entries} members, which is the limit")
            name = _key(os.fsdecode(entry.name))
            if entry.type == REGULAR and entry.sparse is None:
                if reader.offset + entry.size > size:
                    raise TarError(f"is cut short in {name}")
                self._members[name] = (reader.offset, entry.size)
            elif entry.type == SYMLINK:
                parent = name.rpartition("/")[0]
                self._links[name] = _key(f"{parent}/{os.fsdecode(entry.link)}")
            elif entry.type == HARD_LINK:
                self._links[name] = _key(os.fsdecode(entry.link))

    def _find(self, path: str) -> tuple[int, int] | None:
        key = _key(path)
        for _ in range(_LINKS_MAX):
            if key in self._members:
                return self._members[key]
            if key not in self._links:
                return None
            # docker save links a layer that several images have: ../<other>/layer.tar
            key = self._links[key]
        return None

    def has(self, path: str) -> bool:
        return self._find(path) is not None

    def read(self, path: str, *, limit: int) -> bytes:
        read = self.reader(path)
        pieces = []
        size = 0
        while piece := read(1 << 20):
            size += len(piece)
            if size > limit:
                raise ImageError(f"{path} in {self.source} has more than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def reader(self, path: str) -> Callable[[int], bytes]:
        found = self._find(path)
        if found is None:
            raise ImageError(f"{self.source} lacks {path}")
        position, left = found

        def read(size: int) -> bytes:
            nonlocal position, left
            try:
                piece = os.pread(self._fd, min(size, left), position)
            except OSError as error:
                raise ImageError(f"{self.source} cannot be read: {explain(error)}") from error
            if left and not piece:
                raise ImageError(f"{self.source} is cut short in {path}")
            position += len(piece)
            left -= len(piece)
            return piece

        return read


def _key(path: str) -> str:
    """One spelling for each member: no `.`, no empty components, `..` resolved as text and never above the top."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/".join(parts)
