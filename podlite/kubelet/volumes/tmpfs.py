"""Directories in memory: what secrets and emptyDirs with medium Memory or HugePages lie in."""

from __future__ import annotations

import errno
import os

from podlite import log
from podlite.linux.syscalls import MNT_DETACH, TMPFS_MAGIC, UMOUNT_NOFOLLOW, filesystem_type, mount, umount2

# include/uapi/linux/magic.h
_HUGETLBFS_MAGIC = 0x958458F6
_IN_MEMORY = (TMPFS_MAGIC, _HUGETLBFS_MAGIC)

# None until it is tried: Linux 6.4 has the option, and only the first user namespace may use it.
_noswap: bool | None = None
_warned = False


def is_mounted(directory: str) -> bool:
    """Whether a filesystem in memory is mounted on the directory. Raises OSError, FileNotFoundError among them."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_dev == os.stat("..", dir_fd=fd).st_dev:
            return False
        return filesystem_type(fd) in _IN_MEMORY
    finally:
        os.close(fd)


def mount_tmpfs(directory: str, size: int) -> bool:
    """Mounts a tmpfs of at most `size` bytes on a directory where there is none yet. Blocking.

    False where that is not permitted, which is logged once: the directory is on the disk then. Raises OSError.
    """
    global _noswap, _warned
    options = f"size={size}" if size > 0 else ""
    for noswap in (True, False) if _noswap is None else (_noswap,):
        try:
            mount("tmpfs", directory, "tmpfs", 0, ",".join(filter(None, (options, "noswap" if noswap else ""))))
        except OSError as error:
            if noswap and error.errno in (errno.EINVAL, errno.EPERM):
                continue
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise
            if not _warned:
                _warned = True
                log.warning("volumes that belong in memory are on the disk: tmpfs cannot be mounted", error=str(error))
            return False
        _noswap = noswap
        return True
    return False


def unmount(directory: str) -> None:
    """Takes what is mounted in memory off a directory, with what is in it; idempotent. Raises OSError."""
    try:
        while is_mounted(directory):
            # What a dying process still has open goes when it does.
            umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW)
    except FileNotFoundError:
        pass
