"""Probes and hooks against real servers on loopback.

Verdicts: "HTTP probes" in "Configure Liveness, Readiness and Startup Probes" (200 to 399 is healthy; redirects),
pkg/probe/http, pkg/probe/tcp; texts of errors as Go's net/http has them, which are what clusters show.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from podlite.api.container import Container
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod
from podlite.api.probes import HTTPGetAction, HTTPHeader, LifecycleHandler
from podlite.kubelet.lifecycle import HookError, run_handler
from podlite.kubelet.prober.http_probe import probe_http
from podlite.kubelet.prober.http_request import Request, make_request
from podlite.kubelet.prober.outcome import Outcome, ProbeError, Verdict
from podlite.kubelet.prober.tcp_probe import probe_tcp

pytestmark = pytest.mark.anyio

Answer = bytes | Callable[[socket.socket, bytes], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Answers each connection with what its target's answer is, and remembers the requests."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listening = socket.create_server((address, 0), family=family, backlog=64)
        self.port: int = self.listening.getsockname()[1]
        self.tls = tls
        self.answers: dict[str, Answer] = {}
        self.default: Answer = b"HTTP/1.1 404 Not Found\r\n\r\n"
        self.requests: list[str] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            try:
                self._answer(connection)
            except (OSError, ssl.SSLError):
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            data = connection.recv(65536)
            if not data:
                return
            self.requests.append(data.decode("latin-1"))
            target = data.split(b" ")[1].decode() if data.startswith(b"GET ") else ""
            answer = self.answers.get(target, self.default)
            if callable(answer):
                answer(connection, data)
            else:
                connection.sendall(answer)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join()


@contextmanager
def serving(address: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **answers: Answer) -> Iterator[Server]:
    server = Server(address, tls)
    server.answers = {f"/{name}" if name != "root" else "/": answer for name, answer in answers.items()}
    try:
        yield server
    finally:
        server.close()


def request(server: Server | int, path: str = "/", host: str = "127.0.0.1", **action: Any) -> Request:
    port = server if isinstance(server, int) else server.port
    return make_request(HTTPGetAction(path=path, port=port, **action), Container(name="c"), host)


async def outcome(server: Server | int, path: str = "/", timeout: float = 20, **action: Any) -> Outcome:
    return await probe_http(request(server, path, **action), timeout)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def hold(connection: socket.socket, data: bytes) -> None:
    """Says nothing until the other side has gone."""
    connection.recv(1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Outcome(Verdict.SUCCESS)),
        (201, Outcome(Verdict.SUCCESS)),
        (299, Outcome(Verdict.SUCCESS)),
        # Without a Location there is nothing to follow.
        (302, Outcome(Verdict.WARNING, "Probe terminated redirects, Response body: body")),
        (304, Outcome(Verdict.WARNING, "Probe terminated redirects, Response body: ")),
        (399, Outcome(Verdict.WARNING, "Probe terminated redirects, Response body: body")),
        (400, Outcome(Verdict.FAILURE, "HTTP probe failed with statuscode: 400")),
        (404, Outcome(Verdict.FAILURE, "HTTP probe failed with statuscode: 404")),
        (500, Outcome(Verdict.FAILURE, "HTTP probe failed with statuscode: 500")),
        (599, Outcome(Verdict.FAILURE, "HTTP probe failed with statuscode: 599")),
    ],
)
async def test_statuses(status: int, expected: Outcome) -> None:
    with serving(root=f"HTTP/1.1 {status} x\r\n\r\nbody".encode()) as server:
        assert await outcome(server) == expected


async def test_what_the_server_gets() -> None:
    with serving(**{"path?q=1": OK}) as server:
        await outcome(server, "/path?q=1", http_headers=[HTTPHeader(name="x-own", value="y")])
        assert server.requests == [
            f"GET /path?q=1 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUser-Agent: kube-probe/1.36\r\n"
            "Accept: */*\r\nX-Own: y\r\nConnection: close\r\n\r\n"
        ]


async def test_ipv6() -> None:
    with serving("::1", root=OK) as server:
        assert (await probe_http(request(server, host="::1"), 20)).verdict is Verdict.SUCCESS
        assert f"Host: [::1]:{server.port}\r\n" in server.requests[0]


async def test_a_name() -> None:
    with serving(root=OK) as server:
        assert (await outcome(server, host="localhost")).verdict is Verdict.SUCCESS
    failed = await outcome(80, host="no-such-host.invalid")
    assert failed == Outcome(
        Verdict.FAILURE, 'Get "http://no-such-host.invalid:80/": dial tcp: lookup no-such-host.invalid: no such host'
    )


# --- redirects --------------------------------------------------------------------------------


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nmoved".encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_on_the_same_host_are_followed(status: int) -> None:
    with serving(root=redirect("/next", status), next=OK) as server:
        assert (await outcome(server, http_headers=[HTTPHeader(name="Host", value="virtual")])) == Outcome(
            Verdict.SUCCESS
        )
        # A relative redirect keeps the Host header.
        assert [("Host: virtual\r\n" in each) for each in server.requests] == [True, True]


async def test_a_redirect_to_another_port_of_the_same_host() -> None:
    with serving(there=OK) as other:
        with serving(root=redirect(f"http://127.0.0.1:{other.port}/there")) as server:
            assert await outcome(server) == Outcome(Verdict.SUCCESS)
        assert len(other.requests) == 1


async def test_a_redirect_to_another_host_is_a_warning() -> None:
    with serving(root=redirect("http://127.0.0.2:1/there")) as server:
        assert await outcome(server) == Outcome(Verdict.WARNING, "Probe terminated redirects, Response body: moved")


async def test_redirects_without_end() -> None:
    with serving(root=redirect("/")) as server:
        found = await outcome(server)
        assert found == Outcome(Verdict.FAILURE, f'Get "http://127.0.0.1:{server.port}/": stopped after 10 redirects')
        assert len(server.requests) == 10


async def test_a_redirect_that_leads_to_a_failure() -> None:
    port = closed_port()
    with serving(root=redirect(f"http://127.0.0.1:{port}/x")) as server:
        assert await outcome(server) == Outcome(
            Verdict.FAILURE,
            f'Get "http://127.0.0.1:{port}/x": dial tcp 127.0.0.1:{port}: connect: connection refused',
        )


# --- what goes wrong --------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    port = closed_port()
    assert await outcome(port) == Outcome(
        Verdict.FAILURE, f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )


async def test_nobody_answers_in_time() -> None:
    with serving(root=hold) as server:
        found = await outcome(server, timeout=0.1)
        assert found == Outcome(
            Verdict.FAILURE,
            f'Get "http://127.0.0.1:{server.port}/": '
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        )


async def test_the_connection_is_not_accepted_in_time() -> None:
    # A listener whose queue is full drops what comes.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                each = socket.socket()
                waiting.append(each)
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            found = await outcome(port, timeout=0.1)
            assert found.verdict is Verdict.FAILURE
            assert "context deadline exceeded" in found.output
            assert await probe_tcp("127.0.0.1", port, 0.1) == Outcome(
                Verdict.FAILURE, f"dial tcp 127.0.0.1:{port}: i/o timeout"
            )
        finally:
            for each in waiting:
                each.close()


async def test_a_body_that_does_not_end() -> None:
    def stall(connection: socket.socket, data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.recv(1)

    def cut(connection: socket.socket, data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with serving(stall=stall, cut=cut) as server:
        with pytest.raises(ProbeError, match="while reading body") as failure:
            await outcome(server, "/stall", timeout=0.1)
        assert failure.value.verdict is Verdict.FAILURE
        with pytest.raises(ProbeError, match="unexpected EOF"):
            await outcome(server, "/cut")


async def test_a_large_body_is_not_read_to_its_end() -> None:
    def pour(connection: socket.socket, data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            return

    with serving(root=pour) as server:
        assert await outcome(server) == Outcome(Verdict.SUCCESS)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "EOF"),
        (b"SSH-2.0-x\r\n", 'net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0-x"'),
        (b"HTTP/1.1 200", "net/http: HTTP/1.x transport connection broken: unexpected EOF"),
    ],
)
async def test_answers_that_are_none(answer: bytes, text: str) -> None:
    with serving(root=answer) as server:
        assert await outcome(server) == Outcome(Verdict.FAILURE, f'Get "http://127.0.0.1:{server.port}/": {text}')


async def test_a_connection_that_is_reset() -> None:
    def reset(connection: socket.socket, data: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with serving(root=reset) as server:
        found = await outcome(server)
        assert found.verdict is Verdict.FAILURE
        assert found.output.startswith(f'Get "http://127.0.0.1:{server.port}/": read tcp 127.0.0.1:')
        assert found.output.endswith(f"->127.0.0.1:{server.port}: read: connection reset by peer")


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody would believe: self-signed, expired, for another name."""
    directory: Path = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate),
         "-days", "1", "-subj", "/CN=somebody.else"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_https_without_verification(tls: ssl.SSLContext) -> None:
    with serving(
        tls=tls, root=OK, bad=b"HTTP/1.1 503 x\r\n\r\n", large=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50_000
    ) as server:
        assert await outcome(server, scheme="HTTPS") == Outcome(Verdict.SUCCESS)
        assert await outcome(server, "/large", scheme="HTTPS") == Outcome(Verdict.SUCCESS)
        assert await outcome(server, "/bad", scheme="HTTPS") == Outcome(
            Verdict.FAILURE, "HTTP probe failed with statuscode: 503"
        )


