"""Cgroups below a cgroup, however a container has nested them: walked, and thawed.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(
    directory: str, enter: Callable[[int], None] | None = None, leave: Callable[[int, str], None] | None = None
) -> None:
    """Calls `enter(fd)` for a cgroup and each one below it, and `leave(parent_fd, name)` for those below on the way
    back. Nothing happens where the cgroup is gone. Raises OSError.

    A container's root can nest its own cgroups as deep as it likes: this needs two descriptors, no recursion, and no
    path that could become too long.
    """
    try:
        fd = open_cgroup(directory)
    except FileNotFoundError:
        return
    try:
        names: list[str] = []
        left = [_enter(fd, enter)]
        while True:
            if left[-1]:
                name = left[-1].pop()
                try:
                    child = open_cgroup(name, fd)
                except FileNotFoundError:
                    continue
                fd = _exchange(fd, child)
                names.append(name)
                left.append(_enter(fd, enter))
            else:
                left.pop()
                if not left:
                    return
                fd = _exchange(fd, open_cgroup("..", fd))
                name = names.pop()
                if leave is not None:
                    leave(fd, name)
    finally:
        os.close(fd)


def open_cgroup(path: str, dir_fd: int | None = None) -> int:
    """A descriptor of a cgroup's directory. Raises OSError."""
    return os.open(path, _DIRECTORY, dir_fd=dir_fd)


def names_below(fd: int) -> list[str]:
    """The names of the cgroups directly below; none where the cgroup itself is gone."""
    # kernfs counts a directory's subdirectories (kernfs_refresh_inode): one without any need not be listed, which
    # takes eight system calls and finds some twenty files.
    if os.fstat(fd).st_nlink == 2:
        return []
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _enter(fd: int, enter: Callable[[int], None] | None) -> list[str]:
    if enter is not None:
        enter(fd)
    return names_below(fd)


def _exchange(old: int, new: int) -> int:
    os.close(old)
    return new


def thaw_v1(directory: str) -> None:
    """Lets everything in a cgroup of v1's freezer and below it go on; one that is gone is no error. Raises OSError.

    What is frozen there does not even die of SIGKILL before it is thawed, and a container's root may have frozen it.
    """
    walk(directory, _thaw)


def _thaw(fd: int) -> None:
    try:
        state = os.open("freezer.state", os.O_WRONLY | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return
    try:
        os.write(state, b"THAWED")
    finally:
        os.close(state)
