"""Pseudoterminals, by their masters.

Sources: pts(4), ioctl_tty(2), ioctl_console(2) for the numbers that `termios` does not have.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def unlock(master: int) -> None:
    """unlockpt(3): until then the terminal cannot be opened."""
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))


def open_peer(master: int) -> int:
    """The terminal that belongs to a master, opened not by its path but by what the kernel knows (Linux 4.13)."""
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def make_controlling(terminal: int) -> None:
    """Makes it the controlling terminal of the calling process's session, whose leader the process is."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def set_window(terminal: int, width: int, height: int) -> None:
    """The terminal's size in characters (TIOCSWINSZ)."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
