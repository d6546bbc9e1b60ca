"""Unix sockets in directories, whose paths may be longer than the 107 bytes of unix(7): by the directory's descriptor.

Blocking, at once. They raise OSError. Standard library only: shims use it.
"""

from __future__ import annotations

import os
import socket


def connect(sock: socket.socket, path: str) -> None:
    """As connect(2): FileNotFoundError where there is no socket, ConnectionRefusedError where nobody listens."""
    directory = _open_directory(path)
    try:
        sock.connect(_address(directory, os.path.basename(path)))
    finally:
        os.close(directory)


def listen(sock: socket.socket, path: str, backlog: int) -> None:
    """Listens at a path, for root alone (0600). What a process that was killed has left there is replaced: that
    nobody else serves there is the caller's to know. Closing the socket does not remove it."""
    directory = _open_directory(path)
    try:
        listen_in(sock, directory, os.path.basename(path), backlog)
    finally:
        os.close(directory)


def listen_in(sock: socket.socket, directory: int, name: str, backlog: int) -> None:
    """As `listen`, in the directory of a descriptor."""
    address = _address(directory, name)
    try:
        os.unlink(address)
    except FileNotFoundError:
        pass
    sock.bind(address)
    # Nobody gets in before it listens; umask(2), which would do without, is other threads' too.
    os.chmod(address, 0o600)
    sock.listen(backlog)


def _open_directory(path: str) -> int:
    return os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _address(directory: int, name: str) -> str:
    return f"/proc/self/fd/{directory}/{name}"
