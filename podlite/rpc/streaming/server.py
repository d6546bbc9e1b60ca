"""The streaming server: what Exec, Attach and PortForward answer with a URL for.

A URL's token works once and for a minute. Whoever has it needs no other right, so the server is bound to loopback
unless it is told otherwise, and can speak TLS.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from podlite import log
from podlite.errors import explain
from podlite.rpc.streaming import http, portforward, remotecommand, websocket
from podlite.rpc.streaming.channels import (
    SPDY_PROTOCOLS,
    WEBSOCKET_PROTOCOLS,
    Channels,
    SpdyChannels,
    WebSocketChannels,
)
from podlite.rpc.streaming.spdy import SpdyConnection, SpdyStream
from podlite.rpc.streaming.spdy_frames import SpdyError
from podlite.rpc.streaming.tokens import Tokens

if TYPE_CHECKING:
    from podlite.cri.services import ExecStream, RuntimeService

# Clients at a time; one more is turned away.
MAX_CONNECTIONS = 1000
# For a client to send its request; with TLS, for the handshake too.
REQUEST_SECONDS = 30.0

_SPDY = "spdy/3.1"


class Exec(NamedTuple):
    """An exec that waits for its client; an attachment if there is no command."""

    container_id: str
    cmd: list[str] | None
    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool


class PortForward(NamedTuple):
    """A port-forward that waits for its client; `ports` may be empty, for the client names them later."""

    pod_sandbox_id: str
    ports: list[int]


class StreamingServer:
    """Made by `open_streaming`. The `_url` methods take the wire's requests and raise ResourceExhaustedError."""

    def __init__(self, runtime: RuntimeService, tls: ssl.SSLContext | None) -> None:
        self.url = ""
        self._runtime = runtime
        self._tls = tls
        self._tokens: Tokens[Exec | PortForward] = Tokens(time.monotonic)
        self._connections = 0

    def exec_url(self, request: Any) -> str:
        each = Exec(request.container_id, list(request.cmd), request.tty, request.stdin, request.stdout, request.stderr)
        return f"{self.url}/exec/{self._tokens.issue(each)}"

    def attach_url(self, request: Any) -> str:
        each = Exec(request.container_id, None, request.tty, request.stdin, request.stdout, request.stderr)
        return f"{self.url}/attach/{self._tokens.issue(each)}"

    def port_forward_url(self, request: Any) -> str:
        each = PortForward(request.pod_sandbox_id, list(request.port))
        return f"{self.url}/portforward/{self._tokens.issue(each)}"

    # --- one connection -----------------------------------------------------------------------------

    async def connected(self, client: SocketStream) -> None:
        """Serves one client to its end; whatever it does, nothing is raised."""
        if self._connections >= MAX_CONNECTIONS:
            await client.aclose()
            return
        self._connections += 1
        try:
            async with client:
                keep_alive(client.extra(SocketAttribute.raw_socket))
                await self._serve(client)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError, OSError):
            pass  # the client is gone
        except (http.BadRequestError, SpdyError) as error:
            log.info("a streaming client was turned away", why=str(error))
        except Exception as error:
            log.error("a streaming connection failed", why=f"{type(error).__name__}: {explain(error)}")
        finally:
            self._connections -= 1

    async def _serve(self, client: SocketStream) -> None:
        stream: ByteStream = client
        with anyio.fail_after(REQUEST_SECONDS) as deadline:
            if self._tls is not None:
                stream = await TLSStream.wrap(
                    client, server_side=True, ssl_context=self._tls, standard_compatible=False
                )
            connection, request = await http.read_request(stream)
        deadline.deadline = float("inf")
        kind, _, token = request.path.lstrip("/").partition("/")
        if kind not in ("exec", "attach", "portforward") or not token:
            await http.respond(stream, connection, 404, "there is nothing here but streams with a token")
            return
        if request.method not in ("GET", "POST"):
            await http.respond(stream, connection, 405, "a stream is fetched with GET or POST")
            return
        upgrade = [value.lower() for value in request.values("upgrade")]
        if "websocket" not in upgrade and _SPDY not in upgrade:
            await http.respond(
                stream, connection, 400, "this needs an upgrade to SPDY/3.1 or to a WebSocket", upgrade="SPDY/3.1"
            )
            return
        wanted = self._tokens.redeem(token)
        if wanted is None or (kind == "portforward") != isinstance(wanted, PortForward):
            await http.respond(stream, connection, 404, "this token is not known: it works once, and for a minute")
            return
        spdy = "websocket" not in upgrade
        if isinstance(wanted, PortForward):
            await (self._forward_spdy if spdy else self._forward_websocket)(stream, connection, request, wanted)
        else:
            await (self._command_spdy if spdy else self._command_websocket)(stream, connection, request, wanted)

    # --- exec and attach ------------------------------------------------------------------------------

    async def _command_websocket(
        self, stream: ByteStream, connection: h11.Connection, request: http.Request, wanted: Exec
    ) -> None:
        accepted = await websocket.accept(stream, request, WEBSOCKET_PROTOCOLS)
        channels = WebSocketChannels(accepted, _outputs(wanted))
        await channels.start()
        await self._run(channels, wanted)

    async def _command_spdy(
        self, stream: ByteStream, connection: h11.Connection, request: http.Request, wanted: Exec
    ) -> None:
        expected = {"error", *_outputs(wanted)}
        if wanted.stdin:
            expected.add("stdin")
        if wanted.tty:
            expected.add("resize")
        channels = SpdyChannels(frozenset(expected))
        async with _spdy(stream, connection, request, SPDY_PROTOCOLS, channels.opened) as spdy:
            channels.connection = spdy
            if await channels.wait_complete():
                await self._run(channels, wanted)

    async def _run(self, channels: Channels, wanted: Exec) -> None:
        async def start() -> ExecStream:
            streams = {"tty": wanted.tty, "stdin": wanted.stdin, "stdout": wanted.stdout, "stderr": wanted.stderr}
            if wanted.cmd is None:
                return await self._runtime.attach(wanted.container_id, **streams)
            return await self._runtime.exec(wanted.container_id, wanted.cmd, **streams)

        await remotecommand.serve(channels, start, attach=wanted.cmd is None)

    # --- port-forward ---------------------------------------------------------------------------------

    async def _forward_websocket(
        self, stream: ByteStream, connection: h11.Connection, request: http.Request, wanted: PortForward
    ) -> None:
        protocols = (portforward.TUNNEL_PROTOCOL, portforward.WEBSOCKET_PROTOCOL)
        accepted = await websocket.accept(stream, request, protocols)
        if accepted.protocol == portforward.TUNNEL_PROTOCOL:
            await self._forward(websocket.WebSocketByteStream(accepted), b"", wanted)
            return
        ports = wanted.ports or _ports(request)
        if not ports:
            await accepted.close()
            return
        await portforward.serve_websocket(accepted, ports, self._connector(wanted))

    async def _forward_spdy(
        self, stream: ByteStream, connection: h11.Connection, request: http.Request, wanted: PortForward
    ) -> None:
        await _switch_to_spdy(stream, connection, request, (portforward.SPDY_PROTOCOL,))
        await self._forward(stream, request.rest, wanted)

    async def _forward(self, stream: ByteStream, initial: bytes, wanted: PortForward) -> None:
        async with anyio.create_task_group() as tasks:
            handler = portforward.SpdyPortForward(self._connector(wanted), tasks)
            handler.connection = SpdyConnection(stream, server=True, on_stream=handler.opened)
            await handler.connection.serve(initial)
            tasks.cancel_scope.cancel()

    def _connector(self, wanted: PortForward) -> portforward.Connect:
        async def connect(port: int) -> ByteStream:
            return await self._runtime.port_forward(wanted.pod_sandbox_id, port)

        return connect


