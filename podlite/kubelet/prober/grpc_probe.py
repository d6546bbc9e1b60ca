"""grpc: the gRPC health checking protocol, one request on a connection of its own.

Sources: pkg/probe/grpc/grpc.go, Kubernetes 1.36; grpc/health/v1/health.proto; gRPC over HTTP2
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from podlite.kubelet.gotime import duration
from podlite.kubelet.prober.http_client import endpoint
from podlite.kubelet.prober.http_request import USER_AGENT_VERSION
from podlite.kubelet.prober.outcome import Outcome, Verdict

if TYPE_CHECKING:
    from anyio.abc import SocketStream
    from h2.connection import H2Connection
    from h2.events import Event

_METHOD = "/grpc.health.v1.Health/Check"
# HealthCheckResponse.ServingStatus
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
# google.golang.org/grpc/codes: the names by number.
_CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
# What a status of HTTP stands for where an answer is not gRPC's (doc/http-grpc-status-mapping.md).
_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_RETRY_SECONDS = 0.1


async def probe_grpc(host: str, port: int, service: str, timeout: float) -> Outcome:
    """Healthy if the server says SERVING. Unencrypted, as the kubelet's."""
    check = _Check(host, port, service, timeout)
    with anyio.move_on_after(timeout):
        # As the kubelet, which goes on connecting until its time is over.
        while True:
            if await check.connect():
                return check.outcome
            await anyio.sleep(_RETRY_SECONDS)
    if check.connected:
        return Outcome(Verdict.FAILURE, f"timeout: health rpc did not complete within {duration(timeout)}")
    text = f'timeout: failed to connect service "{check.address}" within {duration(timeout)}: context deadline exceeded'
    return Outcome(Verdict.FAILURE, text)


class _Check:
    """One probe: `connected` once the server has begun to speak HTTP/2, `outcome` when `connect` has returned True."""

    def __init__(self, host: str, port: int, service: str, timeout: float) -> None:
        self.address = endpoint(host, port)
        self.connected = False
        self.outcome = Outcome(Verdict.FAILURE, "")
        self._host = host
        self._port = port
        self._service = service
        self._timeout = timeout
        self._headers: dict[str, str] = {}
        self._body = b""

    async def connect(self) -> bool:
        """Connects and asks; False where there was no connection that could be asked."""
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.exceptions import ProtocolError

        try:
            stream = await anyio.connect_tcp(self._host, self._port)
        except OSError:
            return False
        http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        async with stream:
            try:
                http.initiate_connection()
                await stream.send(http.data_to_send())
                await self._exchange(stream, http)
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, ProtocolError) as error:
                if not self.connected:
                    return False
                self._headers = {"grpc-status": "14", "grpc-message": f"error reading from server: {_why(error)}"}
        self.outcome = self._verdict()
        return True

    async def _exchange(self, stream: SocketStream, http: H2Connection) -> None:
        """Until the answer is there."""
        ended = False
        while not ended:
            for event in http.receive_data(await stream.receive()):
                ended = self._take(http, event) or ended
            waiting = http.data_to_send()
            if waiting:
                await stream.send(waiting)

    def _take(self, http: H2Connection, event: Event) -> bool:
        """Takes in what the server said; True at the end of its answer."""
        from h2 import events

        if isinstance(event, events.RemoteSettingsChanged) and not self.connected:
            self.connected = True
            http.send_headers(1, self._request_headers())
            request = _request(self._service)
            http.send_data(1, b"\0" + len(request).to_bytes(4) + request, end_stream=True)
        elif isinstance(event, (events.ResponseReceived, events.TrailersReceived)):
            self._headers |= {str(name): str(value) for name, value in event.headers or ()}
        elif isinstance(event, events.DataReceived):
            self._body += event.data or b""
            http.acknowledge_received_data(event.flow_controlled_length or 0, 1)
        elif isinstance(event, (events.StreamReset, events.ConnectionTerminated)):
            self._headers.setdefault("grpc-status", "14")
            return True
        return isinstance(event, events.StreamEnded)

    def _request_headers(self) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", _METHOD),
            (":authority", self.address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", f"kube-probe/{USER_AGENT_VERSION}"),
            ("grpc-timeout", f"{max(int(self._timeout * 1000), 1)}m"),
        ]

    def _verdict(self) -> Outcome:
        code, message = self._status()
        if code == "OK":
            status = _status(self._body[5:])
            if status == "SERVING":
                return Outcome(Verdict.SUCCESS, "service healthy")
            return Outcome(Verdict.FAILURE, f'service unhealthy (responded with "{status}")')
        if code == "Unimplemented":
            text = f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        elif code == "DeadlineExceeded":
            text = f"timeout: health rpc did not complete within {duration(self._timeout)}"
        else:
            text = f"error: health rpc probe failed: rpc error: code = {code} desc = {message}"
        return Outcome(Verdict.FAILURE, text)

    def _status(self) -> tuple[str, str]:
        """The name of the status code, and what the server said about it."""
        from urllib.parse import unquote

        http = self._headers.get(":status", "200")
        if "grpc-status" not in self._headers and http != "200":
            code = _HTTP.get(int(http), 2) if http.isdecimal() else 2
            return _CODES[code], f"unexpected HTTP status code received from server: {http}"
        number = self._headers.get("grpc-status", "13")
        known = number.isdecimal() and int(number) < len(_CODES)
        return _CODES[int(number)] if known else f"Code({number})", unquote(self._headers.get("grpc-message", ""))


def _why(error: Exception) -> str:
    return "EOF" if isinstance(error, anyio.EndOfStream) else str(error)


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1 is the name of the service."""
    name = service.encode()
    if not name:
        return b""
    length, size = bytearray(), len(name)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x0a" + bytes(length) + name


def _status(data: bytes) -> str:
    """HealthCheckResponse: field 1 is the status, as a number below 128; left out it is the first."""
    number = data[1] if len(data) >= 2 and data[0] == 0x08 else 0
    return _STATUSES[number] if number < len(_STATUSES) else str(number)
