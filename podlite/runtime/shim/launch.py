"""Starts the spawner: the first thing a program that will run pods does, so that the spawner's start overlaps
with the program's own imports. It imports nothing that is not loaded anyway.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys

from podlite.errors import PrivilegeError
from podlite.linux.syscalls import AT_EMPTY_PATH, AT_FDCWD, MOUNT_ATTR_RDONLY, OPEN_TREE_CLONE, mount_setattr, open_tree
from podlite.runtime import run_directory
from podlite.runtime.shim.names import SCRATCH
from podlite.steps import FAULTS_VARIABLE, LOG_VARIABLE

# Where the spawner finds its channel.
_CHANNEL = 3
_PROGRAM = (
    "import os, sys; sys.path.append({root!r}); "
    "from podlite.runtime.shim.spawner import main; os._exit(main(sys.argv[1:-1]))"
)
# The process title is written over the arguments, so there must be enough of them: `podlite: shim NAMESPACE/POD`.
_TITLE_SPACE = "." * 340


def launch(run_dir: str, keep: list[str]) -> tuple[socket.socket, int]:
    """Starts a spawner; returns our end of its channel (SOCK_SEQPACKET) and its pid.

    `keep` are directories that shims must be able to reach: the log directory, for one. The first message on
    the channel is `ready`, or `failed` with the reason. The caller reaps the process. Safe in a process with
    threads. Raises PrivilegeError where the interpreter cannot be protected, OSError.
    """
    # The spawner does not stay in this directory.
    run_dir, keep = os.path.abspath(run_dir), [os.path.abspath(each) for each in keep]
    run_directory.prepare(run_dir)
    os.makedirs(f"{run_dir}/{SCRATCH}", mode=0o700, exist_ok=True)
    interpreter = os.path.realpath(sys.executable)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    program = -1
    try:
        program = _read_only_clone(interpreter)
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
        environment = {"PATH": os.defpath}
        for name in (FAULTS_VARIABLE, LOG_VARIABLE):
            if name in os.environ:
                environment[name] = os.environ[name]
        pid = os.posix_spawn(
            f"/proc/self/fd/{program}",
            [
                interpreter,
                *("-I", "-S", "-X", "utf8", "-c", _PROGRAM.format(root=root)),
                *(str(_CHANNEL), run_dir, *keep, _TITLE_SPACE),
            ],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CHANNEL),
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            ],
            # A session of its own: Ctrl-C on the terminal is the controller's to handle.
            setsid=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if program >= 0:
            os.close(program)
    return ours, pid


def _read_only_clone(interpreter: str) -> int:
    """An fd of the interpreter on a read-only mount of its own.

    /proc/self/exe of a container that is starting is this interpreter, and a hostile image can get hold of it
    (CVE-2019-5736). On this mount every write to it fails with EROFS, root or not.
    """
    try:
        tree = open_tree(AT_FDCWD, interpreter, OPEN_TREE_CLONE)
        try:
            mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_RDONLY)
            # Above the numbers that the spawn below writes to.
            return fcntl.fcntl(tree, fcntl.F_DUPFD_CLOEXEC, 64)
        finally:
            os.close(tree)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise PrivilegeError(
                "podlite cannot create mounts here, and without them there are no containers",
                hint="run it as root, with CAP_SYS_ADMIN; `podlite check` says what else is missing",
            ) from error
        if error.errno == errno.ENOSYS:
            raise PrivilegeError(
                "this kernel has no mount_setattr(2), which podlite needs", hint="Linux 5.12 or newer is required"
            ) from error
        raise
