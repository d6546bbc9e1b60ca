"""The controller's side of the message channels to spawner and shims (see podlite.runtime.shim.protocol)."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from podlite import blocking
from podlite.readiness import wait_writable
from podlite.runtime.shim import protocol

if TYPE_CHECKING:
    from podlite.runtime.shim.protocol import Message

# The controller has msgspec loaded; json it does not need.
protocol.dumps = msgspec.json.Encoder().encode
protocol.loads = msgspec.json.Decoder().decode


class ChannelClosedError(Exception):
    """The other side is gone: its process ended, or the channel was closed here."""


class Reply(Exception):
    """The other side answered `failed`; `message` is its answer."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.get("error", ""))
        self.message = message


class Channel:
    """Requests with answers, and events, over one SOCK_SEQPACKET socket.

    `serve` must run in a task of the owner's for answers to arrive; `on_event` gets what is no answer, in order
    and before anything that was sent after it, and owns the descriptors.
    """

    def __init__(self, sock: socket.socket, on_event: Callable[[Message, list[int]], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_event = on_event
        self._pending: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._count = 0
        self._serving = False
        self._ended: asyncio.Future[None] | None = None
        self.closed = False

    async def serve(self) -> None:
        """Receives until the other side closes or `close` is called; then every open request fails.

        Raises what `on_event` raises.
        """
        self._serving = True
        if self.closed:
            self._sock.close()
            return
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        # The socket is watched all the time: waiting for each message anew takes two turns of the event loop, two
        # system calls, and as many again to find that there is no other message.
        loop.add_reader(self._sock, self._receive, self._ended)
        try:
            await self._ended
        finally:
            loop.remove_reader(self._sock)
            self.close()
            self._sock.close()

    def _receive(self, ended: asyncio.Future[None]) -> None:
        """One message: where there are more, it is called again."""
        if ended.done():
            return
        try:
            received = protocol.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, protocol.ProtocolError):
            received = None
        if received is None:
            ended.set_result(None)
            return
        try:
            self._dispatch(*received)
        except BaseException as error:
            if not ended.done():
                ended.set_exception(error)

    def _dispatch(self, message: Message, fds: list[int]) -> None:
        future = self._pending.pop(message.get("id", 0), None)
        if future is None:
            if message.get("id", 0):
                # The request was cancelled meanwhile.
                _close_all(fds)
                return
            self._on_event(message, fds)
        elif future.done():
            _close_all(fds)
        elif message["m"] == "failed":
            _close_all(fds)
            future.set_exception(Reply(message))
        else:
            future.set_result((message, fds))

    def new_request(self, message: Message) -> asyncio.Future[tuple[Message, list[int]]]:
        """Numbers a message and returns the future of its answer. The caller sends it, from wherever it likes."""
        self._count += 1
        message["id"] = self._count
        future: asyncio.Future[tuple[Message, list[int]]] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.set_exception(ChannelClosedError())
            return future
        self._pending[self._count] = future
        return future

    async def request(self, message: Message, fds: list[int] | None = None) -> tuple[Message, list[int]]:
        """Sends a request and waits for its answer. Raises Reply for a `failed` one, ChannelClosedError."""
        with self._asked(message) as future:
            await self.send(message, fds)
            return await future

    async def request_made(self, make: Callable[[], tuple[Message, list[int]]]) -> tuple[Message, list[int]]:
        """`request` with what `make` returns. It is called on a worker thread, and what it returns sent from there.

        The descriptors are closed. Raises what `make` raises too.
        """
        numbered: Message = {}
        with self._asked(numbered) as future:
            unsent = await blocking.run(self._send_made, make, numbered["id"])
            if unsent is not None:
                message, fds = unsent
                try:
                    await self.send(message, fds)
                finally:
                    _close_all(fds)
            return await future

    @contextmanager
    def _asked(self, message: Message) -> Iterator[asyncio.Future[tuple[Message, list[int]]]]:
        """The answer to a message, which is numbered; nobody waits for it any more afterwards."""
        future = self.new_request(message)
        try:
            yield future
        finally:
            self._pending.pop(message["id"], None)
            if future.done() and not future.cancelled():
                future.exception()  # seen: a failure that came with a cancellation is not reported twice

    def _send_made(
        self, make: Callable[[], tuple[Message, list[int]]], request: int
    ) -> tuple[Message, list[int]] | None:
        """On a worker thread; returns what cannot be sent at once."""
        message, fds = make()
        message["id"] = request
        try:
            protocol.send(self._sock, message, fds)
        except BlockingIOError:
            return message, fds
        except BaseException as error:
            _close_all(fds)
            if isinstance(error, OSError):
                raise ChannelClosedError from error
            raise
        _close_all(fds)
        return None

    async def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends a message that has no answer, or one of `new_request`. Raises ChannelClosedError."""
        while True:
            if self.closed:
                raise ChannelClosedError
            try:
                protocol.send(self._sock, message, fds)
                return
            except BlockingIOError:
                await wait_writable(self._sock)
            except OSError as error:
                raise ChannelClosedError from error

    def try_send(self, message: Message) -> bool:
        """`send` of what need not arrive, from any thread: False if it cannot be sent at once."""
        if self.closed:
            return False
        try:
            protocol.send(self._sock, message)
        except OSError:
            return False
        return True

    def send_blocking(self, message: Message, fds: list[int] | None = None) -> None:
        """`send` for a worker thread. Raises ChannelClosedError."""
        while True:
            try:
                protocol.send(self._sock, message, fds)
                return
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._sock.fileno(), select.POLLOUT)
                poll.poll()
            except OSError as error:
                raise ChannelClosedError from error

    def close(self) -> None:
        """Ends the channel; open requests fail with ChannelClosedError. Idempotent.

        The descriptor itself is closed by `serve`, whose wait for it must be over first: its number may be
        somebody else's a moment later.
        """
        if self.closed:
            return
        self.closed = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if not self._serving:
            self._sock.close()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(ChannelClosedError())
                future.exception()  # whoever still waits gets it; nobody may


def failure_text(message: dict[str, Any]) -> str:
    """The sentence of a `failed` answer."""
    return str(message.get("error") or "no reason was given")


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
