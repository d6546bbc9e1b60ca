from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlite.linux import inotify
from podlite.linux.inotify import Event


@pytest.fixture
def fd() -> Iterator[int]:
    fd = inotify.init()
    yield fd
    os.close(fd)


def test_nothing_has_happened(fd: int) -> None:
    assert inotify.read_events(fd) == []
    assert not os.get_inheritable(fd)


def test_events_of_a_directory(fd: int, tmp_path: Path) -> None:
    watch = inotify.add_watch(fd, tmp_path, inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM)
    (tmp_path / "a").touch()
    (tmp_path / "a").rename(tmp_path / "ü")
    (tmp_path / "d").mkdir()
    created, gone, come, directory = inotify.read_events(fd)
    assert created == Event(watch, inotify.IN_CREATE, 0, "a")
    assert (gone.mask, gone.name, come.mask, come.name) == (inotify.IN_MOVED_FROM, "a", inotify.IN_MOVED_TO, "ü")
    assert gone.cookie == come.cookie != 0
    assert (directory.mask, directory.name) == (inotify.IN_CREATE | inotify.IN_ISDIR, "d")
    assert inotify.read_events(fd) == []


def test_a_file_itself(fd: int, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    watch = inotify.add_watch(fd, file, inotify.IN_MODIFY)
    with file.open("a") as log:
        log.write("x")
    assert inotify.read_events(fd) == [Event(watch, inotify.IN_MODIFY, 0, "")]


def test_the_end_of_a_watch(fd: int, tmp_path: Path) -> None:
    watch = inotify.add_watch(fd, tmp_path, inotify.IN_CREATE)
    inotify.rm_watch(fd, watch)
    assert inotify.read_events(fd) == [Event(watch, inotify.IN_IGNORED, 0, "")]
    inotify.rm_watch(fd, watch)
    (tmp_path / "a").touch()
    assert inotify.read_events(fd) == []


def test_many_events(fd: int, tmp_path: Path) -> None:
    inotify.add_watch(fd, tmp_path, inotify.IN_CREATE)
    for number in range(1500):
        (tmp_path / f"{number:0100}").touch()
    names = []
    while events := inotify.read_events(fd):
        names += [event.name for event in events]
    assert names == [f"{number:0100}" for number in range(1500)]


def test_what_cannot_be_watched(fd: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        inotify.add_watch(fd, "/no/such/place", inotify.IN_CREATE)
    assert caught.value.filename == "/no/such/place"


def test_lost_events() -> None:
    # inotify(7): "wd is -1 for this event"
    assert inotify.parse(b"\xff\xff\xff\xff\x00\x40\0\0\0\0\0\0\0\0\0\0") == [Event(-1, inotify.IN_Q_OVERFLOW, 0, "")]
