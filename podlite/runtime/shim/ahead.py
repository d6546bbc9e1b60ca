"""Processes that are forked ahead: the first ones of containers that have been created and not started yet.

    controller            shim                                    child (podlite.runtime.shim.init)
        | -- prepare -----> | fork --------------------------------> |  container.fork: cgroups, namespaces
        |                   |                                        |  waits
        | -- start -------> | -- rest {process, mounts …} [fds] ---> |  container.rootfs and so on

What it does until it waits depends on nothing that only the start knows, and takes place while the controller is still
at the creation and then at the start. It is only that much sooner: where there is no such process, or not the right
one any more, the start forks, and tells of whatever is wrong.

    prepare ──▶ waiting ── start ──▶ the container's first process
                   └── discard, another kind of start, another owner, end of the shim ──▶ killed and reaped

Only for containers with a pid namespace of their own: in that of others somebody could stop it while it waits.
Standard library only: the shim runs this.
"""

from __future__ import annotations

import marshal
import os
import signal
import socket

from podlite.runtime.shim import init, protocol
from podlite.runtime.shim.fork import NEW_PID_NAMESPACE, Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podlite.runtime.shim.pod import Pod
    from podlite.runtime.shim.protocol import Message

# What a start has to say as the preparation said it, or the process is not for it.
_SAME = ("ids", "trace", "cgroup", "cgroups", "oom_score_adj", "new_cgroup_namespace", "join", "pid_namespace")
# What only the start knows.
_REST = ("process", "mounts", "root", "read_only", "scratch", "seccomp")


class Forked:
    """A process that waits: `start` is what it says, and to whom that is passed on once somebody starts it."""

    __slots__ = ("message", "pid", "pidfd", "start")

    def __init__(self, message: Message, pid: int, pidfd: int, start: Start) -> None:
        self.message = message
        self.pid = pid
        self.pidfd = pidfd
        self.start = start

    def go(self, message: Message, fds: list[int], stdio: init.Stdio) -> bool:
        """Sends it what it waits for; False if it has died. Of `fds`, the request's, those that are taken are -1."""
        passed = [fd if fd >= 0 else fds[message["root"]] for fd in fds]
        streams = {}
        for name in init.Stdio.__slots__:
            fd = getattr(stdio, name)
            if fd >= 0:
                streams[name] = len(passed)
                passed.append(fd)
        try:
            rest = {"m": "rest", "streams": streams, **{key: message[key] for key in _REST}}
            # marshal: half the time of JSON, and the other side is this program's own fork.
            protocol.send(self.start.channel, rest, passed, marshal)
        except OSError:
            # EPIPE; or more descriptors than fit in a message (ETOOMANYREFS, EINVAL).
            return False
        return True


class Ahead:
    """The processes that wait in a pod, by their container."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._waiting: dict[str, Forked] = {}

    def prepare(self, message: Message) -> None:
        """Forks a container's first process. Nothing happens where that cannot be: its start will find out why."""
        pod = self._pod
        container = message["container"]
        if pod.config["ids"] or message["pid_namespace"] != "container" or container in pod.containers:
            return
        self.discard(container)
        namespaces = {name: fd for name, fd in pod.namespaces.items() if name in message["join"] and name != "pid"}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            pid, pidfd = pod.forker.fork(NEW_PID_NAMESPACE, message["cgroup"])
            if pid == 0:
                cgroups = pod.forker.cgroup_files(message["cgroup"], message["cgroups"])
                init.run_ahead({**message, "cgroups": cgroups}, pod.config["pod"], namespaces, theirs)
        except OSError:
            ours.close()
            return
        finally:
            theirs.close()
        self._waiting[container] = forked = Forked(message, pid, pidfd, Start(ours))
        pod.loop.watch(ours.fileno(), lambda events: self._said(container, forked))

    def _said(self, container: str, forked: Forked) -> None:
        """A span; or that it could not do it, and whoever starts the container will hear the reason."""
        if forked.start.listen(self._pod.loop) or forked.start.failure is not None:
            self.discard(container)

    def take(self, message: Message) -> Forked | None:
        """The process that waits for this start, if it lives; its channel is not watched any more."""
        container = message["container"]
        forked = self._waiting.get(container)
        if forked is None:
            return None
        self._said(container, forked)
        if any(message[key] != forked.message[key] for key in _SAME):
            self.discard(container)
        if self._waiting.pop(container, None) is None:
            return None
        self._pod.loop.forget(forked.start.channel.fileno())
        return forked

    def discard(self, container: str) -> None:
        """Ends the process that waits for the start of a container, if one does; it is reaped as any child."""
        forked = self._waiting.pop(container, None)
        if forked is not None:
            self.drop(forked)

    def drop(self, forked: Forked) -> None:
        """Ends one that waits, or was taken."""
        self._pod.loop.forget(forked.start.channel.fileno())
        forked.start.channel.close()
        # By descriptor: it may have been reaped.
        try:
            signal.pidfd_send_signal(forked.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(forked.pidfd)

    def discard_all(self) -> None:
        """Ends all of them."""
        for container in list(self._waiting):
            self.discard(container)
