"""The HTTP/1.1 part of a streaming connection: one request, and the answer that refuses or upgrades it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import h11
from anyio.abc import ByteStream

MAX_HEAD = 64 << 10


class BadRequestError(Exception):
    """The peer does not speak HTTP/1.1, or not as this needs it."""


class Request(NamedTuple):
    """A request's head. `headers` is by lower-case name, all values of it in order; `rest` came after the request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, list[str]]
    raw: h11.Request
    rest: bytes

    def values(self, name: str) -> list[str]:
        """The comma-separated values of a header, over all its lines."""
        lines = self.headers.get(name, [])
        return [value.strip() for line in lines for value in line.split(",") if value.strip()]


async def read_request(stream: ByteStream) -> tuple[h11.Connection, Request]:
    """The connection's one request, whose body is ignored. Raises BadRequestError, EndOfStream."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    head: h11.Request | None = None
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive())
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise BadRequestError("the connection was closed")
    except h11.RemoteProtocolError as error:
        raise BadRequestError(str(error)) from None
    assert head is not None
    headers: dict[str, list[str]] = {}
    for name, value in head.headers:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    target = urlsplit(head.target.decode("latin-1"))
    query = parse_qs(target.query, keep_blank_values=True)
    return connection, Request(
        head.method.decode("latin-1"), target.path, query, headers, head, connection.trailing_data[0]
    )


async def respond(stream: ByteStream, connection: h11.Connection, status: int, text: str, **headers: str) -> None:
    """An answer that ends the connection: a status and a sentence."""
    body = (text + "\n").encode()
    fields = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("connection", "close"),
        *((name.replace("_", "-"), value) for name, value in headers.items()),
    ]
    data = connection.send(h11.Response(status_code=status, headers=fields)) or b""
    data += connection.send(h11.Data(data=body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send(data)


async def switch(stream: ByteStream, connection: h11.Connection, headers: list[tuple[str, str]]) -> None:
    """101 Switching Protocols: from here on the connection speaks another protocol."""
    response = h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols")
    await stream.send(connection.send(response) or b"")
