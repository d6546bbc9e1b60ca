"""The last steps before a container's program runs: user, capabilities, no_new_privs, seccomp, program.

The order matters and is that of runc: what needs privilege comes before it is given up, and seccomp comes
last where no_new_privs allows loading it without privilege, so that the filter need not allow our own steps.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import errno
import os
import signal

from podlite.linux.capabilities import drop_bounding, set_ambient
from podlite.linux.seccomp_load import load_filter
from podlite.linux.syscalls import (
    AT_FDCWD,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    RESOLVE_NO_MAGICLINKS,
    capset,
    keyctl_join_session_keyring,
    openat2,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Process = dict[str, Any]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What Python ignores and an exec'd program would inherit as ignored, and what shim and spawner changed.
_RESET = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ExecFailure(Exception):
    """The program cannot be executed. `code` is a shell's answer: 127 not found, 126 not executable."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def reset_signals() -> None:
    """Every signal as a new program expects it: default action, nothing blocked."""
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def confine(process: Process, seccomp_program: bytes) -> None:
    """Gives up everything that the process is not to have. Raises OSError."""
    try:
        # A session keyring of its own: keys of whoever started podlite are nobody's business in there.
        keyctl_join_session_keyring(None)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise
    os.umask(0o022)
    capabilities = process["caps"]
    drop_bounding(capabilities["bounding"])
    change_directory = process["cwd"]
    entered = _change_directory(change_directory, last=False)
    if seccomp_program and not process["no_new_privs"]:
        load_filter(seccomp_program)
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups(process["groups"])
    os.setresgid(process["gid"], process["gid"], process["gid"])
    os.setresuid(process["uid"], process["uid"], process["uid"])
    prctl(PR_SET_KEEPCAPS, 0)
    # The change of user makes it what fs.suid_dumpable says, which an administrator may have made 1 (proc(5)).
    prctl(PR_SET_DUMPABLE, 0)
    capset(capabilities["effective"], capabilities["permitted"], capabilities["inheritable"])
    if capabilities["ambient"]:
        set_ambient(capabilities["ambient"])
    if not entered:
        _change_directory(change_directory, last=True)
    # CVE-2024-21626: a working directory outside the root would be a way out.
    if not os.getcwd().startswith("/"):
        raise OSError(errno.EPERM, "the working directory is outside the container's root", change_directory)
    if process["parent_death"]:
        # After the change of user, which clears it (prctl(2)).
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if process["no_new_privs"]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if seccomp_program:
            load_filter(seccomp_program)


def _change_directory(path: str, *, last: bool) -> bool:
    """Once with root's rights, and where they are of no use (a squashing NFS), again with the user's.

    Never through /proc/PID/fd, root or cwd: those lead out of the container (CVE-2024-21626).
    """
    try:
        directory = openat2(AT_FDCWD, path, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_MAGICLINKS)
        try:
            os.fchdir(directory)
        finally:
            os.close(directory)
    except PermissionError:
        if last:
            raise
        return False
    return True


def execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """execve(2) of `argv`, looked up in the PATH of `env`. Raises ExecFailure, or OSError for what is not the
    program's fault.

    No descriptor of a directory may be open: close-on-exec ones are not closed yet while the kernel looks for
    the program, which /proc/self/fd/N/../bin/x would find on the host (CVE-2024-21626).
    """
    name = argv[0]
    if not name:
        raise ExecFailure('exec: "": executable file not found in $PATH', 127)
    candidates = [name]
    if "/" not in name:
        candidates = [f"{each or '.'}/{name}" for each in env.get("PATH", DEFAULT_PATH).split(":")]
    refused = ""
    for path in candidates:
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.exists(path):
                # The file is there: what is missing is the interpreter that its first line or ELF header names.
                raise ExecFailure(f"exec {path}: no such file or directory (its interpreter is missing)", 127) from None
        except PermissionError:
            # As execvp(3): the search goes on, and this is the answer if nothing better is found.
            refused = refused or path
        except OSError as error:
            if error.errno in (errno.ENOEXEC, errno.EISDIR, errno.ELIBBAD, errno.ETXTBSY, errno.ELOOP, errno.E2BIG):
                raise ExecFailure(f"exec {path}: {os.strerror(error.errno).lower()}", 126) from None
            raise
    if refused:
        raise ExecFailure(f'exec: "{name}": permission denied', 126)
    if "/" in name:
        raise ExecFailure(f'exec: "{name}": stat {name}: no such file or directory', 127)
    raise ExecFailure(f'exec: "{name}": executable file not found in $PATH', 127)
