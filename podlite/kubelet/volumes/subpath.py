"""subPath: a part of a volume, found and handed over so that nobody in a container can swap it for something else.

The path is resolved by the kernel, beneath the volume and nowhere else (openat2, RESOLVE_BENEATH): links may lead
within the volume, not out of it. What was found is then pinned: a bind mount of the file descriptor at
`volume-subpaths/<volume>/<container>/<index>` in the pod's directory, whatever becomes of the names meanwhile.
The runtime is given that mount point (compare CVE-2017-1002101 and CVE-2021-25741).

Source: pkg/volume/util/subpath/subpath_linux.go, Kubernetes 1.36, for the layout and what is created.
"""

from __future__ import annotations

import errno
import os
import stat

from podlite.kubelet.pod_files import make_directories
from podlite.kubelet.types import KubeletError
from podlite.linux.fs import remove_path
from podlite.linux.mounts import attach, clone
from podlite.linux.syscalls import (
    MNT_DETACH,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    UMOUNT_NOFOLLOW,
    openat2,
    umount2,
)

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_O_DIRECTORY = os.O_PATH | os.O_DIRECTORY


class SubPathError(KubeletError):
    """A subPath cannot be used, or, with `creating`, not be made.

    Its text is for the log: it may tell about the host what the pod must not know.
    """

    def __init__(self, message: str, *, creating: bool = False) -> None:
        super().__init__(message)
        self.creating = creating


def prepare(volume: str, sub_path: str, target: str) -> str:
    """Pins `sub_path` of the directory `volume` at `target`, and returns `target`. Blocking; idempotent.

    What is missing is made, as directories with the volume's own permissions. Raises SubPathError.
    """
    try:
        root = os.open(volume, _O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SubPathError(f"the volume {volume} cannot be opened: {error.strerror}") from error
    about = f"the subPath {sub_path} of {volume} cannot be"
    try:
        try:
            found = open_beneath(root, sub_path)
        except FileNotFoundError:
            try:
                found = make_beneath(root, sub_path)
            except OSError as error:
                raise SubPathError(f"{about} made: {error}", creating=True) from error
        try:
            _pin(found, target)
        finally:
            os.close(found)
    except OSError as error:
        raise SubPathError(f"{about} used: {error}") from error
    finally:
        os.close(root)
    return target


def open_beneath(root: int, sub_path: str) -> int:
    """An O_PATH fd of `sub_path` beneath the directory `root`; the caller closes it.

    Raises OSError: EXDEV for a way that leads out, ELOOP for a magic link, ENOENT.
    """
    return openat2(root, sub_path.strip("/") or ".", os.O_PATH, resolve=_BENEATH)


def make_beneath(root: int, sub_path: str) -> int:
    """Makes the directory `sub_path` beneath `root`, with what is missing above it and the permissions of `root`.

    Returns an O_PATH fd, which the caller closes. Raises OSError: ELOOP for a dangling link on the way, ENOTDIR.
    """
    parts = [part for part in sub_path.split("/") if part not in ("", ".")]
    # As far as there is something; then one directory after the other, none of which can be a link.
    there = len(parts) - 1
    while True:
        try:
            fd = openat2(root, "/".join(parts[:there]) or ".", _O_DIRECTORY, resolve=_BENEATH)
            break
        except FileNotFoundError:
            there -= 1
    mode = stat.S_IMODE(os.fstat(root).st_mode)
    for name in parts[there:]:
        parent = fd
        try:
            fd = _make_directory(parent, name, mode)
        finally:
            os.close(parent)
    return fd


def _make_directory(parent: int, name: str, mode: int) -> int:
    try:
        os.mkdir(name, mode, dir_fd=parent)
        made = True
    except FileExistsError:
        # Another container of the pod was faster.
        made = False
    fd = openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        if made:
            # mkdir(2) takes the umask off, and never gives setgid.
            os.fchmod(fd, mode)
        return openat2(fd, ".", _O_DIRECTORY, resolve=_BENEATH)
    finally:
        os.close(fd)


def _pin(found: int, target: str) -> None:
    """Bind-mounts what the fd stands for; what an earlier instance of the container had there goes if it is another."""
    wanted = os.fstat(found)
    if _is_mount_point(target):
        there = os.lstat(target)
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            return
        umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
    make_directories(os.path.dirname(target))
    directory = stat.S_ISDIR(wanted.st_mode)
    _make_mount_point(target, directory=directory)
    mount = clone("", dir_fd=found)
    try:
        at = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            attach(mount, at)
        finally:
            os.close(at)
    finally:
        os.close(mount)


def _make_mount_point(target: str, *, directory: bool) -> None:
    try:
        there = os.lstat(target).st_mode
    except FileNotFoundError:
        there = 0
    if there and stat.S_ISDIR(there) != directory:
        # An earlier instance had something else there.
        (os.rmdir if stat.S_ISDIR(there) else os.unlink)(target)
        there = 0
    if there:
        return
    if directory:
        os.mkdir(target, 0o750)
    else:
        # A file will do for whatever else it is: device, socket, pipe.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))


def _is_mount_point(path: str) -> bool:
    """Also for a bind mount from the same filesystem, which os.path.ismount does not see."""
    try:
        fd = os.open(os.path.dirname(path), _O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.close(openat2(fd, os.path.basename(path), os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_XDEV))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EXDEV:
            return True
        raise
    finally:
        os.close(fd)
    return False


def clean(directory: str) -> None:
    """Takes down all that was pinned for a pod (its `volume-subpaths`). Blocking; idempotent. Raises OSError."""
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = f"{parent}/{name}"
            while _is_mount_point(path):
                umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW)
    remove_path(directory)
