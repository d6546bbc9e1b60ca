"""A container's first process, from the shim's fork to execve; and that of an exec.

    shim                                        child (this module)
      | fork ------------------------------------> |  container.fork: cgroups, namespaces
      | -- rest {process, mounts …} [fds] -------> |  (only to one that is forked ahead, see `ahead`)
      |                                            |  container.rootfs: mounts, pivot_root
      |                                            |  container.confine: user, capabilities, seccomp
      | <-- span {name, start, end} -------------- |  (only when somebody listens)
      | <-- pty {} [master] ---------------------- |  (an exec with a terminal)
      | <-- failed {step, code, error} ----------- |  and exit
      | (end of file: close-on-exec) ------------- |  execve worked

Nothing may be imported after the change of root: it would come from the image.
"""

from __future__ import annotations

import errno
import gc
import marshal
import os
import signal
import socket
import stat

from podlite import steps
from podlite.linux import mounts
from podlite.linux import terminal as terminals
from podlite.linux.process import set_oom_score_adj, set_title
from podlite.linux.syscalls import (
    AT_FDCWD,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    DEVPTS_SUPER_MAGIC,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    RESOLVE_NO_SYMLINKS,
    close_range,
    filesystem_type,
    openat2,
    prctl,
    setns,
    unshare,
)
from podlite.runtime.shim import confine, protocol, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Spec = dict[str, Any]

# The user namespace first: it is what gives the right to enter the others (setns(2)).
_JOIN_ORDER = (
    ("user", CLONE_NEWUSER),
    ("net", CLONE_NEWNET),
    ("ipc", CLONE_NEWIPC),
    ("uts", CLONE_NEWUTS),
)


