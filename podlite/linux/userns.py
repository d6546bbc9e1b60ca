"""A user namespace without a process in it, as a file descriptor.

Standard library only: whoever forks a single-threaded interpreter does this best there.
"""

from __future__ import annotations

import os

from podlite.linux.process import write_id_maps
from podlite.linux.syscalls import CLONE_NEWUSER, unshare


def userns_fd(uid_map: str, gid_map: str) -> int:
    """An fd of a new user namespace with these maps, in the form of /proc/PID/uid_map; the caller closes it.

    It is made by a short-lived child (os.fork), which has ended when this returns; the fd keeps the namespace.
    For mount_setattr(MOUNT_ATTR_IDMAP) and setns. Raises OSError, with the step or the file in it: EPERM without
    CAP_SETUID and CAP_SETGID over the ids, EINVAL for maps that the kernel refuses, ENOSPC at the limit of
    user.max_user_namespaces.
    """
    answer_fd, answer_end = os.pipe2(os.O_CLOEXEC)
    hold_end, hold_fd = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(hold_fd)
        _be_namespace(answer_end, hold_end)
    os.close(answer_end)
    os.close(hold_end)
    try:
        answer = os.read(answer_fd, 16)
        code = int(answer) if answer else 0
        if not answer or code:
            raise OSError(code, f"unshare a user namespace: {os.strerror(code) if code else 'the child died'}")
        write_id_maps(child, uid_map, gid_map)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(answer_fd)
        os.close(hold_fd)
        os.waitpid(child, 0)


def _be_namespace(answer: int, hold: int) -> None:
    """In the child: makes the namespace, says so, and stays until the parent is done or gone."""
    code = 0
    try:
        unshare(CLONE_NEWUSER)
    except OSError as error:
        code = error.errno or 1
    try:
        os.write(answer, b"%d" % code)
        os.read(hold, 1)
    finally:
        os._exit(0)