async def test_https_at_a_server_that_speaks_http() -> None:
    with serving() as server:
        server.default = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert await outcome(server, scheme="HTTPS") == Outcome(
            Verdict.FAILURE,
            f'Get "https://127.0.0.1:{server.port}/": http: server gave HTTP response to HTTPS client',
        )


async def test_a_handshake_that_is_never_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = await outcome(port, timeout=0.1, scheme="HTTPS")
        assert found.verdict is Verdict.FAILURE
        assert "context deadline exceeded" in found.output


# --- TCP --------------------------------------------------------------------------------------


async def test_tcp() -> None:
    with serving() as server:
        assert await probe_tcp("127.0.0.1", server.port, 20) == Outcome(Verdict.SUCCESS)
        assert await probe_tcp("localhost", server.port, 20) == Outcome(Verdict.SUCCESS)
    port = closed_port()
    assert await probe_tcp("127.0.0.1", port, 20) == Outcome(
        Verdict.FAILURE, f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    )


# --- hooks ------------------------------------------------------------------------------------

POD = Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"))


async def hook(server: Server | int, path: str = "/", **action: Any) -> list[tuple[str, str, str]]:
    port = server if isinstance(server, int) else server.port
    events: list[tuple[str, str, str]] = []
    handler = LifecycleHandler(http_get=HTTPGetAction(path=path, port=port, **action))
    await run_handler(
        None,  # type: ignore[arg-type]
        "1",
        POD,
        Container(name="c"),
        handler,
        pod_ips=["127.0.0.1"],
        record=lambda *said: events.append(said),
    )
    return events


