"""The shim: one small process per pod, parent of the pod's containers.

It starts containers and execs, copies their output into the log files, reaps them, tells its owner, and holds
the pod's namespaces. It outlives its owner where that is wanted (`agent`, `cri`), and ends its containers when
its owner vanishes where it is not (`run`). See `protocol` for what it is told and what it says.

Standard library only, and no module may be imported after the spawner has forked it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import time

from podlite import steps
from podlite.linux import terminal
from podlite.linux.process import set_child_subreaper, set_title
from podlite.linux.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    prctl,
)
from podlite.runtime.shim import init, pod_namespaces, protocol
from podlite.runtime.shim.clients import Client
from podlite.runtime.shim.container import (
    ATTACHMENTS,
    EXITED,
    FAILED,
    RUNNING,
    STARTING,
    Attachment,
    Container,
    Output,
)
from podlite.runtime.shim.fork import HOST_PID_NAMESPACE, NEW_PID_NAMESPACE, Forker, Start
from podlite.runtime.shim.logs import LogWriter
from podlite.runtime.shim.loop import Loop
from podlite.runtime.shim.names import EXITS, SOCKET
from podlite.runtime.shim.rootfs import new_pts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podlite.runtime.shim.protocol import Message

# Connections beside the owner's: one more is refused.
GUESTS = 64
# How long the last of the children may take to die after SIGKILL before the shim ends without them.
_LAST_SECONDS = 1.0


def _take(fds: list[int], index: int) -> int:
    """A descriptor of a request that is to outlive it; -1 for an index of -1."""
    if index < 0:
        return -1
    fd, fds[index] = fds[index], -1
    return fd


class _Refused(Exception):
    """A request that cannot be carried out; its text is the answer."""


class _NotRunning(_Refused):
    """The container that it is about does not run, or not any more."""

    def __init__(self, container: Container) -> None:
        super().__init__(f"container {container.id} is not running")


class _Exec:
    """A process started beside a container's first one."""

    __slots__ = ("client", "container", "id", "pid", "start", "started")

    def __init__(self, id: str, container: Container, client: Client, pid: int, start: Start) -> None:
        self.id = id
        self.container = container
        self.client = client
        self.pid = pid
        self.start = start
        self.started = False


