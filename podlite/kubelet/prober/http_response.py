"""Reading the answer to a probe: as little of it as its result depends on.

Sources: pkg/probe/http/http.go, Kubernetes 1.36; RFC 9112.
"""

from __future__ import annotations

# What a probe reads of a body; what comes after that makes no difference (pkg/probe/http, maxRespBodyLength).
MAX_BODY = 10 * 1024
# Less than what Go takes (10 MB): headers are searched anew with every piece, and a pod must not be able to keep the
# event loop busy with that.
MAX_HEADERS = 256 * 1024
_MAX_INTERIM = 5


class BadResponseError(Exception):
    """What came is no HTTP response. The text is Go's."""


class EmptyResponseError(Exception):
    """The server closed the connection without a word."""


class Response:
    """An answer, fed piece by piece until it is `complete`: when its end or enough of its body has come."""

    __slots__ = ("_body", "_data", "_interim", "_length", "chunked", "complete", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.complete = False
        self.chunked = False
        self._data = b""
        self._body = b""
        self._length = -1
        self._interim = 0

    def feed(self, data: bytes) -> bool:
        """Takes what has come, nothing at the end of the stream; returns `complete`. Raises BadResponseError and
        EmptyResponseError, and EOFError if the stream ends before the body does; the status is known then.
        """
        if self.status:
            self._add_body(data, end_of_stream=not data)
            return self.complete
        self._data += data
        status = 0
        while not status:
            end = _end_of_head(self._data)
            if not end:
                self._unfinished(data)
                return False
            status = self._read_head(self._data[:end], self._data[end:])
        self.status = status
        rest, self._data = self._data, b""
        self._add_body(rest, end_of_stream=not data)
        return self.complete

    @property
    def body(self) -> bytes:
        """The first 10 KiB of the body, as far as it has come."""
        if self.chunked:
            return dechunk(self._body)[0][:MAX_BODY]
        return self._body[: MAX_BODY if self._length < 0 else min(self._length, MAX_BODY)]

    def _unfinished(self, data: bytes) -> None:
        start = self._data[:8]
        if start and not (b"HTTP/1.0".startswith(start) or b"HTTP/1.1".startswith(start)):
            line = self._data.split(b"\r\n", 1)[0].split(b"\n", 1)[0][:100]
            raise BadResponseError(f'malformed HTTP response "{_shown(line)}"')
        if not data and not self._data:
            raise EmptyResponseError
        if not data:
            raise BadResponseError("unexpected EOF")
        if len(self._data) > MAX_HEADERS:
            raise BadResponseError(f"net/http: server response headers exceeded {MAX_HEADERS} bytes; aborted")

    def _read_head(self, head: bytes, rest: bytes) -> int:
        """The status, or 0 for an interim response, after which another one comes."""
        line, *fields = head.replace(b"\r\n", b"\n").split(b"\n")
        version, _, reason = line.partition(b" ")
        code = reason[:3]
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            if version.startswith(b"HTTP/"):
                raise BadResponseError(f'malformed HTTP version "{_shown(version)}"')
            raise BadResponseError(f'malformed HTTP response "{_shown(line)}"')
        if len(code) < 3 or not code.isdigit() or reason[3:4] not in (b"", b" "):
            raise BadResponseError(f'malformed HTTP status code "{_shown(reason.split(b" ")[0])}"')
        self._data = rest
        status = int(code)
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadResponseError("net/http: too many 1xx informational responses")
            return 0
        for field in fields:
            name, colon, value = field.partition(b":")
            if colon:
                self.headers.setdefault(name.strip().lower(), value.strip())
        self.chunked = self.headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
        length = self.headers.get(b"content-length", b"")
        if status in (204, 304):
            self._length = 0
        elif length and not self.chunked:
            if not length.isdigit():
                raise BadResponseError(f'bad Content-Length "{_shown(length)}"')
            self._length = int(length)
        return status

    def _add_body(self, data: bytes, *, end_of_stream: bool) -> None:
        self._body += data
        if self.chunked:
            body, ended = dechunk(self._body)
            self.complete = ended or len(body) >= MAX_BODY
        else:
            self.complete = len(self._body) >= (MAX_BODY if self._length < 0 else min(self._length, MAX_BODY))
        if not self.complete and end_of_stream:
            if self.chunked or self._length >= 0:
                raise EOFError("unexpected EOF")
            self.complete = True


def _end_of_head(data: bytes) -> int:
    """Where the body begins, or 0. Lines may end with a bare line feed: shell scripts answer so. Pure."""
    ends = [at + len(mark) for mark in (b"\n\r\n", b"\n\n") if (at := data.find(mark)) >= 0]
    return min(ends, default=0)


def dechunk(data: bytes) -> tuple[bytes, bool]:
    """The content of a chunked body as far as it has come, and whether its end has. Raises BadResponseError. Pure."""
    pieces: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return b"".join(pieces), False
        size = data[at:end].split(b";", 1)[0].strip()
        try:
            length = int(size, 16) if size and size[:1] not in b"+-" else -1
        except ValueError:
            length = -1
        if length < 0:
            raise BadResponseError("invalid byte in chunk length")
        if length == 0:
            return b"".join(pieces), True
        pieces.append(data[end + 2 : end + 2 + length])
        at = end + 2 + length + 2


def _shown(text: bytes) -> str:
    from podlite.api.gotext import quote

    return quote(text.decode("utf-8", "replace"))[1:-1]
