"""Processes that are started beside a container's first one.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os
import signal
import socket

from podlite.linux.process import signal_child
from podlite.linux.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from podlite.runtime.shim import init
from podlite.runtime.shim.container import RUNNING
from podlite.runtime.shim.fork import Start
from podlite.runtime.shim.pod import NotRunning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podlite.runtime.shim.clients import Client
    from podlite.runtime.shim.container import Container
    from podlite.runtime.shim.pod import Pod
    from podlite.runtime.shim.protocol import Message


class _Exec:
    """One of them: `client` asked for it, and is told of its end."""

    __slots__ = ("client", "container", "id", "pid", "request", "start", "started")

    def __init__(self, message: Message, container: Container, client: Client, pid: int, start: Start) -> None:
        self.id: str = message["exec"]
        self.request: int = message["id"]
        self.container = container
        self.client = client
        self.pid = pid
        self.start = start
        self.started = False


class Execs:
    """The execs of a pod's containers, from the request to their exit."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._by_pid: dict[int, _Exec] = {}

    def begin(self, client: Client, message: Message, fds: list[int]) -> None:
        """Forks the process; it is answered when that has exec'd. Raises OSError, Refused."""
        pod, container = self._pod, self._pod.find(message)
        if container.state != RUNNING:
            raise NotRunning(container)
        process = _process(container, message)
        stdio = init.Stdio()
        for name, index in message["stdio"].items():
            setattr(stdio, name, fds[index])
        pod.hand_over(stdio)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        flags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
        if "user" in pod.namespaces:
            flags |= CLONE_NEWUSER
        try:
            pid, pidfd = pod.forker.fork(container.pidfd, container.cgroup)
            if pid == 0:
                init.run_exec(
                    process,
                    pod.forker.cgroup_files(container.cgroup, container.cgroups),
                    container.oom_score_adj,
                    container.pidfd,
                    flags,
                    stdio,
                    theirs,
                    container.seccomp,
                    pod.ids,
                    message["tty"],
                )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError) and container.ending():
                raise NotRunning(container) from error
            raise
        finally:
            theirs.close()
        os.close(pidfd)
        self._by_pid[pid] = _Exec(message, container, client, pid, Start(ours))
        pod.loop.watch(ours.fileno(), lambda events: self._progress(pid))

    def _progress(self, pid: int) -> None:
        each = self._by_pid[pid]
        if not each.start.listen(self._pod.loop):
            return
        if each.start.failure is not None:
            failure = each.start.failure
            if each.container.ending():
                failure = {**failure, "error": str(NotRunning(each.container)), "ended": True}
            each.client.send({**failure, "m": "failed", "id": each.request})
        else:
            message = {"m": "started", "id": each.request, "exec": each.id, "pid": pid}
            each.client.send(message, each.start.terminal)
        for fd in each.start.terminal:
            os.close(fd)
        each.started = True

    def signal(self, id: str, number: int) -> None:
        """A signal to an exec's process group; nothing happens if it has ended."""
        for each in self._by_pid.values():
            if each.id == id:
                signal_child(each.pid, number, group=True)

    def kill_of(self, client: Client) -> None:
        """Ends what a client started that is gone: the output goes nowhere any more."""
        for each in self._by_pid.values():
            if each.client is client:
                signal_child(each.pid, signal.SIGKILL, group=True)

    def kill_all(self) -> None:
        for pid in self._by_pid:
            signal_child(pid, signal.SIGKILL, group=True)

    def reaped(self, pid: int, status: int) -> bool:
        """Tells whoever asked for the exec of its exit; False if the process was none."""
        each = self._by_pid.get(pid)
        if each is None:
            return False
        if not each.started:
            self._progress(pid)
        del self._by_pid[pid]
        if each.start.failure is None:
            code = os.waitstatus_to_exitcode(status)
            each.client.send({"m": "exec_exited", "exec": each.id, "code": code if code >= 0 else 128 - code})
        return True


def _process(container: Container, message: Message) -> dict[str, Any]:
    """The container's own, but for what the request says differently."""
    process = {**container.process, "argv": message["argv"], "console": False}
    for key in ("cwd", "env", "uid", "gid", "groups", "window"):
        if key in message:
            process[key] = message[key]
    if message["tty"] and not any(each.startswith("TERM=") for each in process["env"]):
        process["env"] = [*process["env"], "TERM=xterm"]
    return process
