"""sd_notify(3): telling systemd that the agent is ready, reloads, stops, and is alive. Nothing happens without systemd.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) of systemd 257.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import anyio

from podlite import log

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Speaks to the socket that NOTIFY_SOCKET names, a path or an abstract name (`@…`)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog(environment)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                # A manager that does not read must not stop the agent.
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError as error:
            log.debug("systemd cannot be notified", why=error.strerror or "")

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Type=notify-reload wants the time; READY has to follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=The pods go on")

    async def feed_watchdog(self) -> None:
        """Twice in each period, from the event loop: one that hangs is noticed. For ever."""
        if not self.watchdog_seconds:
            await anyio.sleep_forever()
        while True:
            self._send("WATCHDOG=1")
            await anyio.sleep(self.watchdog_seconds / 2)


def _watchdog(environment: Mapping[str, str]) -> float:
    """The period in seconds, 0 for none, or one that is meant for another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6
