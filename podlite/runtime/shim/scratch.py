"""The private mount namespaces of spawner and shims.

The spawner leaves the host's mount namespace for one of its own that receives nothing from it and holds only
the mounts that a shim needs: every container starts with a copy of that table (0.06 ms when it is small, 4.3 ms
with 3,000 mounts in it), and a file system that the administrator unmounts on the host must not live on in here.

In it, a small tmpfs covers the directory SCRATCH of the run directory: it has the attach point of a container's
root, the empty directory that masks paths, and in each shim's own copy of the namespace the pod's /dev/shm.

Standard library only: the spawner runs this.
"""

from __future__ import annotations

import errno
import os

from podlite.linux.syscalls import (
    CLONE_NEWNS,
    MNT_DETACH,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    mount,
    umount2,
    unshare,
)
from podlite.runtime.shim.names import MASK_DIRECTORY, ROOT_DIRECTORY, SCRATCH, SHM_DIRECTORY


def enter_private_namespace(run_dir: str, keep: list[str]) -> str:
    """Leaves the host's mount namespace; returns the path of the scratch directory.

    Mounts that are needed to reach one of `keep`, or that lie below /proc, /dev or /sys, stay. The directory
    `<run_dir>/scratch` must exist.
    """
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    with open("/proc/self/mountinfo", "rb") as file:
        points = [_unescape(line.split(b" ")[4]) for line in file]
    # As the kernel names them: one that is reached by a link must not lose the mount that it lies on.
    for point in superfluous(points, [os.path.realpath(path) for path in (run_dir, *keep)]):
        try:
            umount2(point, MNT_DETACH)
        except OSError as error:
            # EINVAL: it went with a mount that it lay on. ENOENT: covered by another mount.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
    scratch = f"{run_dir}/{SCRATCH}"
    mount("podlite", scratch, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700,size=64k")
    for name in (MASK_DIRECTORY, ROOT_DIRECTORY, SHM_DIRECTORY):
        os.mkdir(f"{scratch}/{name}", 0o755)
    return scratch


def superfluous(points: list[str], keep: list[str]) -> list[str]:
    """Of these mount points, in /proc/self/mountinfo's order, those to unmount: outermost first, one per subtree."""
    result: list[str] = []
    for point in points:
        inside = point if point.endswith("/") else point + "/"
        if any((path + "/").startswith(inside) for path in ("/proc", "/dev", "/sys", *keep)):
            continue
        if any(inside.startswith(kernel) for kernel in ("/proc/", "/dev/", "/sys/")):
            continue
        if any(inside.startswith(gone + "/") for gone in result):
            continue
        result.append(point)
    return result


def _unescape(raw: bytes) -> str:
    """mountinfo writes blank, tab, newline and backslash in octal (proc(5))."""
    for code, byte in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        raw = raw.replace(code, byte)
    return os.fsdecode(raw)
