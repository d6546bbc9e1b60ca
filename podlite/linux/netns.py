"""Network namespaces that are held by a pin: a file in a directory, with the namespace bind-mounted on it.

This is the convention of `ip netns` (ip-netns(8)) and of containerd's netns.NewNetNS, and what is made here is a
citizen of both. Everything in this module changes the namespace of the calling thread for a while, or is about
mounts, and blocks: it is called on a thread that does nothing else (podlite.runtime.namespace_threads).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from podlite.linux.syscalls import (
    CLONE_NEWNET,
    MNT_DETACH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    mount,
    setns,
    umount2,
    unshare,
)

T = TypeVar("T")

THREAD_NETNS = "/proc/thread-self/ns/net"


class PoisonedThreadError(BaseException):
    """The thread could not return to its own network namespace: it must never serve anyone again.

    Not an Exception: no handler of ordinary failures may swallow it.
    """


def prepare_directory(directory: str) -> bool:
    """Makes `directory` a shared mount point of its own, as iproute2 does; True if this changed anything.

    Without that, the first `ip netns add` of anybody else binds the directory onto itself, recursively, with our
    pins in it, and unmounting one of ours leaves the copy.  Idempotent.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    if _is_shared(directory):
        return False
    # Of several processes that begin at once, one makes it: binds would stack, and each need an umount of its own.
    # The lock is on the inode, which is the same below the mount and in it.
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if _is_shared(directory):
            return False
        mount(directory, directory, "none", MS_BIND | MS_REC)
        mount("", directory, "none", MS_SHARED | MS_REC)
    finally:
        os.close(fd)
    return True


def _is_shared(directory: str) -> bool:
    """Makes the mount point shared; False if it is no mount point."""
    try:
        mount("", directory, "none", MS_SHARED | MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: not a mount point yet
            raise
        return False
    return True


def create(path: str, own_netns: int, inside: Callable[[], T]) -> T:
    """Creates a network namespace pinned at `path`; returns what `inside()` returned.

    `own_netns` is a descriptor of the calling thread's own network namespace. `inside` runs while the thread is
    still in the new one: a socket that it opens stays there. On any failure nothing is left. Raises
    FileExistsError if `path` exists, OSError, whatever `inside` raises, and PoisonedThreadError.
    """
    _make_mount_point(path)
    try:
        unshare(CLONE_NEWNET)
        try:
            mount(THREAD_NETNS, path, "none", MS_BIND)
            return inside()
        finally:
            _return_to(own_netns)
    except BaseException:
        remove(path)
        raise


def pin_process(path: str, pid: int) -> None:
    """Pins the network namespace that process `pid` is in (containerd's NewNetNSFromPID). As `create` otherwise."""
    _make_mount_point(path)
    try:
        mount(f"/proc/{pid}/ns/net", path, "none", MS_BIND)
    except BaseException:
        remove(path)
        raise


def _make_mount_point(path: str) -> None:
    """An empty file without permissions, as open(2) with O_CREAT and O_EXCL makes it, in one call instead of two."""
    os.mknod(path, stat.S_IFREG)


def run_inside(netns: int, own_netns: int, inside: Callable[[], T]) -> T:
    """Runs `inside` with the calling thread in the network namespace `netns`. Raises as `create` does."""
    setns(netns, CLONE_NEWNET)
    try:
        return inside()
    finally:
        _return_to(own_netns)


def remove(path: str) -> None:
    """Unmounts and unlinks a pin; idempotent. The namespace lives on while a process or socket is in it.

    Unmounts until the path is no mount point any more: somebody may have pinned on top of our pin.
    """
    mounted = True
    while True:
        try:
            umount2(path, MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            mounted = False
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if mounted and error.errno == errno.EBUSY:
                continue  # still a mount point: unlink(2) says so for less than another umount2(2) does
            raise
        return


def _return_to(own_netns: int) -> None:
    try:
        setns(own_netns, CLONE_NEWNET)
    except OSError as error:
        raise PoisonedThreadError(f"a thread could not leave another network namespace: {error}") from error
