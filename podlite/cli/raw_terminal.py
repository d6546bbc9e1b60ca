"""Our own terminal in raw mode: every key goes to the program at the other end, and so does the window's size."""

from __future__ import annotations

import os
import termios
import tty


class RawTerminal:
    """A context manager that puts a terminal into raw mode and gives it back as it was, whatever happens."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> RawTerminal:
        self._saved = termios.tcgetattr(self._fd)
        # Not TCSAFLUSH, which would throw away what was typed ahead.
        tty.setraw(self._fd, termios.TCSANOW)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)
        except termios.error:
            pass  # the terminal has been hung up

    def size(self) -> tuple[int, int]:
        """(columns, lines); 80 by 24 where the terminal does not know."""
        return window_size(self._fd)


def window_size(fd: int) -> tuple[int, int]:
    """(columns, lines) of a terminal; 80 by 24 where it does not know."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        return 80, 24
    return columns or 80, lines or 24
