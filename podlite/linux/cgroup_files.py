"""Reading and writing cgroup files, removing cgroups, and what to tell a person when that fails."""

from __future__ import annotations

import errno
import os
import time

from podlite.linux.cgroup_walk import names_below, open_cgroup, walk

# rmdir answers EBUSY until the kernel has let go of the last process, zombies included.
REMOVE_TIMEOUT = 2.0


class CgroupError(Exception):
    """A cgroup operation failed. `errno` is the kernel's answer or 0; `hint` is advice or empty."""

    def __init__(self, message: str, *, hint: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.errno = errno


class CgroupUnavailable(CgroupError):
    """cgroups cannot be used here at all, or not this part of them. Whoever can do without goes on with a warning."""


_UNAVAILABLE = {
    errno.EROFS: "it is mounted read-only",
    errno.EACCES: "this user has no right to",
    errno.EPERM: "it is not permitted here",
    errno.ENOENT: "it does not exist",
}


def explain(what: str, path: str, error: OSError) -> CgroupError:
    """The exception for an OSError: CgroupUnavailable where the place is to blame, CgroupError for the request."""
    code = error.errno or 0
    if code in _UNAVAILABLE:
        hint = ""
        if code in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "in a container, give it a writable /sys/fs/cgroup; as a user, a delegated cgroup"
        return CgroupUnavailable(f"cannot {what} {path}: {_UNAVAILABLE[code]}", hint=hint, errno=code)
    if code == errno.ENOSPC and os.path.basename(path).startswith("cgroup."):
        return CgroupError(
            f"cannot {what} {path}: the cgroup's cpuset has no CPUs or no memory nodes", hint="", errno=code
        )
    return CgroupError(f"cannot {what} {path}: {os.strerror(code)}", errno=code)


def write(path: str, value: str) -> None:
    """Writes into an existing cgroup file. Raises OSError; never creates a file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    """A whole cgroup file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def read_numbers(path: str) -> dict[str, int]:
    """A flat keyed file (`key number` per line). Raises OSError; lines of another form are left out."""
    result = {}
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if value.lstrip("-").isdigit():
            result[key] = int(value)
    return result


def remove_tree(directory: str, deadline: float, below: tuple[str, ...] = ()) -> None:
    """Removes a cgroup and those below it, deepest first; one that is gone already is no error.

    Those `below` are tried first, by name: what is in it beside them is looked for. Retried on EBUSY until `deadline`
    (time.monotonic). Raises CgroupError if processes are still in it then.
    """
    if _rmdir(directory):
        return
    if below:
        for name in below:
            _rmdir(f"{directory}/{name}")
        if _rmdir(directory):
            return
    try:
        walk(directory, leave=lambda parent, name: _remove(name, deadline, parent, directory))
    except OSError as error:
        raise explain("remove the cgroups below", directory, error) from error
    _remove(directory, deadline)


def _remove(path: str, deadline: float, dir_fd: int | None = None, below: str = "") -> None:
    pause = 0.0005
    while not _rmdir(path, dir_fd):
        if time.monotonic() >= deadline:
            where = f"{below}/…/{path}" if below else path
            raise CgroupError(f"the cgroup {where} cannot be removed: {_occupants(path, dir_fd)}", errno=errno.EBUSY)
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _rmdir(directory: str, dir_fd: int | None = None) -> bool:
    """False while the cgroup is in use."""
    try:
        os.rmdir(directory, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        if error.errno == errno.EROFS and dir_fd is None and not os.path.exists(directory):
            # On a read-only mount the kernel says so before it looks whether there is anything to remove.
            return True
        raise explain("remove the cgroup", directory, error) from error
    return True


def _occupants(directory: str, dir_fd: int | None) -> str:
    pids: list[str] = []
    try:
        fd = open_cgroup(directory, dir_fd)
        try:
            below = names_below(fd)
            if below:
                return f"there are cgroups below it ({', '.join(sorted(below)[:5])})"
            procs = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
            try:
                pids = os.read(procs, 4096).decode().split()
            finally:
                os.close(procs)
        finally:
            os.close(fd)
    except OSError:
        pass  # gone meanwhile
    if pids:
        return f"process{'es' if len(pids) > 1 else ''} {', '.join(pids[:5])} still in it"
    return "the kernel still holds it"
