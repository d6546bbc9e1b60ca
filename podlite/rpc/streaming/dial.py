"""The client's side of streaming URLs, over SPDY: what Exec, Attach and PortForward of a remote runtime lead to."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import anyio
import h11
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream, SocketAttribute, TaskGroup
from anyio.streams.tls import TLSStream

from podlite import log
from podlite.cri.errors import CRIError, NotFoundError, UnavailableError
from podlite.errors import explain
from podlite.rpc.streaming.channels import SPDY_PROTOCOLS
from podlite.rpc.streaming.portforward import SPDY_PROTOCOL
from podlite.rpc.streaming.server import keep_alive
from podlite.rpc.streaming.spdy import SpdyConnection, SpdyStream
from podlite.rpc.streaming.spdy_frames import SpdyError

# To connect, and to be upgraded.
CONNECT_SECONDS = 30.0
_MAX_ERROR = 4096


async def dial(url: str, protocols: tuple[str, ...], tasks: TaskGroup) -> tuple[SpdyConnection, ByteStream]:
    """Fetches a stream: the SPDY connection, served by a task in `tasks`, and what to close to end it.

    A certificate is not verified: the URL came over the runtime's own socket, and its token is all that there is
    to protect (the kubelet does the same). Raises UnavailableError, NotFoundError, CRIError.
    """
    target = urlsplit(url)
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            stream: ByteStream = await _connect(target.scheme, target.hostname or "", target.port)
            try:
                rest = await _upgrade(stream, target.netloc, f"{target.path}?{target.query}".rstrip("?"), protocols)
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except TimeoutError:
        raise UnavailableError(f"{target.netloc} does not answer") from None
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError) as error:
        raise UnavailableError(f"{target.netloc} cannot be reached: {explain(error)}") from error
    except h11.ProtocolError as error:
        raise UnavailableError(f"{target.netloc} does not speak HTTP: {error}") from None
    connection = SpdyConnection(stream, server=False)
    tasks.start_soon(_serve, connection, rest)
    return connection, stream


async def _serve(connection: SpdyConnection, rest: bytes) -> None:
    try:
        await connection.serve(rest)
    except SpdyError as error:
        # Its streams are broken now, which is what their readers see.
        log.warning("a runtime's stream cannot be understood", why=str(error))


async def _connect(scheme: str, host: str, port: int | None) -> ByteStream:
    plain = await anyio.connect_tcp(host, port or (443 if scheme == "https" else 80))
    keep_alive(plain.extra(SocketAttribute.raw_socket))
    if scheme != "https":
        return plain
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return await TLSStream.wrap(plain, hostname=host, ssl_context=context, standard_compatible=False)


async def _upgrade(stream: ByteStream, host: str, path: str, protocols: tuple[str, ...]) -> bytes:
    """What came after the answer. Raises NotFoundError, CRIError for one that is no upgrade."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Content-Length", "0")]
    headers += [("X-Stream-Protocol-Version", each) for each in protocols]
    data = connection.send(h11.Request(method="POST", target=path, headers=headers)) or b""
    await stream.send(data + (connection.send(h11.EndOfMessage()) or b""))
    status, text = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            try:
                connection.receive_data(await stream.receive())
            except anyio.EndOfStream:
                connection.receive_data(b"")
        elif isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return connection.trailing_data[0]
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            text += bytes(event.data)[: _MAX_ERROR - len(text)]
        elif not isinstance(event, h11.InformationalResponse):
            break
    reason = text.decode("utf-8", "replace").strip()
    kind = NotFoundError if status == 404 else CRIError
    raise kind(f"{host} answered {status or 'nothing'}: {reason or 'no reason was given'}")


class _Input(ByteSendStream):
    """The process's standard input: closing it is its end."""

    def __init__(self, stream: SpdyStream) -> None:
        self._stream = stream

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def aclose(self) -> None:
        try:
            await self._stream.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass


class RemoteExec:
    """An exec or attachment that another runtime runs; see podlite.cri.services.ExecStream."""

    def __init__(self, stream: ByteStream, streams: dict[str, SpdyStream]) -> None:
        self.stdin: ByteSendStream | None = _Input(streams["stdin"]) if "stdin" in streams else None
        self.stdout: ByteReceiveStream | None = streams.get("stdout")
        self.stderr: ByteReceiveStream | None = streams.get("stderr")
        self._stream = stream
        self._streams = streams
        self._lock = anyio.Lock()
        self._code: int | None = None

    async def resize(self, width: int, height: int) -> None:
        stream = self._streams.get("resize")
        if stream is not None:
            try:
                await stream.send(json.dumps({"Width": width, "Height": height}).encode() + b"\n")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    async def wait(self) -> int:
        """Raises CRIError if the process could not be run, UnavailableError if the connection broke."""
        async with self._lock:
            if self._code is None:
                self._code = exit_code(await self._status())
        return self._code

    async def _status(self) -> bytes:
        text = b""
        try:
            async for chunk in self._streams["error"]:
                text += chunk
        except anyio.BrokenResourceError:
            if not text:
                raise UnavailableError("the connection to the runtime broke before the process ended") from None
        return text

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            await self._stream.aclose()

    async def __aenter__(self) -> RemoteExec:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


def exit_code(status: bytes) -> int:
    """The exit code in a final status (metav1.Status). Pure. Raises CRIError for what is no exit."""
    if not status:
        return 0
    try:
        found: dict[str, Any] = json.loads(status)
    except ValueError:
        raise CRIError(status.decode("utf-8", "replace")) from None
    if found.get("status") == "Success":
        return 0
    if found.get("reason") == "NonZeroExitCode":
        for cause in (found.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode" and str(cause.get("message", "")).isdecimal():
                return int(cause["message"])
    raise CRIError(str(found.get("message") or "the runtime says that it failed, and not why"))


async def dial_command(url: str, tasks: TaskGroup, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> RemoteExec:
    """Fetches an exec or attachment. Raises as `dial`."""
    connection, stream = await dial(url, SPDY_PROTOCOLS, tasks)
    wanted = {"error": True, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty, "resize": tty}
    streams: dict[str, SpdyStream] = {}
    try:
        for name, want in wanted.items():
            if want:
                streams[name] = await connection.open({"streamtype": name})
        await streams["error"].send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        await anyio.aclose_forcefully(stream)
        raise UnavailableError("the runtime closed the stream before it had begun") from None
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return RemoteExec(stream, streams)


class RemotePort(ByteStream):
    """One forwarded connection, on a connection to the runtime of its own."""

    def __init__(self, stream: ByteStream, data: SpdyStream, error: SpdyStream) -> None:
        self._stream = stream
        self._data = data
        self._error = error

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Raises UnavailableError with the runtime's reason if it could not connect."""
        try:
            return await self._data.receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            if self._error.inbox.pending:
                reason = await self._error.receive()
                raise UnavailableError(reason.decode("utf-8", "replace")) from None
            raise

    async def send(self, item: bytes) -> None:
        await self._data.send(item)

    async def send_eof(self) -> None:
        await self._data.send_eof()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            await self._stream.aclose()


async def dial_port(url: str, port: int, tasks: TaskGroup) -> RemotePort:
    """Fetches a port-forward and opens one connection to `port` of the pod. Raises as `dial`."""
    connection, stream = await dial(url, (SPDY_PROTOCOL,), tasks)
    headers = {"port": str(port), "requestid": "0"}
    try:
        error = await connection.open({"streamtype": "error", **headers})
        await error.send_eof()
        data = await connection.open({"streamtype": "data", **headers})
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        await anyio.aclose_forcefully(stream)
        raise UnavailableError("the runtime closed the stream before it had begun") from None
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return RemotePort(stream, data, error)