class Stdio:
    """The child's ends of its standard streams; -1 means /dev/null. `terminal` is a pty's master, or -1."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(self, stdin: int = -1, stdout: int = -1, stderr: int = -1, terminal: int = -1) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal


def run_container(
    spec: Spec, fds: list[int], stdio: Stdio, namespaces: dict[str, int], channel: socket.socket, seccomp: bytes
) -> NoReturn:
    """Runs in the forked child of a container start; never returns."""
    step = "container.fork"
    try:
        _begin(channel, spec)
        with steps.step("container.fork", **spec["ids"]):
            _join(spec, namespaces)
            if spec["user_namespace"]:
                # What is only for the host's root to reach is opened before it becomes the pod's.
                rootfs.open_paths(spec["mounts"], spec["scratch"])
                become_root()
        step = "container.rootfs"
        _enter_root(spec, fds, spec["ids"])
        step = "container.confine"
        _finish(spec["process"], stdio, channel, seccomp, spec["ids"])
    except BaseException as error:
        _fail(channel, step, error)
    raise AssertionError("the program has taken over")


def run_ahead(spec: Spec, pod: str, namespaces: dict[str, int], channel: socket.socket) -> NoReturn:
    """Runs in a child that is forked before its container's start (see `ahead`); never returns.

    Until the start it waits, with nothing open but its end of the channel.
    """
    step = "container.fork"
    try:
        _begin(channel, spec)
        with steps.step("container.fork", **spec["ids"]):
            _join(spec, namespaces)
            set_title(f"podlite: created {pod}")
            # The numbers are given out anew below: nothing that is forgotten here may close them.
            gc.disable()
            _close_all_but(channel.fileno(), steps.log_descriptor())
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0)
        rootfs.make_ahead(spec["mounts"])
        received = protocol.receive(channel, marshal)
        if received is None:
            os._exit(1)
        rest, fds = received
        stdio = Stdio(**{name: fds[index] for name, index in rest["streams"].items()})
        program = fds[rest["seccomp"]] if rest["seccomp"] >= 0 else -1
        seccomp = os.pread(program, os.fstat(program).st_size, 0) if program >= 0 else b""
        step = "container.rootfs"
        _enter_root(rest, fds, spec["ids"])
        step = "container.confine"
        _finish(rest["process"], stdio, channel, seccomp, spec["ids"])
    except BaseException as error:
        _fail(channel, step, error)
    raise AssertionError("the program has taken over")


def _join(spec: Spec, namespaces: dict[str, int]) -> None:
    os.setsid()
    join_cgroups(spec["cgroups"])
    if spec["oom_score_adj"] is not None:
        set_oom_score_adj(spec["oom_score_adj"])
    join_namespaces(namespaces)
    unshare(CLONE_NEWNS | (CLONE_NEWCGROUP if spec["new_cgroup_namespace"] else 0))


def _enter_root(spec: Spec, fds: list[int], ids: dict[str, str]) -> None:
    with steps.step("container.rootfs", **ids):
        os.umask(0)
        rootfs.enter(fds[spec["root"]], spec["mounts"], fds, spec["scratch"], read_only=spec["read_only"])


def run_exec(
    process: dict[str, Any],
    cgroups: list[str],
    oom_score_adj: int | None,
    target_pidfd: int,
    namespaces: int,
    stdio: Stdio,
    channel: socket.socket,
    seccomp: bytes,
    ids: dict[str, str],
    terminal: bool,
) -> NoReturn:
    """Runs in the forked child of an exec, which is in the container's pid namespace already; never returns.

    `namespaces` are the CLONE_NEW* flags of what is left to join, from `target_pidfd`.
    """
    step = "exec.start"
    try:
        _begin(channel, {"trace": False})
        os.setsid()
        join_cgroups(cgroups)
        if oom_score_adj is not None:
            set_oom_score_adj(oom_score_adj)
        setns(target_pidfd, namespaces)
        if namespaces & CLONE_NEWUSER:
            become_root()
        if terminal:
            stdio.terminal = _open_terminal(channel)
            if "window" in process:
                terminals.set_window(stdio.terminal, *process["window"])
        step = "container.confine"
        _finish(process, stdio, channel, seccomp, ids)
    except BaseException as error:
        _fail(channel, step, error)
    raise AssertionError("the program has taken over")


def _begin(channel: socket.socket, spec: Spec) -> None:
    steps.where = "container"
    steps.forget_listeners()
    confine.reset_signals()
    # From here on this process can be seen from inside the pod's pid namespace; nobody there may look into it.
    prctl(PR_SET_DUMPABLE, 0)
    if spec["trace"]:
        steps.listen(lambda span: _send_span(channel, span))


def _send_span(channel: socket.socket, span: steps.Span) -> None:
    protocol.send(channel, {"m": "span", "name": span.name, "start": span.start_ns, "end": span.end_ns})


def join_cgroups(paths: list[str]) -> None:
    """Moves the calling process into the cgroups whose `cgroup.procs` files these are."""
    for path in paths:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")  # the writer itself (cgroups(7))
        finally:
            os.close(fd)


def join_namespaces(namespaces: dict[str, int]) -> None:
    """Moves the calling process into these namespaces of the pod (name to descriptor), the user namespace first."""
    for name, kind in _JOIN_ORDER:
        if name in namespaces:
            setns(namespaces[name], kind)


def become_root() -> None:
    """After entering a user namespace: to be its root, not the host's, to whom nothing in it belongs."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # The change of user makes it what fs.suid_dumpable says (proc(5)).
    prctl(PR_SET_DUMPABLE, 0)


def _finish(process: dict[str, Any], stdio: Stdio, channel: socket.socket, seccomp: bytes, ids: dict[str, str]) -> None:
    with steps.step("container.confine", **ids):
        _set_up_stdio(stdio, process["uid"], process["gid"], console=process["console"])
        _close_all_but(channel.fileno(), steps.log_descriptor())
        confine.confine(process, seccomp)
        if _is_orphan(channel):
            # The shim died before the kernel could be asked to kill this process with it.
            os._exit(1)
    env = dict(entry.split("=", 1) for entry in process["env"])
    for entry in process.get("env_bytes", ()):
        # Bytes that are no UTF-8, which JSON has no strings for, come as Latin-1.
        name, value = entry.encode("latin-1").decode("utf-8", "surrogateescape").split("=", 1)
        env[name] = value
    with steps.step("container.exec", **ids):
        confine.execute(process["argv"], env)


