"""Files and trees on disk: small reads, atomic and durable writes, file locks, symlink-safe removal.

Functions block; call them from worker threads. They raise OSError. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os

from podlite.linux.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)

# A directory of ours, reached without following anything that somebody could have put in the way.
_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# How many directory fds `remove_tree` holds at a time: trees may be nested deeper than RLIMIT_NOFILE.
_REMOVE_DEPTH = 64


def open_directory_beneath(dir_fd: int, path: str | bytes) -> int:
    """Opens a directory below `dir_fd`, through no symbolic link and into no other mount; the caller closes it."""
    return openat2(dir_fd, path or ".", _OPEN_DIRECTORY, resolve=_PLAIN)


def read_file(path: str, *, limit: int = 1 << 26) -> bytes:
    """The whole of a small file. Raises OSError; EFBIG if it has more than `limit` bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_fd(fd, limit=limit, name=path)
    finally:
        os.close(fd)


def read_fd(fd: int, *, limit: int = 1 << 26, name: str = "") -> bytes:
    """Everything from the fd's position on. Raises OSError; EFBIG if that is more than `limit` bytes."""
    pieces = []
    size = 0
    while piece := os.read(fd, 65536):
        size += len(piece)
        if size > limit:
            raise OSError(errno.EFBIG, f"the file has more than {limit} bytes", name or None)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(path: str, data: bytes, *, scratch: str, mode: int = 0o600, durable: bool = True) -> None:
    """Makes `path` hold `data`, atomically: whoever reads it sees the old content or the new.

    `scratch` is a name on the same filesystem that the caller has for itself (it holds the lock under which
    this file changes); a file that a killed process left there is overwritten. When this returns and
    `durable` is true, the change survives a power failure. A failure leaves `path` as it was.
    """
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        if durable:
            _sync(fd, path)
    except OSError:
        os.unlink(scratch)
        raise
    finally:
        os.close(fd)
    os.rename(scratch, path)
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def sync_directory(path: str) -> None:
    """fsync(2) of a directory: its entries, renames included, survive a power failure."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(fd, path)
    finally:
        os.close(fd)


def _sync(fd: int, path: str) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, f"fsync: {error.strerror}", path) from None


def lock_file(path: str, *, shared: bool = False, wait: bool = True, create: bool = True) -> int | None:
    """Locks a file with flock(2), made where it is missing, and returns the fd; closing it releases the lock.

    With `wait` False the result is None when somebody else holds it; without `create` a missing file is an
    error. Every call opens the file anew, so the
    lock also holds between the threads of one process, and close-on-exec, so that no child inherits it.
    A lock file may be unlinked by who holds it: the lock is then taken on its successor.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, operation)
            if os.fstat(fd).st_nlink:
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


class FileLock:
    """`lock_file` as a context manager that waits: `with FileLock(path): ...`"""

    __slots__ = ("_fd", "path", "shared")

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self.path = path
        self.shared = shared

    def __enter__(self) -> FileLock:
        self._fd = lock_file(self.path, shared=self.shared)
        return self

    def __exit__(self, *error: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def make_directory(path: str, mode: int) -> None:
    """As os.makedirs, idempotent, but with one system call where only the last one is missing, as nearly always."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        os.makedirs(path, mode, exist_ok=True)


def remove_path(path: str) -> None:
    """`remove_tree` by a path: a directory with everything below it, but no mount. Idempotent. Raises OSError."""
    try:
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(fd, os.path.basename(path))
    finally:
        os.close(fd)


def remove_tree(dir_fd: int, name: str) -> None:
    """Removes `name` in the directory `dir_fd`, with everything below it. Idempotent.

    Never follows a symbolic link and never enters a mount, whatever happens in the tree meanwhile: a mount
    inside it raises OSError (EXDEV or EBUSY) and stays, with what it covers. Trees may be of any depth.
    """
    try:
        top = openat2(dir_fd, name, _OPEN_DIRECTORY, resolve=_PLAIN)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        _unlink(name, dir_fd)
        return
    try:
        while True:
            removed = _empty_directory(top, 0, top)
            try:
                os.rmdir(name, dir_fd=dir_fd)
                return
            except FileNotFoundError:
                return
            except OSError as error:
                # Deep directories were moved to the top; as long as there is progress, go on.
                if error.errno != errno.ENOTEMPTY or not removed:
                    raise
    finally:
        os.close(top)


def _empty_directory(fd: int, depth: int, top: int) -> int:
    """Empties a directory; what lies too deep is moved into `top`. Returns how many entries went away."""
    removed = 0
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            _unlink(name, fd)
        elif depth >= _REMOVE_DEPTH:
            # The name is new in `top` with certainty enough: a clash only means another round.
            try:
                os.rename(name, f".{os.getpid()}.{os.fstat(fd).st_ino}.{removed}", src_dir_fd=fd, dst_dir_fd=top)
            except (FileNotFoundError, FileExistsError, NotADirectoryError):
                pass
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
        else:
            _remove_directory(fd, name, depth, top)
        removed += 1
    return removed


def _remove_directory(fd: int, name: str, depth: int, top: int) -> None:
    try:
        # Many are empty, and looking into one takes thirteen system calls.
        os.rmdir(name, dir_fd=fd)
        return
    except OSError:
        pass  # not empty as a rule; whatever it is, it is said below
    try:
        below = openat2(fd, name, _OPEN_DIRECTORY, resolve=_PLAIN)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        _unlink(name, fd)
        return
    try:
        _empty_directory(below, depth + 1, top)
    finally:
        os.close(below)
    try:
        os.rmdir(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def _unlink(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass
