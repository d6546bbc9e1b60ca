"""What a container sees of files: its mounts as values, attached in order, and the change of root.

The runtime plans a list of operations (see `podlite.runtime.container.mounts`); each is a JSON object
whose "op" names one of the functions below. Descriptors travel beside the message and are named by their
index. All of this runs in the container's first process, in a mount namespace of its own, before anything
of the image runs; targets are resolved inside the new root by the kernel (podlite.linux.paths), so that a
symbolic link in a hostile image leads nowhere else.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import errno
import os
import stat

from podlite.linux import mounts
from podlite.linux.paths import is_directory, make_dirs, make_file, open_in_root
from podlite.linux.syscalls import (
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    PROC_SUPER_MAGIC,
    filesystem_type,
    move_mount,
    pivot_root,
    umount2,
)
from podlite.runtime.shim.names import MASK_DIRECTORY, ROOT_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Operation = dict[str, Any]

# The standard nodes (OCI runtime spec, config-linux "Default Devices"): name, major, minor.
NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


class MountFailure(Exception):
    """A mount operation that did not work, with the sentence for the container's status."""


def describe(operation: Operation) -> str:
    """One line for a person: `bind /etc/hosts (read-only)`."""
    text = f"{operation['op']} {operation.get('to', '')}".strip()
    if operation["op"] == "fs":
        text = f"mount {operation['type']} on {operation['to']}"
    elif operation.get("from"):
        text = f"mount {operation['from']} on {operation['to']}"
    if operation.get("attr", 0) & MOUNT_ATTR_RDONLY:
        text += " (read-only)"
    return text


