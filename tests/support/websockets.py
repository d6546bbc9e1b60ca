"""A WebSocket client on a Unix socket, for the channels of exec and attach. Blocking."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, RejectConnection, RejectData, Request

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


class Refused(Exception):
    """The server did not upgrade; `code` is the HTTP status, `body` what it said."""

    def __init__(self, code: int, body: bytes) -> None:
        super().__init__(f"HTTP {code}: {body!r}")
        self.code = code
        self.body = body


class Channels:
    """One exec or attach, as a context manager."""

    def __init__(self, socket_path: str, path: str, *, protocols: tuple[str, ...] = (V5,), **query: Any) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.output = {1: b"", 2: b""}
        self.status: dict[str, Any] | None = None
        try:
            self._open(socket_path, f"{path}?{urlencode(query, doseq=True)}", protocols)
        except BaseException:
            self._sock.close()
            raise

    def _open(self, socket_path: str, target: str, protocols: tuple[str, ...]) -> None:
        self._sock.settimeout(30)
        self._sock.connect(socket_path)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._send(Request(host="podlite", target=target, subprotocols=list(protocols)))
        self._events = self._receive()
        event = next(self._events)
        if isinstance(event, RejectConnection):
            body = b"".join(bytes(each.data) for each in self._events if isinstance(each, RejectData))
            raise Refused(event.status_code, body)
        assert isinstance(event, AcceptConnection)
        self.protocol = event.subprotocol

    def __enter__(self) -> Channels:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    def _send(self, event: Event) -> None:
        self._sock.sendall(self._connection.send(event))

    def _receive(self) -> Iterator[Event]:
        while True:
            data = self._sock.recv(65536)
            self._connection.receive_data(data or None)
            for event in self._connection.events():
                yield event
                if isinstance(event, CloseConnection):
                    return
                if isinstance(event, RejectData) and event.body_finished:
                    return

    def send(self, channel: int, data: bytes) -> None:
        self._send(BytesMessage(bytes([channel]) + data))

    def read_until(self, text: bytes, channel: int = 1) -> None:
        """Reads until a channel has had some text."""
        while text not in self.output[channel]:
            self._take(next(self._events))

    def read_all(self) -> dict[str, Any] | None:
        """Reads to the end; the final status."""
        for event in self._events:
            self._take(event)
        return self.status

    def _take(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            channel, data = event.data[0], bytes(event.data[1:])
            if channel == 3:
                self.status = json.loads(data)
            else:
                self.output[channel] += data
