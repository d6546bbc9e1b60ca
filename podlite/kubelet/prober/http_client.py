"""A very small HTTP/1.1 client for probes: one socket, one request, one answer.

Sixty probes a second must not be felt, so nothing is made that a probe does not need: no streams, no buffers, no
connection pool; and of an ordinary exchange on one machine the event loop sees a single wake-up, when the answer
is there. (The connection is established while connect(2) still runs, for the peer is on the machine too.)

The texts of errors are those of Go's net and net/http, which is what users find when they search for them.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import anyio

from podlite.kubelet.prober.http_response import BadResponseError, EmptyResponseError, Response
from podlite.readiness import wait_readable, wait_writable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeVar

    from podlite.kubelet.prober.http_request import Request

    T = TypeVar("T")

_CHUNK = 16384
_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)

_tls_context: ssl.SSLContext | None = None


class RequestFailedError(Exception):
    """There is no answer."""


class BodyFailedError(Exception):
    """The answer's body did not come to its end."""


async def exchange(request: Request, response: Response) -> None:
    """Sends a request and fills `response`, which a cancelled call leaves as far as it has come.

    Raises RequestFailedError, BodyFailedError. The connection is closed whatever happens.
    """
    address = numeric(request.host) or await lookup(request.host)
    try:
        connection = await connect(address, request.port)
    except OSError as error:
        raise RequestFailedError(dial_error(address, request.port, error)) from error
    try:
        if request.tls:
            await _tls_exchange(connection, request, response)
        else:
            await _plain_exchange(connection, request.data, response)
    except EmptyResponseError:
        raise RequestFailedError("EOF") from None
    except BadResponseError as error:
        if response.status:
            raise BodyFailedError(str(error)) from error
        raise RequestFailedError(f"net/http: HTTP/1.x transport connection broken: {error}") from error
    except EOFError as error:
        raise BodyFailedError("unexpected EOF") from error
    except OSError as error:
        text = _read_error(connection, address, request.port, error)
        raise (BodyFailedError if response.status else RequestFailedError)(text) from error
    finally:
        connection.close()


def numeric(host: str) -> str:
    """The host if it is an address already, or an empty string."""
    return host if ":" in host or host.replace(".", "").isdecimal() else ""


async def lookup(host: str) -> str:
    """The first address of a name. Raises RequestFailedError."""
    try:
        found = await anyio.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RequestFailedError(f"dial tcp: lookup {host}: no such host") from error
    return str(found[0][4][0])


async def connect(address: str, port: int) -> socket.socket:
    """A connected, non-blocking socket; the caller closes it. Raises OSError. Safe to cancel."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        code = connection.connect_ex((address, port))
        if code in _IN_PROGRESS:
            # The answer of a peer on this machine is here already, and a second call tells it.
            code = connection.connect_ex((address, port))
            if code in _IN_PROGRESS:
                await wait_writable(connection)
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code not in (0, errno.EISCONN):
            raise OSError(code, os.strerror(code))
    except BaseException:
        connection.close()
        raise
    return connection


def dial_error(address: str, port: int, error: OSError) -> str:
    """`dial tcp 10.85.0.2:80: connect: connection refused`."""
    return f"dial tcp {endpoint(address, port)}: connect: {(error.strerror or str(error)).lower()}"


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _read_error(connection: socket.socket, address: str, port: int, error: OSError) -> str:
    try:
        source = connection.getsockname()
        arrow = f"{endpoint(source[0], source[1])}->{endpoint(address, port)}"
    except OSError:
        arrow = endpoint(address, port)
    return f"read tcp {arrow}: read: {(error.strerror or str(error)).lower()}"


async def _plain_exchange(connection: socket.socket, data: bytes, response: Response) -> None:
    sent = connection.send(data)
    while sent < len(data):
        await wait_writable(connection)
        sent += connection.send(data[sent:])
    while True:
        await wait_readable(connection)
        try:
            piece = connection.recv(_CHUNK)
        except BlockingIOError:
            continue
        if response.feed(piece):
            return


async def _tls_exchange(connection: socket.socket, request: Request, response: Response) -> None:
    """Encrypted, with whoever answers: probes verify no certificates."""
    import ssl

    name = None if numeric(request.host) else request.host
    tls = _context().wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
    try:
        try:
            await _retried(tls, tls.do_handshake)
        except ssl.SSLError as error:
            raise RequestFailedError(_handshake_error(error)) from error
        # One record: SSL_write takes all of it or asks to be called again with the same.
        await _retried(tls, lambda: tls.send(request.data))
        while not response.feed(await _retried(tls, lambda: tls.recv(_CHUNK))):
            pass
    finally:
        tls.close()


def _handshake_error(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        # What a plain HTTP server says is no TLS record.
        return "http: server gave HTTP response to HTTPS client"
    if reason == "UNEXPECTED_EOF_WHILE_READING" or not reason:
        return "EOF"
    return f"remote error: tls: {reason.lower().replace('_', ' ')}"


async def _retried(tls: ssl.SSLSocket, step: Callable[[], T]) -> T:
    """A step of a TLS connection, as often as it must wait for the network."""
    import ssl

    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            await wait_readable(tls)
        except ssl.SSLWantWriteError:
            await wait_writable(tls)


def _context() -> ssl.SSLContext:
    global _tls_context
    if _tls_context is None:
        import ssl

        _tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _tls_context.check_hostname = False
        _tls_context.verify_mode = ssl.CERT_NONE
    return _tls_context
