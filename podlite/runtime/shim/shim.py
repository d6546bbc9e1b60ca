"""The shim: one small process per pod, parent of the pod's containers.

It starts containers and execs, copies their output into the log files, reaps them, tells its owner, and holds
the pod's namespaces. It outlives its owner where that is wanted (`agent`, `cri`), and ends its containers when
its owner vanishes where it is not (`run`). Here is its life, from fork to exit; see `protocol` for what it is told and
what it says, `requests` for what it does then, and `pod` for what it has.

Standard library only, and no module may be imported after the spawner has forked it.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from podlite import steps
from podlite.linux import unix_sockets
from podlite.linux.process import set_child_subreaper, set_title, signal_child
from podlite.linux.syscalls import PR_SET_DUMPABLE, prctl
from podlite.runtime.shim import protocol
from podlite.runtime.shim.clients import Client
from podlite.runtime.shim.container import FAILED
from podlite.runtime.shim.execs import Execs
from podlite.runtime.shim.names import EXITS, SOCKET
from podlite.runtime.shim.pod import LAST_SECONDS, NotRunning, Pod, Refused
from podlite.runtime.shim.requests import HANDLERS
from podlite.runtime.shim.starts import Starts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podlite.runtime.shim.container import Container
    from podlite.runtime.shim.protocol import Message

# Connections beside the owner's: one more is refused.
GUESTS = 64


class Shim:
    """The shim of one pod; `run` returns when it has nothing left to do."""

    def __init__(self, config: Message, owner: socket.socket, directory: int, scratch: str) -> None:
        self.pod = Pod(config, directory, scratch)
        self.starts = Starts(self.pod, on_failed=self._stop_if_done)
        self.execs = Execs(self.pod)
        self.ending = False
        self.spans: list[list[Any]] = []
        self.owner: Client | None = Client(owner, self.pod.loop, self._message, self._closed)
        self._guests: set[Client] = set()
        self._listener: socket.socket | None = None

    # --- life -------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Makes what the pod shares, listens for guests, and tells the owner. Raises OSError."""
        with steps.step("shim.setup", **self.pod.ids):
            os.setsid()
            set_title(f"podlite: shim {self.pod.config['pod']}")
            set_child_subreaper()
            self._watch_children()
            holder = self.pod.set_up()
            self._listen()
            # Last: an unprivileged parent that writes id maps needs /proc access until then. From here on
            # nobody but root may look into this process, or into what it forks, until it has exec'd.
            prctl(PR_SET_DUMPABLE, 0)
        ready: Message = {"m": "ready", "version": protocol.VERSION, "pid": os.getpid(), "shm": self.pod.shm}
        self.tell_owner({**ready, "holder": holder, "prepares": True})

    def run(self) -> None:
        """Serves until the owner's shutdown, or until everything has ended after a foreground owner vanished."""
        self.pod.loop.run()
        self._end_children()

    def end(self) -> None:
        """Kills every container; the loop stops once all are reaped."""
        self.ending = True
        self.starts.ahead.discard_all()
        for container in self.pod.containers.values():
            self.pod.kill(container)
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self.ending and not self.pod.busy():
            self.pod.loop.running = False

    def _end_children(self) -> None:
        """Nothing that was started here outlives this process, not even dead: a machine's pid 1 reaps what it inherits,
        that of a container often does not."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        if self.pod.pause_pid:
            signal_child(self.pod.pause_pid, signal.SIGKILL, group=True)
        self.execs.kill_all()
        deadline = time.monotonic() + LAST_SECONDS
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

    # --- connections ------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        unix_sockets.listen_in(listener, self.pod.directory, SOCKET, 16)
        listener.setblocking(False)
        self.pod.loop.watch(listener.fileno(), self._accept)

    def _accept(self, events: int) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # Out of descriptors: who waits is always ready, and would keep the loop busy.
            loop, listener = self.pod.loop, self._listener.fileno()
            loop.forget(listener)
            loop.after(0.1, lambda: loop.watch(listener, self._accept))
            return
        if len(self._guests) >= GUESTS:
            sock.close()
            return
        self._guests.add(Client(sock, self.pod.loop, self._message, self._closed))

    def _closed(self, client: Client) -> None:
        self._guests.discard(client)
        self.execs.kill_of(client)
        if client is self.owner:
            self.owner = None
            if self.pod.config["orphan"] == "end":
                self.end()

    def change_owner(self, client: Client) -> None:
        """`client` is the owner from now on; a former one is a guest. What was forked for that one's starts ends."""
        if self.owner is not None and self.owner is not client:
            self._guests.add(self.owner)
        self._guests.discard(client)
        self.owner = client
        # An owner of before there was such a thing would not know that its containers' cgroups are not empty.
        self.starts.ahead.discard_all()

    def tell_owner(self, message: Message) -> None:
        """An event, with the spans that have been measured here; nobody hears it where there is no owner."""
        if self.owner is not None:
            if self.spans:
                message["spans"], self.spans = self.spans, []
            self.owner.send(message)

    def _message(self, client: Client, message: Message, fds: list[int]) -> None:
        request = message.get("id", 0)
        try:
            handler = HANDLERS.get(message["m"])
            if handler is None:
                raise Refused(f"this shim does not know the message {message['m']!r}")
            handler(self, client, message, fds)
        except Refused as error:
            answer = {"m": "failed", "id": request, "step": "", "code": 125, "error": str(error)}
            client.send({**answer, "ended": isinstance(error, NotRunning)})
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

    # --- exits ------------------------------------------------------------------------------

    def _watch_children(self) -> None:
        read, write = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        read.setblocking(False)
        write.setblocking(False)
        self._wakeup = (read, write)
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        self.pod.loop.watch(read.fileno(), self._signalled)

    def _signalled(self, events: int) -> None:
        try:
            numbers = self._wakeup[0].recv(4096)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self.end()
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.execs.reaped(pid, status):
                continue
            if pid == self.pod.pause_pid:
                self.pod.forget_pause()
                continue
            for container in self.pod.containers.values():
                if container.pid == pid and container.wait_status is None:
                    self.starts.progress(pid)
                    self._container_reaped(container, status)
                    break

    def _container_reaped(self, container: Container, status: int) -> None:
        if container.state == FAILED:
            container.reaped(status)
            return
        with steps.step("container.exit", container_id=container.id, **self.pod.ids):
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
        self.tell_owner(message)
        self._stop_if_done()

    def _record_exit(self, message: Message) -> None:
        """One line in the pod's directory: whoever owns the pod next finds it there even if this shim is gone too."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(EXITS, flags, 0o600, dir_fd=self.pod.directory)
            try:
                os.write(fd, protocol.dumps(message) + b"\n")
            finally:
                os.close(fd)
        except OSError:
            # The directory is gone with the pod, or the disk is full. The owner is told in any case, and a record
            # that cannot be written is no reason for the pod to end.
            pass
