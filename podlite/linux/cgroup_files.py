"""Reading and writing cgroup files, removing cgroups, and what to tell a person when that fails."""

from __future__ import annotations

import errno
import os
import time

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


def children(directory: str) -> list[str]:
    """The names of the cgroups directly below; none where the cgroup itself is gone."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_tree(directory: str, deadline: float) -> None:
    """Removes a cgroup and those below it, deepest first; one that is gone already is no error.

    Retried on EBUSY until `deadline` (time.monotonic). Raises CgroupError if processes are still in it then.
    """
    if _rmdir(directory):
        return
    for name in children(directory):
        remove_tree(f"{directory}/{name}", deadline)
    pause = 0.0005
    while not _rmdir(directory):
        if time.monotonic() >= deadline:
            raise CgroupError(f"the cgroup {directory} cannot be removed: {_occupants(directory)}", errno=errno.EBUSY)
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _rmdir(directory: str) -> bool:
    """False while the cgroup is in use."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        if error.errno == errno.EROFS and not os.path.exists(directory):
            # On a read-only mount the kernel says so before it looks whether there is anything to remove.
            return True
        raise explain("remove the cgroup", directory, error) from error
    return True


def _occupants(directory: str) -> str:
    below = children(directory)
    if below:
        return f"there are cgroups below it ({', '.join(sorted(below)[:5])})"
    try:
        pids = read(f"{directory}/cgroup.procs").split()
    except OSError:
        pids = []
    if pids:
        return f"process{'es' if len(pids) > 1 else ''} {', '.join(pids[:5])} still in it"
    return "the kernel still holds it"
