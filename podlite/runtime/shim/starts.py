"""Containers from the request to start them to execve.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from podlite.linux import terminal
from podlite.runtime.shim import init
from podlite.runtime.shim.ahead import Ahead
from podlite.runtime.shim.container import FAILED, RUNNING, STARTING, Container, Output
from podlite.runtime.shim.fork import NEW_PID_NAMESPACE, Start
from podlite.runtime.shim.logs import LogWriter
from podlite.runtime.shim.pod import Refused
from podlite.runtime.shim.protocol import take
from podlite.runtime.shim.rootfs import new_pts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.runtime.shim.clients import Client
    from podlite.runtime.shim.pod import Pod
    from podlite.runtime.shim.protocol import Message


class _Asked:
    """A start that has not been answered yet."""

    __slots__ = ("client", "container", "request", "start")

    def __init__(self, client: Client, request: int, container: Container, start: Start) -> None:
        self.client = client
        self.request = request
        self.container = container
        self.start = start


class Starts:
    """The starts of a pod's containers; `on_failed()` is called after each that did not work."""

    def __init__(self, pod: Pod, on_failed: Callable[[], None]) -> None:
        self.ahead = Ahead(pod)
        self._pod = pod
        self._on_failed = on_failed
        self._by_pid: dict[int, _Asked] = {}  # until execve or exit

    def begin(self, client: Client, message: Message, fds: list[int]) -> None:
        """Has the container's first process go on to execve, and is answered then. Raises OSError, Refused."""
        pod = self._pod
        old = pod.containers.get(message["container"])
        if old is not None and old.state in (STARTING, RUNNING):
            raise Refused(f"container {message['container']} has been started already")
        log = LogWriter(take(fds, message["log"]))
        try:
            container = Container(message, log, pod.loop)
        except BaseException:
            log.close()
            raise
        try:
            if message["seccomp"] >= 0:
                program = fds[message["seccomp"]]
                container.seccomp = os.pread(program, os.fstat(program).st_size, 0)
            start = self._begin(container, message, fds)
        except BaseException:
            container.release()
            raise
        pod.containers[container.id] = container
        self._by_pid[container.pid] = _Asked(client, message["id"], container, start)
        pod.loop.watch(start.channel.fileno(), lambda events: self.progress(container.pid))

    def _begin(self, container: Container, message: Message, fds: list[int]) -> Start:
        """The process that has been forked ahead goes on, or else one is forked."""
        child_ends: list[int] = []
        try:
            stdio = self._open_stdio(container, message, fds, child_ends)
            self._pod.hand_over(stdio)
            forked = self.ahead.take(message)
            if forked is not None and forked.go(message, fds, stdio):
                container.pid, container.pidfd = forked.pid, forked.pidfd
                start = forked.start
            else:
                if forked is not None:
                    self.ahead.drop(forked)
                start = Start(self._fork(container, message, fds, stdio))
        finally:
            for fd in child_ends:
                os.close(fd)
        container.pump()
        return start

    def _open_stdio(self, container: Container, message: Message, fds: list[int], child_ends: list[int]) -> init.Stdio:
        """The container's ends of its streams; those in `child_ends` are closed once it has been forked."""
        stdio = init.Stdio()
        if message["tty"]:
            ids = self._pod.config["ids"]
            pts = new_pts(5 + ids["root"][1] if ids else 5)
            fds.append(pts)  # closed with the request's descriptors
            for operation in message["mounts"]:
                if operation["op"] == "pts":
                    operation["fd"] = len(fds) - 1
            master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=pts)
            container.terminal = stdio.terminal = master
            container.outputs.append(Output(master, b"stdout"))
            terminal.unlock(master)
            if ids:
                # The only terminal of this instance; the pod's root has no power over what the host's root owns.
                os.chown("0", *ids["root"], dir_fd=pts)
        elif message["stdio"]:
            # The starter holds the other ends himself.
            for name, index in message["stdio"].items():
                setattr(stdio, name, fds[index])
        else:
            for name in ("stdout", "stderr"):
                read, write = os.pipe2(os.O_CLOEXEC)
                child_ends.append(write)
                setattr(stdio, name, write)
                container.outputs.append(Output(read, name.encode()))
            if message["stdin"]:
                read, container.stdin = os.pipe2(os.O_CLOEXEC)
                child_ends.append(read)
                stdio.stdin = read
        return stdio

    def _fork(self, container: Container, message: Message, fds: list[int], stdio: init.Stdio) -> socket.socket:
        """Forks the container's first process where it belongs; returns the channel on which it tells how it goes."""
        pod = self._pod
        namespaces = {name: fd for name, fd in pod.namespaces.items() if name in message["join"] and name != "pid"}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            namespace = pod.pid_namespace(message["pid_namespace"])
            try:
                pid, container.pidfd = pod.forker.fork(namespace, container.cgroup)
            except OSError as error:
                # ENOMEM also says that pid 1 of the namespace has died, of which we have not been told yet.
                if error.errno != errno.ENOMEM or message["pid_namespace"] != "pod" or not pod.pause_ended():
                    raise
                namespace = pod.pid_namespace("pod")
                pid, container.pidfd = pod.forker.fork(namespace, container.cgroup)
            if pid == 0:
                if namespace == NEW_PID_NAMESPACE and pod.config["ids"]:
                    del namespaces["user"]  # it is in it
                message["user_namespace"] = bool(pod.config["ids"])
                message["cgroups"] = pod.forker.cgroup_files(container.cgroup, container.cgroups)
                init.run_container(message, fds, stdio, namespaces, theirs, container.seccomp)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        container.pid = pid
        return ours

    def progress(self, pid: int) -> None:
        """Takes in what a container between fork and execve says; nothing for any other process."""
        asked = self._by_pid.get(pid)
        if asked is None or not asked.start.listen(self._pod.loop):
            return
        start, container = asked.start, asked.container
        del self._by_pid[pid]
        container.started_ns = time.monotonic_ns()
        if start.failure is None:
            if start.spans:
                # A process cannot tell of the end of its own execve: its channel is closed by it.
                start.spans.append(["container.exec", start.spans[-1][2], container.started_ns, "container"])
            container.state = RUNNING
            container.started_at = time.time_ns()
            asked.client.send(
                {
                    "m": "started",
                    "id": asked.request,
                    "container": container.id,
                    "pid": pid,
                    "started_at": container.started_at,
                    "exec_ns": container.started_ns,
                    "spans": start.spans,
                }
            )
            return
        container.state = FAILED
        asked.client.send({**start.failure, "m": "failed", "id": asked.request, "spans": start.spans})
        self._on_failed()
