"""The controller's spawner: started once, replaced when it was killed, ended with the controller."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from podlite import log, steps
from podlite.cri.errors import UnavailableError
from podlite.linux import affinity
from podlite.readiness import wait_readable
from podlite.runtime.channel import Channel, ChannelClosedError, Reply, failure_text
from podlite.runtime.shim.protocol import VERSION

if TYPE_CHECKING:
    from podlite.runtime.shim.protocol import Message

Launched = tuple[socket.socket, int]

# What a shim takes to notice that nobody wants it, many times over.
ABANDONED_SECONDS = 5.0


class SpawnerError(UnavailableError):
    """The spawner could not be started, or could not fork."""


class Forked:
    """A shim that has been forked: its pid, a pidfd that the receiver owns, and our end of its channel."""

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, channel: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel


class Spawner:
    """One spawner process at a time; `tasks` is the task group that its receiving task lives in."""

    def __init__(self, tasks: TaskGroup, start: Callable[[], Launched]) -> None:
        self._tasks = tasks
        self._start = start
        self._channel: Channel | None = None
        self._pid = 0
        self._ready: asyncio.Future[Message] | None = None
        self._lock = anyio.Lock()

    async def open(self, launched: Launched | None = None) -> None:
        """Waits until the spawner answers; `launched` is one that has been started already."""
        async with self._lock:
            await self._open(launched)

    async def _open(self, launched: Launched | None) -> None:
        if self._channel is not None and not self._channel.closed:
            return
        with steps.step("spawner.start"):
            if self._pid:
                await self._reap()
            if launched is None:
                launched = await anyio.to_thread.run_sync(self._start)
            sock, self._pid = launched
            self._ready = asyncio.get_running_loop().create_future()
            channel = self._channel = Channel(sock, self._event)
            self._tasks.start_soon(self._serve, channel, self._ready, name="spawner")
            try:
                message = await self._ready
            except BaseException:
                channel.close()
                raise
        if message["m"] == "failed":
            channel.close()
            raise SpawnerError(
                f"podlite's spawner cannot enter a mount namespace of its own: {failure_text(message)}",
                hint="podlite needs root with CAP_SYS_ADMIN; `podlite check` says what is missing",
            )
        if message["version"] != VERSION:
            channel.close()
            raise SpawnerError(f"the spawner speaks version {message['version']} of the protocol, not {VERSION}")

    async def _serve(self, channel: Channel, ready: asyncio.Future[Message]) -> None:
        # Ends with the channel, not with the cancellation of whoever opened the runtime.
        with anyio.CancelScope(shield=True):
            await channel.serve()
        if not ready.done():
            ready.set_exception(
                SpawnerError(
                    "podlite's spawner ended before it answered",
                    hint="it runs this program's interpreter with `-I -S`: try whether that works",
                )
            )

    def _event(self, message: Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(message)

    async def prepare(self, config: Message) -> ForkRequest:
        """The fork of a shim, for a spawner that lives; one that was killed is replaced. Raises SpawnerError."""
        if self._channel is None or self._channel.closed:
            async with self._lock:
                if self._channel is not None and self._channel.closed:
                    log.warning("the spawner has ended and is replaced", pid=self._pid)
                await self._open(None)
        assert self._channel is not None
        return ForkRequest(self, self._channel, config)

    @property
    def pid(self) -> int:
        """The process id, 0 if none has been started."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether there is a spawner that answers, as far as is known."""
        return self._channel is not None and not self._channel.closed

    def end(self) -> None:
        """The spawner, not the shims, ends as soon as it notices; `close` waits for that. Idempotent."""
        if self._channel is not None:
            self._channel.close()

    async def close(self) -> None:
        """Ends the spawner and reaps it. Idempotent."""
        self.end()
        if self._pid:
            await self._reap()

    async def _reap(self) -> None:
        pid, self._pid = self._pid, 0
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:
            # No such call, or no descriptor left: a thread waits instead.
            await anyio.to_thread.run_sync(_wait_for, pid, abandon_on_cancel=True)
            return
        try:
            # It exits as soon as it sees its channel closed.
            await wait_readable(pidfd)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)  # noqa: ASYNC222 - it has ended
        except ChildProcessError:
            # Reaped by somebody else: a library's user may wait for all children.
            pass
        finally:
            os.close(pidfd)


def _wait_for(pid: int) -> None:
    """Blocking."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # reaped by somebody else


class ForkRequest:
    """A fork that has been asked for: `send` from a worker thread, `result` on the event loop."""

    def __init__(self, spawner: Spawner, channel: Channel, config: Message) -> None:
        self._spawner = spawner
        self._channel = channel
        self._message: Message = {"m": "fork", **config}
        self._future = channel.new_request(self._message)
        self._ours: socket.socket | None = None
        self._sent = False

    def send(self, directory_fd: int) -> None:
        """Sends the request; `directory_fd` is the pod's directory. Blocking. Raises SpawnerError, OSError."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with theirs:
            self._sent = True
            # The calling thread has more to do beside it.
            affinity.keep_off(self._spawner.pid)
            try:
                self._channel.send_blocking(self._message, [theirs.fileno(), directory_fd])
            except ChannelClosedError:
                raise SpawnerError("the spawner ended before it was asked for the pod's shim") from None

    async def result(self) -> Forked:
        """The forked shim. Raises SpawnerError."""
        try:
            # Shielded: whoever gives this up has to know whether there is a shim; see `ended`.
            message, fds = await asyncio.shield(self._future)
        except Reply as error:
            self.abandon()
            raise SpawnerError(f"the pod's shim cannot be forked: {failure_text(error.message)}") from None
        except ChannelClosedError:
            self.abandon()
            raise SpawnerError("the spawner ended while it forked the pod's shim") from None
        except BaseException:
            self.abandon()
            raise
        assert self._ours is not None
        steps.report(steps.Span("shim.fork", message["start"], message["end"], {}, "spawner"))
        return Forked(message["pid"], fds[0] if fds else -1, self._ours)

    async def ended(self) -> bool:
        """Abandons the fork, and returns when there is no shim, or none any more: it makes nothing from then on.

        False if that cannot be known within ABANDONED_SECONDS.
        """
        self.abandon()
        if not self._sent:
            self._future.cancel()
            return True
        with anyio.move_on_after(ABANDONED_SECONDS):
            try:
                _, fds = await asyncio.shield(self._future)
            except (Reply, ChannelClosedError):
                return True  # it was not forked; or its spawner was killed and cannot tell
            try:
                if fds:
                    await wait_readable(fds[0])
            finally:
                for fd in fds:
                    os.close(fd)
            return True
        self._future.cancel()
        return False

    def abandon(self) -> None:
        """Closes our end of the shim's channel: a shim that was forked all the same ends by itself."""
        if self._ours is not None:
            self._ours.close()
            self._ours = None