async def test_any_answer_satisfies_a_hook() -> None:
    with serving(root=b"HTTP/1.1 500 x\r\n\r\n", away=redirect("http://127.0.0.1:{}/")) as server:
        server.answers["/away"] = redirect(f"http://localhost:{server.port}/")
        assert await hook(server) == []
        # Redirects are followed to wherever they lead.
        assert await hook(server, "/away") == []
        assert len(server.requests) == 3
        assert "User-Agent: kube-lifecycle/1.36\r\n" in server.requests[0]


async def test_a_hook_that_nobody_answers() -> None:
    port = closed_port()
    with pytest.raises(HookError) as failure:
        await hook(port, "/x")
    assert failure.value.message == (
        'HTTP lifecycle hook (/x) for Container "c" in Pod "p_ns(u)" failed - error: '
        f'Get "http://127.0.0.1:{port}/x": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )


async def test_an_https_hook_falls_back_to_http_without_its_credentials() -> None:
    with serving() as server:
        server.default = OK
        headers = [HTTPHeader(name="Authorization", value="secret"), HTTPHeader(name="X-Own", value="y")]
        assert await hook(server, scheme="HTTPS", http_headers=headers) == [
            (
                "Warning",
                "LifecycleHTTPFallback",
                f"request to HTTPS lifecycle hook 127.0.0.1:{server.port} got HTTP response, retry with HTTP succeeded",
            )
        ]
        assert "X-Own: y\r\n" in server.requests[-1]
        assert "secret" not in server.requests[-1]
