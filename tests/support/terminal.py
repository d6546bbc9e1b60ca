"""A terminal for a test: a pty with a program on it, as a person would sit before it."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time

SECONDS = 60.0


class Terminal:
    """A program with a controlling terminal of its own. A context manager: leaving it hangs up."""

    def __init__(self, argv: list[str], env: dict[str, str], *, columns: int = 80, lines: int = 24) -> None:
        self._master, slave = os.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(slave)
        # setsid(1) becomes the program, as the leader of a session whose terminal is this one.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], env={**env, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave
        )
        self._slave = slave
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        """The kernel sends SIGWINCH to whoever is in the foreground."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str) -> None:
        """Reads until the program has written `text`."""
        deadline = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self.seen!r}"
            ended = self.process.poll() is not None
            if not self._read(0.05) and ended:
                raise AssertionError(f"{text!r} was not shown before it ended: {self.seen!r}")

    def wait(self) -> int:
        """Reads until the program has ended; returns its exit status."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        self.seen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def attributes(self) -> list[object]:
        """As the terminal is set now (termios(3))."""
        return list(termios.tcgetattr(self._slave))

    def is_foreground(self, pid: int) -> bool:
        return os.tcgetpgrp(self._master) == os.getpgid(pid)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._slave)
        os.close(self._master)
