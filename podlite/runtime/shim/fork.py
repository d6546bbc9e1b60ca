"""Forking from a shim: into another pid namespace and cgroup, and what the child says until it has exec'd.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import errno
import os
import signal

from podlite.linux.process import CLONE_PARENT, fork_into
from podlite.linux.syscalls import CLONE_NEWPID, CLONE_NEWUSER, setns, unshare
from podlite.runtime.shim import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from podlite.runtime.shim.loop import Loop
    from podlite.runtime.shim.protocol import Message

NEW_PID_NAMESPACE, HOST_PID_NAMESPACE = -1, -2

# Those that the shim handles, by way of a descriptor that a forked child shares until it has reset them.
_HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


class Start:
    """A process between fork and execve: what it has said so far."""

    __slots__ = ("channel", "failure", "spans", "terminal")

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel = channel
        self.spans: list[list[Any]] = []
        self.terminal: list[int] = []
        self.failure: Message | None = None

    def listen(self, loop: Loop) -> bool:
        """Takes in what the child says; True at the end: it has exec'd, or it is dead."""
        while True:
            try:
                received = protocol.receive(self.channel)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                # It has ended with something unread; what it said before comes next.
                continue
            except (OSError, protocol.ProtocolError):
                # A descriptor too many for this process; the child goes on, and says no more.
                received = None
            if received is None:
                loop.forget(self.channel.fileno())
                self.channel.close()
                return True
            message, fds = received
            self.terminal.extend(fds)
            if message["m"] == "span":
                self.spans.append([message["name"], message["start"], message["end"], "container"])
            elif message["m"] == "failed":
                self.failure = message


def _help(user_namespace: int, cgroup: int, answer: int) -> bool:
    """Between a shim and a container's first process: enters the user namespace, and forks there. True in the child."""
    try:
        setns(user_namespace, CLONE_NEWUSER)
        unshare(CLONE_NEWPID)
        # Still with the host's root as its user: the cgroup is that one's.
        pid, pidfd = fork_into(cgroup, CLONE_PARENT)
        if pid == 0:
            return True
        os.close(pidfd)
        os.write(answer, b"%d" % pid)
    except OSError as error:
        os.write(answer, str(error).encode()[:1000])
    return False


class Forker:
    """fork(2) for a process with one thread, whose children begin elsewhere.

    `user_namespace`, a descriptor, is that of the pod where it has one: a new pid namespace has to belong to it, or
    the pod's root could not mount its own /proc. Children that begin in a new one are in the user namespace already.
    """

    def __init__(self) -> None:
        self.user_namespace = -1
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._cgroup_births = True

    def fork(self, pid_namespace: int, cgroup: str) -> tuple[int, int]:
        """Forks a child that begins in another pid namespace and in the v2 cgroup directory `cgroup`.

        Returns (pid, pidfd), and (0, -1) in the child. `pid_namespace` is a descriptor, or one of the two constants.
        Where the child cannot be born in the cgroup it joins by writing to cgroup.procs: see `cgroup_files`.
        """
        if pid_namespace == NEW_PID_NAMESPACE and self.user_namespace >= 0:
            return self._fork_in_user_namespace(cgroup if self._cgroup_births else "")
        if pid_namespace >= 0:
            setns(pid_namespace, CLONE_NEWPID)
        pid = -1
        # In the child until it has reset its handlers: a signal that somebody in the container sends it meanwhile
        # would be written where this process looks for its own, and SIGTERM would end the pod.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            if cgroup and self._cgroup_births:
                directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    pid, pidfd = fork_into(directory, CLONE_NEWPID if pid_namespace == NEW_PID_NAMESPACE else 0)
                    return pid, pidfd
                except OSError as error:
                    # No clone3 (a seccomp filter says ENOSYS or EPERM), or CLONE_INTO_CGROUP (before Linux 5.7).
                    if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.E2BIG, errno.EPERM):
                        raise
                    self._cgroup_births = False
                finally:
                    os.close(directory)
            if pid_namespace == NEW_PID_NAMESPACE:
                unshare(CLONE_NEWPID)
            pid = os.fork()
            return pid, os.pidfd_open(pid) if pid else -1
        finally:
            if pid != 0:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
                if pid_namespace != HOST_PID_NAMESPACE:
                    setns(self._own_pid_namespace, CLONE_NEWPID)

    def _fork_in_user_namespace(self, cgroup: str) -> tuple[int, int]:
        """As `fork`, through a child that enters the user namespace, and whose own child is this process's."""
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if cgroup else -1
        read, write = os.pipe2(os.O_CLOEXEC)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        helper = -1
        try:
            helper = os.fork()
            if helper == 0:
                if _help(self.user_namespace, directory, write):
                    return 0, -1
                os._exit(0)
            os.close(write)
            write = -1
            said = os.read(read, 1024).decode(errors="replace")
        finally:
            if helper != 0:
                if helper > 0:
                    os.waitpid(helper, 0)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            for fd in (directory, read, write):
                if fd >= 0:
                    os.close(fd)
        if not said.isdecimal():
            raise OSError(1, said or "the process that enters the pod's user namespace ended at once", "clone3")
        return int(said), os.pidfd_open(int(said))

    def cgroup_files(self, cgroup: str, others: list[str]) -> list[str]:
        """What a child writes to in order to join a container's cgroups, beside the one it is born in."""
        if cgroup and not self._cgroup_births:
            return [*others, f"{cgroup}/cgroup.procs"]
        return others
