"""What a streaming session does with odd clients, and with this machine's own refusals."""

from __future__ import annotations

import errno
import os
from typing import Any

import anyio
import pytest

from podlite.cri.services import ExecStream
from podlite.rpc.streaming import remotecommand
from podlite.rpc.streaming.channels import Channels
from podlite.rpc.streaming.portforward import port_number


class Client(Channels):
    """One that stays, and keeps the status that it is told."""

    status: dict[str, Any] | None = None

    async def receive(self) -> None:
        await anyio.sleep_forever()

    async def write(self, name: str, data: bytes) -> None:
        raise AssertionError("nothing runs that could have written this")

    async def end(self, name: str) -> None:
        raise AssertionError("nothing runs whose output could end")

    async def finish(self, status: dict[str, Any]) -> None:
        self.status = status


@pytest.mark.anyio
async def test_a_machine_that_refuses_is_told_to_the_client() -> None:
    """metav1.Status, reason InternalError: as for every exec that could not be begun (remotecommand, V4)."""

    async def start() -> ExecStream:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    client = Client()
    with anyio.fail_after(60):
        await remotecommand.serve(client, start, attach=False)
    assert client.status is not None
    assert (client.status["status"], client.status["reason"]) == ("Failure", "InternalError")
    assert client.status["message"].endswith("Too many open files")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[80, 24]",
        b'{"Width": 80}',
        b'{"Width": "wide", "Height": 24}',
        b'{"Width": Infinity, "Height": 24}',
        b'{"Width": NaN, "Height": 24}',
        b'{"Width": 0, "Height": 24}',
        b'{"Width": 65536, "Height": 24}',
        b"[" * 1024,
        b"\xff",
    ],
)
def test_sizes_that_are_none_are_ignored(text: bytes) -> None:
    client = Client()
    client.resized(text)
    assert client._size is None


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", 80),
        ("65535", 65535),
        ("0", None),
        ("65536", None),
        ("-1", None),
        ("", None),
        ("8o", None),
        ("\u0668\u0660", None),  # digits, but not of a port
        ("9" * 5000, None),  # more than int() reads
    ],
)
def test_the_ports_of_a_client(text: str, port: int | None) -> None:
    assert port_number(text) == port