def _close_all_but(*kept: int) -> None:
    """Closes what the shim had open, for real: close-on-exec is too late (see confine.execute)."""
    first = 3
    for fd in sorted(kept):
        if fd > first:
            close_range(first, fd - 1)
        first = max(first, fd + 1)
    close_range(first, 0xFFFFFFFF)


def _is_orphan(channel: socket.socket) -> bool:
    try:
        return channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except OSError:
        # BlockingIOError: it lives. Anything else: a seccomp filter that does not let us ask.
        return False


def _open_device(path: str) -> int:
    """A device of the container's, opened by a process that has not given up anything yet.

    In an exec, and where a volume is mounted on /dev, somebody in there may have put anything in its place: a
    link to /proc/self/fd/N would hand an open descriptor of podlite's to the container's program.
    """
    try:
        return openat2(AT_FDCWD, path, os.O_RDWR | os.O_NOCTTY, resolve=RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise OSError(error.errno, f"{path} in the container cannot be opened: {error.strerror}") from None


def _open_null() -> int:
    null = _open_device("/dev/null")
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENODEV, "/dev/null in the container is not the null device")
    return null


def _open_terminal(channel: socket.socket) -> int:
    """A terminal from the container's own devpts; its master goes to whoever asked for the exec."""
    master = _open_device("/dev/pts/ptmx")
    if filesystem_type(master) != DEVPTS_SUPER_MAGIC:
        raise OSError(1, "/dev/pts in the container is not a devpts", "/dev/pts/ptmx")
    terminals.unlock(master)
    protocol.send(channel, {"m": "pty"}, [master])
    return master


def _set_up_stdio(stdio: Stdio, uid: int, gid: int, *, console: bool) -> None:
    if stdio.terminal >= 0:
        terminal = terminals.open_peer(stdio.terminal)
        terminals.make_controlling(terminal)
        os.fchown(terminal, uid, gid)
        for target in (0, 1, 2):
            os.dup2(terminal, target)
        if console:
            _bind_console(terminal)
        return
    null = -1
    for target, fd in ((0, stdio.stdin), (1, stdio.stdout), (2, stdio.stderr)):
        if fd >= 0:
            _own_pipe(fd, uid, gid)
        elif null < 0:
            # The container's, not the host's: who has it open may change its permissions.
            null = _open_null()
        os.dup2(fd if fd >= 0 else null, target)


def _bind_console(terminal: int) -> None:
    """/dev/console is the container's terminal; the empty file under it was made with /dev (CVE-2025-52565)."""
    target = openat2(AT_FDCWD, "/dev/console", os.O_PATH, resolve=RESOLVE_NO_SYMLINKS)
    mount = mounts.clone("", dir_fd=terminal)
    mounts.attach(mount, target)
    os.close(mount)
    os.close(target)


def _own_pipe(fd: int, uid: int, gid: int) -> None:
    """A program that opens /dev/stdout anew must be allowed to, whoever it runs as.

    What the caller of an exec passes may be anything; a file or a device of the host's stays whose it is.
    """
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.fchown(fd, uid, gid)


def _fail(channel: socket.socket, step: str, error: BaseException) -> NoReturn:
    code = 125
    if isinstance(error, confine.ExecFailure):
        step, code, text = "container.exec", error.code, error.text
    elif isinstance(error, OSError):
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
    else:
        text = str(error) or type(error).__name__
    try:
        protocol.send(channel, {"m": "failed", "step": step, "code": code, "error": text})
    finally:
        os._exit(code)
