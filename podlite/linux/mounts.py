"""Detached mounts: made or cloned first, attached later, and described in one line each.

A mount that is nowhere in any mount table can be configured without anybody seeing it half done, can be
passed to another process as a file descriptor, and disappears with its last fd. That is how the privileged
side prepares a container's mounts, and how they stay out of the host's table.

Standard library only: the shim uses this. Linux 5.12 or newer (mount_setattr).
"""

from __future__ import annotations

import errno
import os

from podlite.linux.syscalls import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_RECURSIVE,
    AT_SYMLINK_NOFOLLOW,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    fsconfig,
    fsmount,
    fsopen,
    mount_setattr,
    move_mount,
    open_tree,
)

PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED}


def new_filesystem(fstype: str, options: dict[str, str] | None = None, attributes: int = 0) -> int:
    """A detached mount of a new filesystem, as an fd. An option whose value is empty is a flag.

    Raises OSError whose text holds what the filesystem said about a bad option.
    """
    context = fsopen(fstype)
    try:
        for key, value in (options or {}).items():
            if value == "":
                fsconfig(context, FSCONFIG_SET_FLAG, key)
            else:
                fsconfig(context, FSCONFIG_SET_STRING, key, value)
        fsconfig(context, FSCONFIG_CMD_CREATE)
        return fsmount(context, attributes)
    except OSError as error:
        error.filename = error.filename or fstype
        raise
    finally:
        os.close(context)


def new_overlay(
    lower: list[str], *, upper: str = "", work: str = "", volatile: bool = False, attributes: int = 0
) -> int:
    """A detached overlay of directories, top first, as an fd; read-only without `upper`, and then of two or more.

    `volatile`: nobody needs its writes to be on disk (Linux 5.10). Raises OSError.
    """
    context = fsopen("overlay")
    try:
        try:
            for layer in lower:
                fsconfig(context, FSCONFIG_SET_STRING, "lowerdir+", layer)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Before Linux 6.7: one option with all of them.
            escaped = [layer.replace("\\", "\\\\").replace(":", "\\:") for layer in lower]
            fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", ":".join(escaped))
        if upper:
            fsconfig(context, FSCONFIG_SET_STRING, "upperdir", upper)
            fsconfig(context, FSCONFIG_SET_STRING, "workdir", work)
        if volatile:
            fsconfig(context, FSCONFIG_SET_FLAG, "volatile")
        fsconfig(context, FSCONFIG_CMD_CREATE)
        return fsmount(context, attributes)
    finally:
        os.close(context)


def clone(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """A detached copy of what is mounted at `path` (of the fd itself when `path` is empty), as an fd.

    With `recursive` the mounts below it come along.
    """
    flags = OPEN_TREE_CLONE | AT_NO_AUTOMOUNT
    if recursive:
        flags |= AT_RECURSIVE
    if not follow:
        flags |= AT_SYMLINK_NOFOLLOW
    if not path:
        flags |= AT_EMPTY_PATH
    return open_tree(dir_fd, path, flags)


def set_attributes(mount_fd: int, attributes: int, *, recursive: bool = False, propagation: int = 0) -> None:
    """Sets mount attributes (MOUNT_ATTR_*) and the propagation of a detached or attached mount."""
    mount_setattr(
        mount_fd,
        "",
        AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0),
        attr_set=attributes,
        propagation=propagation,
    )


def is_shared(path: str) -> bool:
    """Whether what is mounted there, or what the path lies on, passes its mounts on to others (mount_namespaces(7)).

    Of this mount namespace. Raises OSError.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
            number = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split(" ")
            if words[0] == number:
                # proc_pid_mountinfo(5): six fields, optional ones, "-".
                return any(word.startswith("shared:") for word in words[6 : words.index("-")])
    return False


def map_ids(mount_fd: int, user_namespace: int) -> None:
    """Shows a detached mount's files with the ids of a user namespace: those that are 0 belong to its root (Linux
    5.12). Raises OSError, EINVAL for a file system that cannot do it."""
    mount_setattr(mount_fd, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=user_namespace)


def attach(mount_fd: int, target_fd: int) -> None:
    """Attaches a detached mount on top of the directory or file that `target_fd` stands for."""
    move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def make_read_only(target_fd: int) -> None:
    """Covers `target_fd` with a read-only view of itself; mounts below it are read-only in that view too."""
    view = clone("", dir_fd=target_fd, recursive=True)
    try:
        set_attributes(view, MOUNT_ATTR_RDONLY, recursive=True)
        attach(view, target_fd)
    finally:
        os.close(view)
