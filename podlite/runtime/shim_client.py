"""The controller's handle of one pod's shim."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from podlite import steps
from podlite.cri.errors import CRIError, FailedPreconditionError, StartError, UnavailableError
from podlite.runtime.channel import Channel, ChannelClosedError, Reply, failure_text
from podlite.runtime.shim.names import SOCKET
from podlite.runtime.shim.protocol import VERSION

if TYPE_CHECKING:
    from podlite.runtime.shim.protocol import Message

# The shims of this version and of the one before it are adopted; older ones are told to end.
ADOPTABLE = (VERSION, VERSION - 1)

# SIGKILL cannot be ignored, but a process in an uninterruptible system call does not see it before that ends.
KILL_SECONDS = 10.0


class ShimClient:
    """Requests to a shim, and its events.

    `on_exited(message)` is called for every container that ended; who adopts replaces it. `on_delete(grace)` when
    somebody else asks for the pod's deletion, `on_debug(container)` for an ephemeral container (as in JSON),
    `on_lost()` once when the shim is gone. `serve` runs in a task of the runtime's.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        ids: Mapping[str, str],
        on_exited: Callable[[Message], None] = lambda message: None,
        on_delete: Callable[[int], None] = lambda grace: None,
        on_debug: Callable[[Message], None] = lambda container: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.pid = 0
        self.pidfd = -1
        # Whether it forks ahead; those of before know nothing of it.
        self.prepares = False
        self._ids = dict(ids)
        self.on_exited = on_exited
        self._on_delete = on_delete
        self._on_debug = on_debug
        self._on_lost = on_lost
        self._execs: dict[str, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._channel = Channel(sock, self._event)
        self._gone = anyio.Event()

    def start_serving(self, tasks: TaskGroup) -> None:
        """Starts the receiving task; it ends with the channel."""
        tasks.start_soon(self._serve, name=f"shim {self._ids.get('pod', '')}")

    async def _serve(self) -> None:
        try:
            # Not ended by the cancellation of whoever opened the runtime: his clean-up needs the answers. It ends
            # with the channel.
            with anyio.CancelScope(shield=True):
                await self._channel.serve()
        finally:
            self._lost()

    def _lost(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(UnavailableError("the pod's shim ended before it was ready"))
            self._ready.exception()
        for future in self._execs.values():
            if not future.done():
                future.set_result(128 + signal.SIGKILL)
        self._execs.clear()
        self._gone.set()
        self._on_lost()

    def _event(self, message: Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self._report(message)
        kind = message["m"]
        if kind == "exited":
            self.on_exited(message)
        elif kind == "exec_exited":
            future = self._execs.pop(message["exec"], None)
            if future is not None and not future.done():
                future.set_result(message["code"])
        elif kind == "delete":
            self._on_delete(message["grace"])
        elif kind == "debug":
            self._on_debug(message["container"])
        elif kind in ("ready", "failed") and not self._ready.done():
            self.prepares = message.get("prepares", False)
            self._ready.set_result(message)

    def _report(self, message: Message) -> None:
        for name, start, end, where in message.get("spans", ()):
            ids = dict(self._ids)
            if "container" in message:
                ids["container_id"] = message["container"]
            steps.report(steps.Span(name, start, end, ids, where))

    async def wait_ready(self) -> int:
        """Waits until the shim has made the pod's namespaces. Raises CRIError.

        Returns the pid of the process that is in the pod's network namespace, until `join`; 0 if the shim makes none.
        """
        message = await self._ready
        if message["m"] == "failed":
            raise CRIError(f"the pod's namespaces cannot be created: {failure_text(message)}")
        holder: int = message.get("holder", 0)
        return holder

    async def wait_gone(self) -> None:
        """Waits until the shim's channel is closed, which is when the process ends."""
        await self._gone.wait()

    @property
    def gone(self) -> bool:
        """Whether the shim has ended."""
        return self._gone.is_set()

    async def request(self, message: Message, fds: list[int] | None = None) -> tuple[Message, list[int]]:
        """One request. Raises FailedPreconditionError for a refusal, UnavailableError when the shim is gone."""
        try:
            return await self._channel.request(message, fds)
        except Reply as error:
            raise FailedPreconditionError(failure_text(error.message)) from None
        except ChannelClosedError:
            raise UnavailableError("the pod's shim has ended") from None

    async def join(self, namespaces: Mapping[str, int], *, stay: bool = False) -> None:
        """Hands the shim the pod's network (or user) namespace; the descriptors stay the caller's.

        With `stay` the shim serves on without its owner from now on, and waits to be adopted.
        """
        names = list(namespaces)
        message: Message = {"m": "join", "namespaces": {name: index for index, name in enumerate(names)}}
        if stay:
            message["orphan"] = "stay"
        await self._channel_send(message, [namespaces[name] for name in names])

    async def assign(self, ids: Mapping[str, str], identity: Message, *, stay: bool) -> None:
        """Tells the shim of a spare sandbox whose it is now: `identity` is what its configuration says differently.

        Not waited for: what is asked for later finds it done. Raises UnavailableError.
        """
        self._ids = dict(ids)
        await self._channel_send({"m": "assign", "identity": identity, "orphan": "stay" if stay else "end"})

    def prepare(self, place: Message) -> bool:
        """Has it fork a container's first process ahead; False if it cannot be asked at once. From any thread."""
        return self._channel.try_send({"m": "prepare", **place})

    async def discard(self, container: str) -> None:
        """The container will not be started: ends what waits for that, if anything does. Raises UnavailableError."""
        await self._channel_send({"m": "discard", "container": container})

    async def start(self, container: str, make: Callable[[], tuple[Message, list[int]]]) -> Message:
        """Starts a container as the message and descriptors say that `make` returns, on a worker thread.

        Returns the `started` answer. Raises what `make` does, StartError, UnavailableError.
        """
        try:
            answer, _ = await self._channel.request_made(make)
        except Reply as error:
            self._report({**error.message, "container": container})
            raise StartError(failure_text(error.message), exit_code=error.message.get("code", 125)) from None
        except ChannelClosedError:
            raise UnavailableError("the pod's shim has ended") from None
        self._report(answer)
        return answer

    async def exec(
        self, exec_id: str, message: Message, fds: list[int]
    ) -> tuple[Message, list[int], asyncio.Future[int]]:
        """Starts an exec: (answer, a terminal's master if asked for, the future of its exit code).

        Raises StartError, UnavailableError, and FailedPreconditionError if the container has ended meanwhile.
        """
        exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._execs[exec_id] = exited
        try:
            answer, received = await self._channel.request({"m": "exec", "exec": exec_id, **message}, fds)
        except Reply as error:
            self._execs.pop(exec_id, None)
            if error.message.get("ended"):
                raise FailedPreconditionError(failure_text(error.message)) from None
            raise StartError(failure_text(error.message), exit_code=error.message.get("code", 125)) from None
        except ChannelClosedError:
            self._execs.pop(exec_id, None)
            raise UnavailableError("the pod's shim has ended") from None
        except BaseException:
            self._execs.pop(exec_id, None)
            raise
        return answer, received, exited

    async def signal(self, number: int, *, container: str = "", exec_id: str = "") -> None:
        """Sends a signal to a container's first process, SIGKILL to all of its processes, or to an exec."""
        target = {"exec": exec_id} if exec_id else {"container": container}
        await self.request({"m": "signal", "signal": int(number), **target})

    async def forget(self, container: str) -> None:
        """The container is removed: the shim need not remember it. Raises UnavailableError."""
        await self._channel_send({"m": "forget", "id": 0, "container": container})

    async def _channel_send(self, message: Message, fds: list[int] | None = None) -> None:
        try:
            await self._channel.send(message, fds)
        except ChannelClosedError:
            raise UnavailableError("the pod's shim has ended") from None

    async def shutdown(self) -> bool:
        """Kills every container, and ends the shim; idempotent. True when it is gone.

        False if a process does not die within KILL_SECONDS; the shim then waits for it, and ends when it does.
        """
        with anyio.move_on_after(KILL_SECONDS):
            try:
                await self._channel.request({"m": "shutdown"})
            except (Reply, ChannelClosedError):
                pass
            await self._gone.wait()
        return self.gone

    def close(self) -> None:
        """Closes the channel and the pidfd: a shim of a foreground pod then ends its containers and itself."""
        self._channel.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def connect(directory: str, name: str = SOCKET) -> socket.socket:
    """Connects to the shim of the pod whose directory this is, or to who else listens there. Blocking, at once.

    Raises FileNotFoundError or ConnectionRefusedError when there is no live shim.
    """
    from podlite.linux import unix_sockets

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        unix_sockets.connect(sock, f"{directory}/{name}")
    except BaseException:
        sock.close()
        raise
    return sock


def as_states(answer: Message) -> list[dict[str, Any]]:
    """The containers of a `status` answer."""
    return list(answer["containers"])