class Shim:
    """The shim of one pod; `run` returns when it has nothing left to do."""

    def __init__(self, config: Message, owner: socket.socket, directory: int, scratch: str) -> None:
        self.config = config
        self.ids: dict[str, str] = {"pod": config["pod"], "sandbox_id": config["sandbox_id"]}
        self.scratch = scratch
        self.directory = directory
        self.loop = Loop()
        self.namespaces: dict[str, int] = {}
        self.forker = Forker()
        self.containers: dict[str, Container] = {}
        self.starts: dict[int, tuple[Start, Container]] = {}  # by pid, until execve or exit
        self.execs: dict[int, _Exec] = {}  # by pid
        self.pause_pid = 0
        self.holder: pod_namespaces.UserNamespace | None = None
        self.ending = False
        self.spans: list[list[Any]] = []
        self.listener: socket.socket | None = None
        self.guests: set[Client] = set()
        self.owner: Client | None = Client(owner, self.loop, self._message, self._closed)

    # --- life -------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Makes what the pod shares, listens for guests, and tells the owner. Raises OSError."""
        config = self.config
        with steps.step("shim.setup", **self.ids):
            os.setsid()
            set_title(f"podlite: shim {config['pod']}")
            set_child_subreaper()
            self._watch_children()
            holder = self._make_namespaces(config)
            if config["sysctls"] and not config["ids"]:
                pod_namespaces.write_sysctls(self.namespaces["ipc"], config["sysctls"])
            self.shm = pod_namespaces.create_shared_memory(self.scratch, config["shm_size"])
            self.listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            # By descriptor: a socket's path may have only 107 bytes, a run directory may be deep.
            address = f"/proc/self/fd/{self.directory}/{SOCKET}"
            try:
                os.unlink(address)
            except FileNotFoundError:
                pass
            old = os.umask(0o177)
            listener.bind(address)
            os.umask(old)
            listener.listen(16)
            listener.setblocking(False)
            self.loop.watch(listener.fileno(), self._accept)
            # Last: an unprivileged parent that writes id maps needs /proc access until then. From here on
            # nobody but root may look into this process, or into what it forks, until it has exec'd.
            prctl(PR_SET_DUMPABLE, 0)
        ready: Message = {"m": "ready", "version": protocol.VERSION, "pid": os.getpid(), "shm": self.shm}
        self._tell_owner({**ready, "holder": holder})

    def _make_namespaces(self, config: Message) -> int:
        """What the containers share; the pid of who holds the network namespace until it is pinned, or 0."""
        own, ids = {"ipc": config["ipc"], "uts": config["uts"], "hostname": config["hostname"]}, config["ids"]
        if not ids:
            self.namespaces.update(pod_namespaces.create(**own))
            return 0
        self.holder = pod_namespaces.create_with_user_namespace(
            ids["uids"], ids["gids"], network=ids["network"], sysctls=config["sysctls"], **own
        )
        self.namespaces.update(self.holder.namespaces)
        self.forker.user_namespace = self.namespaces["user"]
        return self.holder.pid

    def run(self) -> None:
        """Serves until the owner's shutdown, or until everything has ended after a foreground owner vanished."""
        self.loop.run()
        self._end_children()

    def _end_children(self) -> None:
        """Nothing that was started here outlives this process, not even dead: a machine's pid 1 reaps what it inherits,
        that of a container often does not."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        for pid in (self.pause_pid, *self.execs):
            if pid:
                self._send_signal(pid, signal.SIGKILL, group=True)
        deadline = time.monotonic() + _LAST_SECONDS
        while True:
            try:
                reaped, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if reaped == 0:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                signal.sigtimedwait((signal.SIGCHLD,), left)

    def _watch_children(self) -> None:
        read, write = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        read.setblocking(False)
        write.setblocking(False)
        self._wakeup = (read, write)
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        self.loop.watch(read.fileno(), self._signalled)

    def _signalled(self, events: int) -> None:
        try:
            numbers = self._wakeup[0].recv(4096)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self._end()
        self._reap()

    def _end(self) -> None:
        """Kills every container; the loop stops once all are reaped."""
        self.ending = True
        for container in self.containers.values():
            self._kill(container)
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self.ending and not any(each.state in (STARTING, RUNNING) for each in self.containers.values()):
            self.loop.running = False

    def _tell_owner(self, message: Message) -> None:
        if self.owner is not None:
            if self.spans:
                message["spans"], self.spans = self.spans, []
            self.owner.send(message)

    # --- connections ------------------------------------------------------------------------

    def _accept(self, events: int) -> None:
        assert self.listener is not None
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # Out of descriptors: who waits is always ready, and would keep the loop busy.
            listener = self.listener.fileno()
            self.loop.forget(listener)
            self.loop.after(0.1, lambda: self.loop.watch(listener, self._accept))
            return
        if len(self.guests) >= GUESTS:
            sock.close()
            return
        self.guests.add(Client(sock, self.loop, self._message, self._closed))

    def _closed(self, client: Client) -> None:
        self.guests.discard(client)
        for each in self.execs.values():
            if each.client is client:
                # Its output goes nowhere any more.
                self._send_signal(each.pid, signal.SIGKILL, group=True)
        if client is self.owner:
            self.owner = None
            if self.config["orphan"] == "end":
                self._end()

    def _message(self, client: Client, message: Message, fds: list[int]) -> None:
        request = message.get("id", 0)
        try:
            handler = self._HANDLERS.get(message["m"])
            if handler is None:
                raise _Refused(f"this shim does not know the message {message['m']!r}")
            handler(self, client, message, fds)
        except _Refused as error:
            answer = {"m": "failed", "id": request, "step": "", "code": 125, "error": str(error)}
            client.send({**answer, "ended": isinstance(error, _NotRunning)})
        except OSError as error:
            text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error)
            client.send({"m": "failed", "id": request, "step": message["m"], "code": 125, "error": text})
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            client.send({"m": "failed", "id": request, "step": message["m"], "code": 125, "error": text})
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def _find(self, message: Message) -> Container:
        container = self.containers.get(message["container"])
        if container is None:
            raise _Refused(f"container {message['container']} is not known to its pod's shim")
        return container

    # --- requests: each may take a descriptor over by putting -1 in its place ----------------

    def _join(self, client: Client, message: Message, fds: list[int]) -> None:
        """The pod's network namespace (and user namespace), once they exist, and what an orphan does."""
        self.config["orphan"] = message.get("orphan", self.config["orphan"])
        if self.holder is not None:
            self.holder.release()
        for name, index in message["namespaces"].items():
            fd, fds[index] = fds[index], -1
            old, self.namespaces[name] = self.namespaces.get(name, -1), fd
            if old >= 0:
                os.close(old)

    def _assign(self, client: Client, message: Message, fds: list[int]) -> None:
        """A spare sandbox has become a pod's."""
        self.config.update(message["identity"], orphan=message["orphan"])
        self.ids = {"pod": self.config["pod"], "sandbox_id": self.config["sandbox_id"]}
        set_title(f"podlite: shim {self.config['pod']}")
        pod_namespaces.set_hostname(self.namespaces["uts"], self.config["hostname"])

    def _start(self, client: Client, message: Message, fds: list[int]) -> None:
        old = self.containers.get(message["container"])
        if old is not None and old.state in (STARTING, RUNNING):
            raise _Refused(f"container {message['container']} has been started already")
        if self.ending:
            raise _Refused("the pod is ending")
        log = LogWriter(_take(fds, message["log"]))
        try:
            container = Container(message, log, self.loop)
        except BaseException:
            log.close()
            raise
        try:
            start = self._fork_container(client, container, message, fds)
        except BaseException:
            container.release()
            raise
        self.containers[container.id] = container
        self.starts[container.pid] = (start, container)
        self.loop.watch(start.channel.fileno(), lambda events: self._start_progress(container.pid))

    def _fork_container(self, client: Client, container: Container, message: Message, fds: list[int]) -> Start:
        namespaces = {name: fd for name, fd in self.namespaces.items() if name in message["join"] and name != "pid"}
        if message["seccomp"] >= 0:
            program = fds[message["seccomp"]]
            container.seccomp = os.pread(program, os.fstat(program).st_size, 0)
        child_ends: list[int] = []
        stdio = init.Stdio()
        try:
            if message["tty"]:
                pts = new_pts(5 + self.config["ids"]["root"][1] if self.config["ids"] else 5)
                fds.append(pts)  # closed with the request's descriptors
                for operation in message["mounts"]:
                    if operation["op"] == "pts":
                        operation["fd"] = len(fds) - 1
                master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=pts)
                terminal.unlock(master)
                if self.config["ids"]:
                    # The only terminal of this instance; the pod's root has no power over what the host's root owns.
                    os.chown("0", *self.config["ids"]["root"], dir_fd=pts)
                container.terminal = stdio.terminal = master
            elif message["stdio"]:
                # The starter holds the other ends himself.
                for name, index in message["stdio"].items():
                    setattr(stdio, name, fds[index])
            else:
                for name in ("stdout", "stderr"):
                    read, write = os.pipe2(os.O_CLOEXEC)
                    child_ends.append(write)
                    setattr(stdio, name, write)
                    container.pump(Output(read, name.encode()))
                if message["stdin"]:
                    read, container.stdin = os.pipe2(os.O_CLOEXEC)
                    child_ends.append(read)
                    stdio.stdin = read
            self._hand_over(stdio)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            try:
                namespace = self._pid_namespace(message["pid_namespace"])
                try:
                    pid, container.pidfd = self.forker.fork(namespace, container.cgroup)
                except OSError as error:
                    # ENOMEM also says that pid 1 of the namespace has died, of which we have not been told yet.
                    if error.errno != errno.ENOMEM or message["pid_namespace"] != "pod" or not self._pause_ended():
                        raise
                    namespace = self._pid_namespace("pod")
                    pid, container.pidfd = self.forker.fork(namespace, container.cgroup)
                if pid == 0:
                    if namespace == NEW_PID_NAMESPACE and self.config["ids"]:
                        del namespaces["user"]  # it is in it
                    message["user_namespace"] = bool(self.config["ids"])
                    message["cgroups"] = self.forker.cgroup_files(container)
                    init.run_container(message, fds, stdio, namespaces, theirs, container.seccomp)
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
        finally:
            for fd in child_ends:
                os.close(fd)
        container.pid = pid
        if container.terminal >= 0:
            container.pump(Output(container.terminal, b"stdout"))
        ours.setblocking(False)
        return Start(client, message["id"], ours)

    def _hand_over(self, stdio: init.Stdio) -> None:
        """Gives the pipes to the root of the pod's user namespace, which gives them to the container's user."""
        if not self.config["ids"]:
            return
        for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
            if fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, *self.config["ids"]["root"])

    def _pause_ended(self) -> bool:
        """Whether the pod's pid 1 has died, or does so while it is waited for; it is reaped then."""
        deadline = time.monotonic() + _LAST_SECONDS
        while self.pause_pid and os.waitpid(self.pause_pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        self._forget_pause()
        return True

    def _forget_pause(self) -> None:
        if self.pause_pid:
            self.pause_pid = 0
            os.close(self.namespaces.pop("pid"))

    def _pid_namespace(self, wanted: str) -> int:
        """What `pid_namespace` of a start means: one of the two constants, or a descriptor to enter."""
        if wanted == "container":
            return NEW_PID_NAMESPACE
        if wanted == "host":
            return HOST_PID_NAMESPACE
        if wanted == "pod":
            if not self.pause_pid:
                with steps.step("shim.pause", **self.ids):
                    joinable = {name: fd for name, fd in self.namespaces.items() if name != "pid"}
                    self.pause_pid = pod_namespaces.start_pause(
                        joinable, self.config["pause_cgroups"], self.scratch, self.forker
                    )
                    self.namespaces["pid"] = os.open(f"/proc/{self.pause_pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            return self.namespaces["pid"]
        target = self.containers.get(wanted)
        if target is None or target.state != RUNNING:
            raise _Refused(f"the target container {wanted} is not running, so its pid namespace cannot be joined")
        return target.pidfd

    def _start_progress(self, pid: int) -> None:
        start, container = self.starts[pid]
        if not start.listen(self.loop):
            return
        del self.starts[pid]
        container.started_ns = time.monotonic_ns()
        if start.failure is None:
            if start.spans:
                # A process cannot tell of the end of its own execve: its channel is closed by it.
                start.spans.append(["container.exec", start.spans[-1][2], container.started_ns, "container"])
            container.state = RUNNING
            container.started_at = time.time_ns()
            start.client.send(
                {
                    "m": "started",
                    "id": start.request,
                    "container": container.id,
                    "pid": pid,
                    "started_at": container.started_at,
                    "exec_ns": container.started_ns,
                    "spans": start.spans,
                }
            )
            return
        container.state = FAILED
        start.client.send({**start.failure, "m": "failed", "id": start.request, "spans": start.spans})
        self._stop_if_done()

    # --- exec -------------------------------------------------------------------------------

    def _exec(self, client: Client, message: Message, fds: list[int]) -> None:
        container = self._find(message)
        if container.state != RUNNING:
            raise _NotRunning(container)
        process = {**container.process, "argv": message["argv"], "console": False}
        for key in ("cwd", "env", "uid", "gid", "groups", "window"):
            if key in message:
                process[key] = message[key]
        if message["tty"] and not any(each.startswith("TERM=") for each in process["env"]):
            process["env"] = [*process["env"], "TERM=xterm"]
        stdio = init.Stdio()
        for name, index in message["stdio"].items():
            setattr(stdio, name, fds[index])
        self._hand_over(stdio)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        flags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
        if "user" in self.namespaces:
            flags |= CLONE_NEWUSER
        try:
            pid, pidfd = self.forker.fork(container.pidfd, container.cgroup)
            if pid == 0:
                init.run_exec(
                    process,
                    self.forker.cgroup_files(container),
                    container.oom_score_adj,
                    container.pidfd,
                    flags,
                    stdio,
                    theirs,
                    container.seccomp,
                    self.ids,
                    message["tty"],
                )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError) and container.ending():
                raise _NotRunning(container) from error
            raise
        finally:
            theirs.close()
        os.close(pidfd)
        ours.setblocking(False)
        start = Start(client, message["id"], ours)
        self.execs[pid] = _Exec(message["exec"], container, client, pid, start)
        self.loop.watch(ours.fileno(), lambda events: self._exec_progress(pid))

    def _exec_progress(self, pid: int) -> None:
        each = self.execs[pid]
        if not each.start.listen(self.loop):
            return
        if each.start.failure is not None:
            failure = each.start.failure
            if each.container.ending():
                failure = {**failure, "error": str(_NotRunning(each.container)), "ended": True}
            each.client.send({**failure, "m": "failed", "id": each.start.request})
        else:
            message = {"m": "started", "id": each.start.request, "exec": each.id, "pid": pid}
            each.client.send(message, each.start.terminal)
        for fd in each.start.terminal:
            os.close(fd)
        each.started = True

    # --- the rest of the requests -------------------------------------------------------------

    def _signal(self, client: Client, message: Message, fds: list[int]) -> None:
        number = message["signal"]
        if "exec" in message:
            for each in self.execs.values():
                if each.id == message["exec"]:
                    self._send_signal(each.pid, number, group=True)
        else:
            container = self._find(message)
            if container.state in (STARTING, RUNNING):
                if number == signal.SIGKILL:
                    self._kill(container)
                else:
                    self._send_signal(container.pid, number)
        client.send({"m": "done", "id": message["id"]})

    def _kill(self, container: Container) -> None:
        if container.state in (STARTING, RUNNING) and container.wait_status is None:
            self._send_signal(container.pid, signal.SIGKILL)
            container.kill()

    def _send_signal(self, pid: int, number: int, *, group: bool = False) -> None:
        """With `group` to its whole process group, as a terminal would: it leads one as soon as it has its session."""
        # Our own child and not reaped yet, so the pid is nobody else's.
        for send in (os.killpg, os.kill) if group else (os.kill,):
            try:
                send(pid, number)
                return
            except ProcessLookupError:
                pass

    def _resize(self, client: Client, message: Message, fds: list[int]) -> None:
        container = self._find(message)
        if container.terminal >= 0:
            terminal.set_window(container.terminal, message["width"], message["height"])
        client.send({"m": "done", "id": message["id"]})

    def _reopen(self, client: Client, message: Message, fds: list[int]) -> None:
        container = self._find(message)
        if container.state != RUNNING:
            raise _NotRunning(container)
        container.log.reopen(_take(fds, 0))
        client.send({"m": "done", "id": message["id"]})

    def _attach(self, client: Client, message: Message, fds: list[int]) -> None:
        """Copies the output to the client's pipes from now on, and hands it the container's standard input."""
        container = self._find(message)
        if container.state != RUNNING:
            raise _NotRunning(container)
        given = []
        if message["stdin"]:
            source = container.terminal if container.terminal >= 0 else container.stdin
            if source < 0:
                raise _Refused(f"container {container.id} has no standard input: its spec does not say `stdin: true`")
            given.append(source)
        for output in container.outputs:
            index = message["stdio"].get(output.name.decode())
            if index is not None:
                if len(output.attached) >= ATTACHMENTS:
                    raise _Refused(f"{ATTACHMENTS} clients are attached to container {container.id} already")
                output.attached.append(Attachment(fds[index], self.loop))
                fds[index] = -1
        client.send({"m": "attached", "id": message["id"], "tty": container.terminal >= 0}, given)
        if given and container.stdin_once and container.stdin >= 0:
            # The end of this client's input is the end of the container's.
            os.close(container.stdin)
            container.stdin = -1

    def _status(self, client: Client, message: Message, fds: list[int]) -> None:
        client.send(
            {
                "m": "status",
                "id": message["id"],
                "version": protocol.VERSION,
                "orphan": self.config["orphan"],
                "containers": self._states(),
            }
        )

    def _states(self) -> list[Message]:
        return [
            {
                "container": each.id,
                "state": each.state,
                "pid": each.pid,
                "started_at": each.started_at,
                "finished_at": each.finished_at,
                "code": each.exit_code if each.wait_status is not None else 0,
                "oom": each.oom,
            }
            for each in self.containers.values()
        ]

    def _namespaces(self, client: Client, message: Message, fds: list[int]) -> None:
        """The pod's own namespaces, for `podlite nsenter`: those of a pod in which nothing runs are only here."""
        client.send({"m": "namespaces", "id": message["id"], "names": [*self.namespaces]}, [*self.namespaces.values()])

    def _adopt(self, client: Client, message: Message, fds: list[int]) -> None:
        """Makes the sender the owner; a former one becomes a guest."""
        if self.owner is not None and self.owner is not client:
            self.guests.add(self.owner)
        self.guests.discard(client)
        self.owner = client
        self.config["orphan"] = message["orphan"]
        client.send({"m": "status", "id": message["id"], "version": protocol.VERSION, "containers": self._states()})

    def _delete(self, client: Client, message: Message, fds: list[int]) -> None:
        """Somebody else wants the pod gone: its owner knows how."""
        if self.owner is None:
            raise _Refused("nobody owns this pod")
        self._tell_owner({"m": "delete", "grace": message["grace"]})
        client.send({"m": "done", "id": message["id"]})

    def _debug(self, client: Client, message: Message, fds: list[int]) -> None:
        """Somebody else wants an ephemeral container in the pod: its owner starts it."""
        if self.owner is None:
            raise _Refused("nobody owns this pod")
        self._tell_owner({"m": "debug", "container": message["container"]})
        client.send({"m": "done", "id": message["id"]})

    def _forget(self, client: Client, message: Message, fds: list[int]) -> None:
        """The container has been removed; no answer."""
        container = self.containers.get(message["container"])
        if container is not None and container.state in (EXITED, FAILED):
            del self.containers[container.id]

    def _shutdown(self, client: Client, message: Message, fds: list[int]) -> None:
        client.send({"m": "done", "id": message["id"]})
        self.config["orphan"] = "end"
        self._end()

    # --- exits ------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.execs:
                self._exec_reaped(pid, status)
                continue
            if pid == self.pause_pid:
                self._forget_pause()
                continue
            for container in self.containers.values():
                if container.pid == pid and container.wait_status is None:
                    if pid in self.starts:
                        self._start_progress(pid)
                    self._container_reaped(container, status)
                    break

    def _container_reaped(self, container: Container, status: int) -> None:
        if container.state == FAILED:
            container.reaped(status)
            return
        with steps.step("container.exit", container_id=container.id, **self.ids):
            container.reaped(status)
            message = {
                "m": "exited",
                "container": container.id,
                "code": container.exit_code,
                "oom": container.oom,
                "started_at": container.started_at,
                "finished_at": container.finished_at,
            }
            self._record_exit(message)
        self._tell_owner(message)
        self._stop_if_done()

    def _record_exit(self, message: Message) -> None:
        """One line in the pod's directory: whoever owns the pod next finds it there even if this shim is gone too."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(EXITS, flags, 0o600, dir_fd=self.directory)
            try:
                os.write(fd, protocol.dumps(message) + b"\n")
            finally:
                os.close(fd)
        except OSError:
            # The directory is gone with the pod, or the disk is full. The owner is told in any case, and a record
            # that cannot be written is no reason for the pod to end.
            pass

    def _exec_reaped(self, pid: int, status: int) -> None:
        each = self.execs[pid]
        if not each.started:
            self._exec_progress(pid)
        del self.execs[pid]
        if each.start.failure is None:
            code = os.waitstatus_to_exitcode(status)
            each.client.send({"m": "exec_exited", "exec": each.id, "code": code if code >= 0 else 128 - code})

    _HANDLERS = {
        "join": _join,
        "assign": _assign,
        "start": _start,
        "exec": _exec,
        "signal": _signal,
        "resize": _resize,
        "reopen": _reopen,
        "attach": _attach,
        "status": _status,
        "namespaces": _namespaces,
        "adopt": _adopt,
        "delete": _delete,
        "debug": _debug,
        "forget": _forget,
        "shutdown": _shutdown,
    }
