"""sd_notify(3) as systemd reads it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from podlite.agent.notify import Notifier


def test_what_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        notifier = Notifier({"NOTIFY_SOCKET": f"{tmp_path}/notify"})
        notifier.ready("Running 3 pods")
        assert manager.recv(1000) == b"READY=1\nSTATUS=Running 3 pods"
        notifier.reloading()
        lines = manager.recv(1000).decode().split("\n")
        assert lines[0] == "RELOADING=1"
        assert lines[1].removeprefix("MONOTONIC_USEC=").isdecimal()
        notifier.stopping()
        assert manager.recv(1000).startswith(b"STOPPING=1")


def test_an_abstract_socket_and_none() -> None:
    name = f"podlite-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("")
        assert manager.recv(1000).startswith(b"READY=1")
    Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("nobody is there")
    Notifier({}).ready("")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "nonsense"}, 0),
    ],
)
def test_the_watchdogs_period(environment: dict[str, str], seconds: float) -> None:
    assert Notifier(environment).watchdog_seconds == seconds
