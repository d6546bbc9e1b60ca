"""The calling process itself: its badness for the OOM killer, resource limits, title, keyring, and its children.

What a process may not do for lack of a capability is done as far as it goes, and the caller told.

Sources: proc(5), getrlimit(2), prctl(2), keyrings(7), clone3 in clone(2).

Standard library only: the shim runs this.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

from podlite.linux.syscalls import PR_SET_CHILD_SUBREAPER, keyctl_join_session_keyring, prctl, set_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# --- the OOM killer and resource limits --------------------------------------------------------


def oom_score_adj() -> int:
    """-1000 (never killed) to 1000 (killed first)."""
    with open("/proc/self/oom_score_adj", "rb") as file:
        return int(file.read())


def set_oom_score_adj(value: int) -> int:
    """Sets it for the process and what it starts; returns what it is afterwards.

    Without CAP_SYS_RESOURCE it cannot be lowered below the lowest value that it once had; then it stays as it is.
    Raises OSError for anything else.
    """
    try:
        # Unbuffered: a buffered file would report the refusal only when it is closed, and then try again.
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % value)
    except PermissionError:
        return oom_score_adj()
    return value


def set_rlimits(limits: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Sets (RLIMIT_*, soft, hard) as of the module `resource`, whose RLIM_INFINITY is no limit.

    Without CAP_SYS_RESOURCE a hard limit cannot be raised; it and the soft one are then as high as they may be.
    Returns those that came out lower than asked, as they are now. Raises OSError, ValueError for a soft limit
    above the hard one.
    """
    import resource

    lowered = []
    for kind, soft, hard in limits:
        try:
            resource.setrlimit(kind, (soft, hard))
        except (PermissionError, ValueError) as error:
            highest = resource.getrlimit(kind)[1]
            # setrlimit of the module says ValueError ("not allowed to raise maximum limit") for EPERM.
            if not _exceeds(hard, highest) or _exceeds(soft, hard):
                raise error
            resource.setrlimit(kind, (highest if _exceeds(soft, highest) else soft, highest))
            lowered.append((kind, *resource.getrlimit(kind)))
    return lowered


def _exceeds(limit: int, other: int) -> bool:
    """RLIM_INFINITY is -1 here."""
    return other >= 0 and (limit < 0 or limit > other)


# --- what others see ------------------------------------------------------------------------------


def set_title(title: str) -> None:
    """Makes the process show as `title` in ps: its command line and, cut to 15 bytes, its name.

    The command line is overwritten in place and so cut to the length that it had when the process was executed.
    """
    global _command_line
    if _command_line is None:
        # A child that is forked has it where its parent has; reading it anew costs each shim 0.05 ms.
        with open("/proc/self/stat", "rb") as file:
            # The second field is the name in parentheses, which may hold anything; arg_start, arg_end are 48 and 49.
            fields = file.read().rpartition(b") ")[2].split()
        _command_line = int(fields[45]), int(fields[46])
    start, end = _command_line
    room = end - start
    if room > 1:
        text = title.encode(errors="replace")[: room - 1]
        ctypes.memmove(start, text + b"\0" * (room - len(text)), room)
    set_name(title)


# Where this process's command line lies: its first and last address.
_command_line: tuple[int, int] | None = None


# --- children and keys ----------------------------------------------------------------------------


def drops_signal(pid: int, number: int) -> bool:
    """Whether the kernel would drop the signal: `pid` is the first process of its pid namespace and has no handler.

    Source: pid_namespaces(7), "The namespace init process". False for a process that is gone.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file if b":" in line)
        first = fields[b"NSpid"].split()[1:]
        caught = int(fields[b"SigCgt"], 16)
    except (OSError, KeyError, ValueError):
        return False
    return first[-1:] == [b"1"] and not caught >> (number - 1) & 1


def signal_child(pid: int, number: int, *, group: bool = False) -> None:
    """Sends a signal to a child that is not reaped yet, so that the pid is nobody else's; one that is dead is no error.

    With `group` to its whole process group, as a terminal would: it leads one as soon as it has its session.
    """
    for send in (os.killpg, os.kill) if group else (os.kill,):
        try:
            send(pid, number)
            return
        except ProcessLookupError:
            pass


def set_child_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's. Not inherited by children."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def new_session_keyring() -> bool:
    """Leaves the inherited session keyring for a new, empty one, so that nobody's keys are passed on.

    False where that cannot be had: a kernel without keyrings, a container whose filter forbids them, or a user
    with too many. Raises OSError for anything else.
    """
    try:
        keyctl_join_session_keyring(None)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EDQUOT):
            return False
        raise
    return True


CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
_CLONE_INTO_CGROUP = 0x200000000
_NR_CLONE3 = 435  # on every architecture

# Not CDLL: the interpreter must not give up its lock between these calls. Indexing makes functions of our own,
# whose prototypes nobody else changes.
_python = ctypes.PyDLL(None, use_errno=True)
_syscall3 = _python["syscall"]
_syscall3.restype = ctypes.c_long
_syscall3.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t]
_before_fork = _python["PyOS_BeforeFork"]
_after_fork_child = _python["PyOS_AfterFork_Child"]
_after_fork_parent = _python["PyOS_AfterFork_Parent"]
for _hook in (_before_fork, _after_fork_child, _after_fork_parent):
    _hook.restype = None
    _hook.argtypes = []


def fork_into(cgroup_fd: int, flags: int = 0) -> tuple[int, int]:
    """fork(2) whose child begins in the v2 cgroup of which `cgroup_fd` is the directory; Linux 5.7.

    Returns (pid, pidfd), and (0, -1) in the child. `flags` may hold CLONE_NEW*, which act on the child only, and
    CLONE_PARENT. Without a cgroup (-1) the child is where the parent is.

    Joining by cgroup.procs makes every process of the machine agree first: 5 to 16 ms, unless somebody did it
    less than some 20 ms ago. Being born there costs nothing. (v1's `tasks` files cost nothing either.)

    Only for a process with one thread, as the C library's own hooks do not run. Raises OSError: EOPNOTSUPP or
    EBUSY if the cgroup cannot have processes, ENOSYS where a container's seccomp filter hides clone3.
    """
    pidfd = ctypes.c_int(-1)
    arguments = struct.pack(
        "=11Q",
        flags | CLONE_PIDFD | (_CLONE_INTO_CGROUP if cgroup_fd >= 0 else 0),
        ctypes.addressof(pidfd),
        0,  # child_tid
        0,  # parent_tid
        0 if flags & CLONE_PARENT else signal.SIGCHLD,  # a sister's is that of who forks (clone(2))
        0,  # stack, its size, and tls: the parent's
        0,
        0,
        0,  # set_tid
        0,
        max(cgroup_fd, 0),
    )
    buffer = ctypes.create_string_buffer(arguments, len(arguments))
    _before_fork()
    pid = _syscall3(_NR_CLONE3, buffer, len(arguments))
    if pid == 0:
        _after_fork_child()
        return 0, -1
    code = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        raise OSError(code, f"clone3: {os.strerror(code)}", f"fd {cgroup_fd}")
    return int(pid), pidfd.value


def write_id_maps(pid: int, uid_map: str, gid_map: str) -> None:
    """Maps the ids of the user namespace that a child has made and is in. Raises OSError with the file in it."""
    for path, content in ((f"/proc/{pid}/uid_map", uid_map), (f"/proc/{pid}/gid_map", gid_map)):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # The kernel takes a map in one write only (user_namespaces(7)).
            os.write(fd, content.encode())
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(fd)
