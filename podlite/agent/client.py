"""A client of the agent's API: requests over its Unix socket, answers as plain dicts. Blocking; for the commands.

Standard library only, and little of that: a command is to answer at once.
"""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from podlite.errors import PodliteError
from podlite.linux import unix_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

# An answer that is not a stream; creating a pod waits for the disk.
ANSWER_SECONDS = 60.0


class NoAgentError(PodliteError):
    """No agent answers at the socket."""


class AnswerError(PodliteError):
    """The API answered with an error; `reason` and `code` are the Status'."""

    def __init__(self, status: Mapping[str, Any], code: int) -> None:
        self.reason = str(status.get("reason", ""))
        self.code = int(status.get("code") or code)
        super().__init__(str(status.get("message", "")) or f"the agent answered with HTTP {code}")


class _Connection(HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("podlite", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        unix_sockets.connect(self.sock, self._path)


class Client:
    """Requests to one agent, over one connection, as a context manager."""

    def __init__(self, socket_path: str, *, timeout: float = ANSWER_SECONDS) -> None:
        self.socket_path = socket_path
        self._timeout = timeout
        self._connection = _Connection(socket_path, timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **query: Any
    ) -> Any:
        """The answer to one request, decoded if it is JSON, else text.

        `body` is bytes as they are, or something to encode. Parameters that are None are left out. Raises
        NoAgentError, AnswerError.
        """
        response = self._send(self._connection, method, path, body, content_type, query)
        return _decoded(response, self._read(response))

    def read(self, path: str, **query: Any) -> bytes:
        """The answer to a GET, as it is. Raises as `request`."""
        response = self._send(self._connection, "GET", path, None, "", query)
        data = self._read(response)
        if response.status >= 300:
            _decoded(response, data)
        return data

    def lines(self, path: str, **query: Any) -> Iterator[bytes]:
        """The lines of a streamed answer as they come, on a connection of its own. Raises as `request`."""
        connection = _Connection(self.socket_path, None)
        try:
            response = self._send(connection, "GET", path, None, "", query)
            if response.status >= 300:
                _decoded(response, response.read())
            while line := response.readline():
                yield line
        except (OSError, HTTPException) as error:
            raise self._broken(error) from error
        finally:
            connection.close()

    def watch(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The events of a watch: {"type": …, "object": …}. Raises as `lines`, also for an error that comes in it."""
        for line in self.lines(path, watch="true", **query):
            event: dict[str, Any] = msgspec.json.decode(line)
            if event["type"] == "ERROR":
                raise AnswerError(event["object"], 0)
            yield event

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: Any, content_type: str, query: dict[str, Any]
    ) -> HTTPResponse:
        given = [(key, value) for key, value in query.items() if value is not None]
        url = quote(path) + (f"?{urlencode(given, doseq=True)}" if given else "")
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        try:
            connection.request(method, url, data, headers)
            return connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            raise NoAgentError(
                f"no podlite agent runs: nobody serves {self.socket_path}", hint="`podlite agent` starts one"
            ) from error
        except (OSError, HTTPException) as error:
            connection.close()
            raise self._broken(error) from error

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, HTTPException) as error:
            response.close()
            self._connection.close()
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> NoAgentError:
        return NoAgentError(f"the podlite agent does not answer at {self.socket_path}: {error}")


def _decoded(response: HTTPResponse, data: bytes) -> Any:
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    value = msgspec.json.decode(data) if is_json and data else data.decode("utf-8", "replace")
    if response.status >= 300:
        raise AnswerError(value if isinstance(value, dict) else {"message": value}, response.status)
    return value


def pods_path(namespace: str, name: str = "", *below: str) -> str:
    """The path of pods: of all namespaces, of one, of one pod, or of something below it."""
    path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    return "/".join([path, *([name] if name else []), *below])