def keep_alive(sock: socket.socket) -> None:
    """A peer that has vanished without a word is noticed within two minutes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)


def _outputs(wanted: Exec) -> tuple[str, ...]:
    return tuple(name for name in ("stdout", "stderr") if getattr(wanted, name))


def _ports(request: http.Request) -> list[int]:
    texts = [text for value in request.query.get("port", []) for text in value.split(",")]
    return [number for text in texts if (number := portforward.port_number(text)) is not None]


async def _switch_to_spdy(
    stream: ByteStream, connection: h11.Connection, request: http.Request, protocols: tuple[str, ...]
) -> None:
    offered = request.values("x-stream-protocol-version")
    protocol = next((each for each in offered if each in protocols), None)
    if protocol is None:
        text = f"the client offers {', '.join(offered) or 'no protocol'}; this needs {' or '.join(protocols)}"
        accepted = ", ".join(protocols)
        await http.respond(stream, connection, 403, text, x_accepted_stream_protocol_versions=accepted)
        raise http.BadRequestError(text)
    headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", protocol)]
    await http.switch(stream, connection, headers)


@asynccontextmanager
async def _spdy(
    stream: ByteStream,
    connection: h11.Connection,
    request: http.Request,
    protocols: tuple[str, ...],
    opened: Callable[[SpdyStream], Awaitable[bool]],
) -> AsyncIterator[SpdyConnection]:
    """The connection upgraded to SPDY, and read until the block is left."""
    await _switch_to_spdy(stream, connection, request, protocols)
    async with anyio.create_task_group() as tasks:
        spdy = SpdyConnection(stream, server=True, on_stream=opened)
        tasks.start_soon(spdy.serve, request.rest)
        yield spdy
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_streaming(
    runtime: RuntimeService, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[StreamingServer]:
    """Listens, and serves until the block is left; then the connections are cut. Raises OSError."""
    server = StreamingServer(runtime, tls)
    listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    async with listener, anyio.create_task_group() as tasks:
        bound = listener.extra(SocketAttribute.local_port)
        shown = f"[{host}]" if ":" in host else host
        server.url = f"{'http' if tls is None else 'https'}://{shown}:{bound}"
        tasks.start_soon(listener.serve, server.connected)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()
