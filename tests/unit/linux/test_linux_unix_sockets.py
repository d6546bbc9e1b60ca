"""Unix sockets by their directory's descriptor."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlite.linux import unix_sockets


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Longer than what an address has room for (unix(7): 108 bytes with the NUL)."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    return str(directory / "socket")


def test_a_path_of_any_length(sock: socket.socket, path: str) -> None:
    unix_sockets.listen(sock, path, 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        unix_sockets.connect(client, path)
        served, _ = sock.accept()
        with served:
            client.sendall(b"hello")
            assert served.recv(5) == b"hello"
    mode = os.lstat(path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600, "root's alone, whatever the umask is"


def test_a_relative_path(sock: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    unix_sockets.listen(sock, "socket", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        unix_sockets.connect(client, "socket")


def test_what_a_killed_process_left_is_replaced(sock: socket.socket, path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        unix_sockets.listen(killed, path, 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, pytest.raises(ConnectionRefusedError):
        unix_sockets.connect(client, path)
    unix_sockets.listen(sock, path, 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        unix_sockets.connect(client, path)


def test_no_socket_and_no_directory(sock: socket.socket, path: str) -> None:
    before = os.listdir("/proc/self/fd")
    for missing in (path, f"{path}/socket"):
        with pytest.raises(FileNotFoundError):
            unix_sockets.connect(sock, missing)
    with pytest.raises(FileNotFoundError):
        unix_sockets.listen(sock, f"{path}/socket", 1)
    assert os.listdir("/proc/self/fd") == before, "the directory's descriptor is closed"
