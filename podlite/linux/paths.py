"""Paths inside a root that somebody else controls: resolved by the kernel, never by us.

Every function takes the root as a directory fd and resolves with openat2(RESOLVE_IN_ROOT), so that `..`
and symbolic links, absolute ones too, stay below the root whatever they say and however they change
meanwhile. Magic links (/proc/self/fd/N, /proc/self/exe) are refused.

Standard library only: the shim uses this.
"""

from __future__ import annotations

import errno
import os
import stat

from podlite.linux.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def open_in_root(root_fd: int, path: str, flags: int, *, mode: int = 0, symlinks: bool = True) -> int:
    """openat2(2) with `root_fd` as the root of `path`. Raises OSError; ELOOP if `symlinks` is False and one is met."""
    resolve = _IN_ROOT if symlinks else _IN_ROOT | RESOLVE_NO_SYMLINKS
    return openat2(root_fd, path.lstrip("/") or ".", flags, mode=mode, resolve=resolve)


# As many as the kernel follows in one path (path_resolution(7)).
_LINKS = 40


def make_dirs(root_fd: int, path: str, *, mode: int = 0o755, symlinks: bool = True, _left: int = _LINKS) -> int:
    """An O_PATH fd of the directory `path` below the root, which is made, with its parents, where it is missing.

    A link that leads nowhere is followed, below the root, and what it leads to is made. The caller closes the fd.
    Raises OSError: ELOOP for too many links, and for any one if `symlinks` is False.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY, symlinks=symlinks)
    except FileNotFoundError:
        pass
    parent, _, name = path.rstrip("/").rpartition("/")
    parent_fd = make_dirs(root_fd, parent, mode=mode, symlinks=symlinks, _left=_left)
    try:
        if name in (".", ".."):
            return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY, symlinks=symlinks)
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            # Somebody else made it meanwhile, or there is a link that leads nowhere.
            beyond = _beyond_link(parent_fd, parent, name, symlinks=symlinks, left=_left)
            if beyond:
                return make_dirs(root_fd, beyond, mode=mode, _left=_left - 1)
        return open_in_root(parent_fd, name, os.O_PATH | os.O_DIRECTORY, symlinks=False)
    finally:
        os.close(parent_fd)


def make_file(root_fd: int, path: str, *, mode: int = 0o644, symlinks: bool = True, _left: int = _LINKS) -> int:
    """An O_PATH fd of `path` below the root, made as an empty file, with its parents, where it is missing.

    As `make_dirs`.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH, symlinks=symlinks)
    except FileNotFoundError:
        pass
    parent, _, name = path.rstrip("/").rpartition("/")
    parent_fd = make_dirs(root_fd, parent, symlinks=symlinks, _left=_left)
    try:
        try:
            # O_EXCL never follows a symbolic link in the last component.
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=parent_fd))
        except FileExistsError:
            beyond = _beyond_link(parent_fd, parent, name, symlinks=symlinks, left=_left)
            if beyond:
                return make_file(root_fd, beyond, mode=mode, _left=_left - 1)
        return open_in_root(parent_fd, name, os.O_PATH, symlinks=False)
    finally:
        os.close(parent_fd)


def _beyond_link(parent_fd: int, parent: str, name: str, *, symlinks: bool, left: int) -> str:
    """The path that the link `name` stands for, for the kernel to resolve below the root; "" if it is no link."""
    try:
        target = os.readlink(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return ""
        raise
    if not symlinks or not left:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), f"{parent}/{name}")
    # Not normalised: `..` after a link is the kernel's to work out.
    return target if target.startswith("/") else f"{parent}/{target}"


def is_directory(fd: int) -> bool:
    """Whether an (O_PATH) fd is a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