class _Opened:
    """Descriptors of the attach point and of the directory that masks."""

    __slots__ = ("mask", "root")

    def __init__(self, scratch: str) -> None:
        self.root = os.open(f"{scratch}/{ROOT_DIRECTORY}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.mask = os.open(f"{scratch}/{MASK_DIRECTORY}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


# Set in a process that is about to become the root of a user namespace.
_opened: _Opened | None = None


def open_paths(operations: list[Operation], scratch: str) -> None:
    """Opens, for `enter`, what it would else reach by paths that only the host's root can follow. Raises OSError."""
    global _opened
    _opened = _Opened(scratch)
    for operation in operations:
        if operation["op"] == "path":
            operation["source"] = os.open(operation["from"], os.O_PATH | os.O_CLOEXEC)


# Operations, and the detached mounts that `make_ahead` has made for them.
_ahead: list[tuple[Operation, int]] = []


def make_ahead(operations: list[Operation]) -> None:
    """Makes the mounts of those operations that need nothing of the root, for `enter` to attach.

    In the namespaces of the container. What cannot be made is left to `enter`, which will find out why.
    """
    for operation in operations:
        try:
            _ahead.append((operation, _MAKERS[operation["op"]](operation)))
        except OSError:
            return


def _made(operation: Operation) -> int:
    """The mount of an operation: that which has been made ahead, or a new one. It is the caller's. Raises OSError."""
    for index, (made_for, mount) in enumerate(_ahead):
        if made_for == operation:
            del _ahead[index]
            return mount
    return _MAKERS[operation["op"]](operation)


def enter(root_mount: int, operations: list[Operation], fds: list[int], scratch: str, *, read_only: bool) -> None:
    """Attaches the root and everything in it, and makes it the process's root.

    `root_mount` is the detached mount of the root file system, `scratch` the directory of the spawner's
    private file system that holds the attach point. Raises MountFailure or OSError; the process is then
    only good for exiting.
    """
    if _opened is None:
        move_mount(root_mount, "", AT_FDCWD, f"{scratch}/{ROOT_DIRECTORY}", MOVE_MOUNT_F_EMPTY_PATH)
    else:
        mounts.attach(root_mount, _opened.root)
    for operation in operations:
        try:
            _OPERATIONS[operation["op"]](root_mount, operation, fds, scratch)
        except OSError as error:
            raise MountFailure(f"{describe(operation)}: {_sentence(error)}") from error
    if read_only:
        mounts.set_attributes(root_mount, MOUNT_ATTR_RDONLY)
    os.fchdir(root_mount)
    # pivot_root(2), "pivot_root(".", ".")": the old root ends up stacked on the new one and is detached.
    pivot_root(".", ".")
    umount2(".", MNT_DETACH)
    os.chdir("/")


def _sentence(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


def _make_filesystem(operation: Operation) -> int:
    return mounts.new_filesystem(operation["type"], operation.get("options"), operation.get("attr", 0))


def _attach_made(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    # The kernel's own file systems go where the specification says or nowhere: an image whose /proc is a
    # link would otherwise choose what is written to (CVE-2019-19921, CVE-2023-27561).
    target = make_dirs(root, operation["to"], symlinks=False)
    try:
        mount = _made(operation)
        try:
            mounts.attach(mount, target)
        finally:
            os.close(mount)
    finally:
        os.close(target)


def _bind(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    mount = fds[operation["fd"]]
    path = operation["to"]
    if path == "/proc" and filesystem_type(mount) != PROC_SUPER_MAGIC:
        # What is masked and made read-only below is there or nowhere (CVE-2019-19921).
        raise MountFailure("what is mounted on /proc is not a proc file system")
    directory = is_directory(mount)
    target = (make_dirs if directory else make_file)(root, path)
    try:
        if filesystem_type(target) == PROC_SUPER_MAGIC:
            # Wherever a link in the image has led to (CVE-2023-27561).
            raise MountFailure(f"{path} is inside /proc, and nothing may be mounted there")
        if os.path.samestat(os.fstat(target), os.fstat(root)):
            raise MountFailure(f"{path} is the root of the container, and nothing may be mounted over it")
        if is_directory(target) != directory:
            kinds = ("a directory", "not a directory") if directory else ("not a directory", "a directory")
            raise MountFailure(f"what is mounted on {path} is {kinds[0]}, but {path} in the image is {kinds[1]}")
        mounts.attach(mount, target)
    finally:
        os.close(target)


def _clone_path(operation: Operation) -> int:
    """A bind of something in the shim's own mount namespace, such as a cgroup directory or the pod's /dev/shm."""
    if "source" in operation:
        mount = mounts.clone("", dir_fd=operation["source"])
    else:
        mount = mounts.clone(operation["from"], recursive=False)
    try:
        mounts.set_attributes(mount, operation.get("attr", 0))
    except BaseException:
        os.close(mount)
        raise
    return mount


def _make_names(operation: Operation) -> int:
    """A read-only directory with empty ones of these names in it, which containers share; the first one makes it."""
    directory = operation["from"]
    paths = [directory, *(f"{directory}/{name}" for name in operation["names"])]
    # Whoever makes them makes the last one last: who finds that finds all.
    if not os.path.isdir(paths[-1]):
        for path in paths:
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                pass  # somebody else is making them at this moment
    return _clone_path(operation)


def _devices(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    """/dev: filled while it is still detached, so that nothing of the image can get in the way (CVE-2026-41579)."""
    target = make_dirs(root, "/dev", symlinks=False)
    make_nodes = operation["nodes"]
    try:
        device_fs = _made(operation)
        try:
            mounts.attach(device_fs, target)
        finally:
            os.close(device_fs)
        devices = operation.get("devices", ())
        if not make_nodes:
            for name, _, _ in _standard_nodes(operation):
                _bind_node(root, f"/dev/{name}", f"/dev/{name}")
        for device in devices:
            if make_nodes:
                _make_node(root, device)
            else:
                _bind_node(root, device["path"], device["host"])
    finally:
        os.close(target)


def _make_devices(operation: Operation) -> int:
    make_nodes = operation["nodes"]
    # Not noexec: some programs map /dev/zero executable.
    attributes = MOUNT_ATTR_NOSUID if make_nodes else MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    device_fs = mounts.new_filesystem("tmpfs", {"mode": "755", "size": "65536k"}, attributes)
    try:
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, 0o755, dir_fd=device_fs)
        for name, to in LINKS:
            os.symlink(to, name, dir_fd=device_fs)
        if make_nodes:
            for name, major, minor in _standard_nodes(operation):
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=device_fs)
        if operation.get("console"):
            os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=device_fs))
    except BaseException:
        os.close(device_fs)
        raise
    return device_fs


def _standard_nodes(operation: Operation) -> list[tuple[str, int, int]]:
    """Those in whose place the container has no device of its own."""
    others = {device["path"] for device in operation.get("devices", ())}
    return [node for node in NODES if f"/dev/{node[0]}" not in others]


def _make_node(root: int, device: Operation) -> None:
    """A device of the container's own; it may lie outside of /dev, where links are the image's."""
    directory, _, name = device["path"].rpartition("/")
    parent = make_dirs(root, directory)
    try:
        kind = stat.S_IFBLK if device["type"] == "b" else stat.S_IFCHR
        os.mknod(name, kind | device["mode"], os.makedev(device["major"], device["minor"]), dir_fd=parent)
        os.chown(name, device["uid"], device["gid"], dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _bind_node(root: int, path: str, host: str) -> None:
    """The host's own node, read-only: it can be written to all the same, but not be given other permissions."""
    target = make_file(root, path)
    try:
        mount = mounts.clone(host)
        try:
            mounts.set_attributes(mount, MOUNT_ATTR_RDONLY)
            mounts.attach(mount, target)
        finally:
            os.close(mount)
    finally:
        os.close(target)


def _pts(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    """/dev/pts: the instance that the shim took the terminal from, or a new one."""
    if "fd" not in operation:
        _attach_made(root, operation, fds, scratch)
        return
    target = make_dirs(root, "/dev/pts", symlinks=False)
    try:
        mounts.attach(fds[operation["fd"]], target)
    finally:
        os.close(target)


def _make_pts(operation: Operation) -> int:
    return new_pts()


def new_pts(group: int = 5) -> int:
    """A detached devpts instance of its own (the kernel makes every devpts mount a new instance since 4.7).

    `group` is whose terminals are: the group `tty` of the container, as this process's user namespace names it.
    """
    options = {"ptmxmode": "0666", "mode": "0620", "gid": str(group)}
    attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC
    try:
        return mounts.new_filesystem("devpts", options, attributes)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A user namespace that does not map group 5 cannot name it.
        del options["gid"]
        return mounts.new_filesystem("devpts", options, attributes)


def _mask(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    """Hides a path: a directory behind an empty read-only one, anything else behind /dev/null."""
    try:
        target = open_in_root(root, operation["to"], os.O_PATH, symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return  # nothing to hide on this kernel
        raise
    try:
        # The host's own node, not the container's, which somebody might have replaced (CVE-2025-31133).
        if is_directory(target):
            mask = f"{scratch}/{MASK_DIRECTORY}"
            cover = mounts.clone(mask) if _opened is None else mounts.clone("", dir_fd=_opened.mask)
        else:
            cover = mounts.clone("/dev/null")
        try:
            status = os.fstat(cover)
            if not stat.S_ISDIR(status.st_mode) and status.st_rdev != os.makedev(1, 3):
                raise MountFailure("/dev/null of this machine is not the null device")
            # Or the container could change the permissions of the host's node through it.
            mounts.set_attributes(cover, MOUNT_ATTR_RDONLY)
            mounts.attach(cover, target)
        finally:
            os.close(cover)
    finally:
        os.close(target)


def _read_only(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    try:
        target = open_in_root(root, operation["to"], os.O_PATH, symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    try:
        mounts.make_read_only(target)
    finally:
        os.close(target)


def _directory(root: int, operation: Operation, fds: list[int], scratch: str) -> None:
    """A directory that must be there, such as the working directory."""
    os.close(make_dirs(root, operation["to"]))


# What makes the mount of an operation, detached, without looking at the root.
_MAKERS = {
    "fs": _make_filesystem,
    "path": _clone_path,
    "names": _make_names,
    "dev": _make_devices,
    "pts": _make_pts,
}
_OPERATIONS = {
    "fs": _attach_made,
    "bind": _bind,
    "path": _attach_made,
    "names": _attach_made,
    "dev": _devices,
    "pts": _pts,
    "mask": _mask,
    "ro": _read_only,
    "mkdir": _directory,
}
