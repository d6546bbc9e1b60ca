"""The run directory is memory, as all of /run is on most machines.

Where /run lies on a disk, as in many containers and small virtual machines, podlite mounts a tmpfs on its own
directory there: a pod has a dozen small files in it, each of which takes a disk's file system ten times as long, and
all of them mean nothing after a reboot. The mount stays, as the one on /run/netns does. A directory elsewhere was
somebody's choice.

Standard library only: programs prepare the directory before they have imported anything.
"""

from __future__ import annotations

import fcntl
import os

from podlite.linux.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, TMPFS_MAGIC, filesystem_type, mount

_OPTIONS = "mode=755,size=10%"


def prepare(path: str) -> None:
    """Makes the directory, in memory if it is new and below /run. Idempotent; raises OSError only if it cannot be made.

    One that has something in it is left as it is: another podlite may be using that.
    """
    # Whatever the umask is: makedirs gives `mode` to the last directory only.
    os.makedirs(path, mode=0o755, exist_ok=True)
    if not os.path.realpath(path).startswith("/run/"):
        return
    try:
        _move_to_memory(path)
    except OSError:
        pass  # not allowed to mount here: the disk will do


def _move_to_memory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if filesystem_type(fd) == TMPFS_MAGIC:
            return
        # Of several that begin at once one mounts it, before any of them makes a file in it.
        fcntl.flock(fd, fcntl.LOCK_EX)
        mounted_meanwhile = not os.path.samestat(os.fstat(fd), os.stat(path))
        if not mounted_meanwhile and not os.listdir(fd):
            mount("podlite", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, _OPTIONS)
    finally:
        os.close(fd)
