"""A registry that misbehaves as told: for truncated bodies, wrong digests, errors, redirects and token servers.

with FaultRegistry() as registry:
    registry.add("demo", "1", layout, descriptor)
    registry.on(r"/blobs/", Reply(503, {"Retry-After": "1"}), cut(1000))   # the first two answers; then as it should
    ...
    assert registry.requests[0].path == "/v2/demo/manifests/1"
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.images import Layout, sha256


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """`cut` is after how many bytes of the body the connection ends, `hold` what is waited for there instead;
    without `length` there is no Content-Length."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    hold: threading.Event | None = None
    length: bool = True


# What an answer is made of: the request, and what a good registry would say.
Answer = Reply | Callable[[Request, Reply], Reply]


def cut(after: int) -> Answer:
    """The right answer, whose connection ends after so many bytes of the body."""
    return lambda request, good: replace(good, cut=after)


def hold(after: int, until: threading.Event) -> Answer:
    """The right answer, that stops after so many bytes of the body until something has happened."""
    return lambda request, good: replace(good, cut=after, hold=until)


def corrupt(request: Request, good: Reply) -> Reply:
    """The right answer with its last byte wrong."""
    return replace(good, body=good.body[:-1] + bytes([good.body[-1] ^ 1]))


class FaultRegistry:
    """Listens on a free port of loopback while its context lasts. `requests` are all that came, in order."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._files: dict[str, Reply] = {}
        self._script: list[tuple[str, list[Answer]]] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                registry._serve(self, Request(self.command, self.path, dict(self.headers.items()), body))

            do_GET = do_HEAD = do_POST = _answer

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients go away in these tests

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls is not None else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> FaultRegistry:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, repository: str, tag: str, layout: Layout, descriptor: Mapping[str, Any]) -> None:
        """Serves everything in a layout, and a tag for one descriptor."""
        for name, raw in layout.files.items():
            if name.startswith("blobs/"):
                digest = sha256(raw)
                self._files[f"/v2/{repository}/blobs/{digest}"] = Reply(body=raw)
                self.put_manifest(repository, digest, raw, "")
        raw = layout.files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
        for reference in (tag, descriptor["digest"]):
            self.put_manifest(repository, reference, raw, descriptor["mediaType"])

    def put_manifest(self, repository: str, reference: str, raw: bytes, media_type: str, **headers: str) -> None:
        """Serves a document under a tag or digest."""
        stated = {"Docker-Content-Digest": sha256(raw), **({"Content-Type": media_type} if media_type else {})}
        self._files[f"/v2/{repository}/manifests/{reference}"] = Reply(
            headers={**stated, **{key.replace("_", "-"): value for key, value in headers.items()}}, body=raw
        )

    def paths(self) -> list[str]:
        """Everything that is served."""
        return list(self._files)

    def on(self, pattern: str, *answers: Answer) -> None:
        """Gives these answers, one after the other, to requests whose `METHOD path` the pattern is found in."""
        with self._lock:
            self._script.insert(0, (pattern, list(answers)))

    def seen(self, pattern: str) -> list[Request]:
        """The requests so far whose `METHOD path` the pattern is found in."""
        with self._lock:
            return [each for each in self.requests if re.search(pattern, f"{each.method} {each.path}")]

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Waits until so many requests like that have come."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(bool(re.search(pattern, f"{r.method} {r.path}")) for r in self.requests) >= count, 60
            )

    def _serve(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            scripted = None
            for pattern, answers in self._script:
                if answers and re.search(pattern, f"{request.method} {request.path}"):
                    scripted = answers.pop(0)
                    break
        good = self._good(request)
        reply = good if scripted is None else scripted if isinstance(scripted, Reply) else scripted(request, good)
        self._send(handler, request, reply)

    def _good(self, request: Request) -> Reply:
        # A proxy is asked by whole URLs.
        path = re.sub(r"^http://[^/]*", "", request.path).partition("?")[0]
        found = self._files.get(path)
        if found is None:
            return Reply(404, {"Content-Type": "application/json"}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        start = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("Range", ""))
        if start is None:
            return found
        offset = int(start[1])
        total = len(found.body)
        return Reply(206, {"Content-Range": f"bytes {offset}-{total - 1}/{total}"}, found.body[offset:])

    def _send(self, handler: BaseHTTPRequestHandler, request: Request, reply: Reply) -> None:
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.length and "Content-Length" not in reply.headers:
            handler.send_header("Content-Length", str(len(reply.body)))
        if not reply.length:
            handler.send_header("Connection", "close")
            handler.close_connection = True
        handler.end_headers()
        if request.method == "HEAD":
            return
        if reply.cut is None:
            handler.wfile.write(reply.body)
            return
        handler.wfile.write(reply.body[: reply.cut])
        handler.wfile.flush()
        if reply.hold is not None:
            reply.hold.wait(60)
            handler.wfile.write(reply.body[reply.cut :])
        else:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
