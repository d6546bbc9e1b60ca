"""Reads, atomic writes, locks and the removal of trees."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from podlite.linux.fs import (
    FileLock,
    lock_file,
    make_directory,
    open_directory_beneath,
    read_file,
    remove_tree,
    replace_file,
)


@pytest.fixture
def directory(tmp_path: Path):  # type: ignore[no-untyped-def]
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(os.urandom(size))
    assert read_file(str(tmp_path / "f"), limit=size) == (tmp_path / "f").read_bytes()
    if size:
        with pytest.raises(OSError, match="more than") as caught:
            read_file(str(tmp_path / "f"), limit=size - 1)
        assert caught.value.errno == errno.EFBIG


def test_a_file_in_proc_is_read_whole() -> None:
    """Its size says 0."""
    assert b"\n" in read_file("/proc/self/status")


def test_replacing_leaves_one_file_with_its_mode(tmp_path: Path) -> None:
    path, scratch = tmp_path / "f", tmp_path / "scratch"
    scratch.write_bytes(b"left by a killed process, and longer")
    for content in (b"one", b"two"):
        replace_file(str(path), content, scratch=str(scratch))
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["f"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    replace_file(str(path), b"old", scratch=str(tmp_path / "s"))
    (tmp_path / "s").symlink_to(path)
    with pytest.raises(OSError, match="Too many levels"):
        replace_file(str(path), b"new", scratch=str(tmp_path / "s"))
    assert path.read_bytes() == b"old"


def test_a_lock_holds_between_threads_and_is_released_by_closing(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    fd = lock_file(path)
    assert fd is not None
    assert lock_file(path, wait=False) is None
    entered = threading.Event()

    def wait() -> None:
        with FileLock(path):
            entered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not entered.is_set()
    os.close(fd)
    thread.join(timeout=10)
    assert entered.is_set()


def test_shared_locks_share(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with FileLock(path, shared=True), FileLock(path, shared=True):
        assert lock_file(path, wait=False) is None


def test_a_lock_whose_file_was_unlinked_is_taken_on_its_successor(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = lock_file(path)
    assert held is not None
    got: list[int | None] = []
    thread = threading.Thread(target=lambda: got.append(lock_file(path)))
    thread.start()
    os.unlink(path)
    os.close(held)
    thread.join(timeout=10)
    assert got[0] is not None
    assert os.fstat(got[0]).st_ino == os.stat(path).st_ino
    os.close(got[0])


def test_locks_are_not_inherited(tmp_path: Path) -> None:
    fd = lock_file(str(tmp_path / "lock"))
    assert fd is not None
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_a_tree_is_removed_and_what_it_links_to_stays(tmp_path: Path, directory: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "f").write_text("x")
    (tree / "a" / "link").symlink_to(outside)
    (tree / "dangling").symlink_to("/nonexistent")
    os.mkfifo(tree / "fifo")
    os.link(outside / "keep", tree / "hard")
    remove_tree(directory, "tree")
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (outside / "keep").read_text() == "kept"
    remove_tree(directory, "tree")


def test_a_link_or_a_file_in_the_trees_place_is_removed_itself(tmp_path: Path, directory: int) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("x")
    remove_tree(directory, "link")
    remove_tree(directory, "file")
    assert os.listdir(tmp_path) == ["real"]
    assert os.listdir(tmp_path / "real") == ["f"]


def test_a_tree_deeper_than_any_path_or_fd_limit_is_removed(tmp_path: Path, directory: int) -> None:
    depth = 5000
    fd = os.dup(directory)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(directory, "d")
    assert os.listdir(tmp_path) == ["f"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_may_remove_the_same_tree(tmp_path: Path, directory: int) -> None:
    for number in range(300):
        (tmp_path / "tree" / f"{number % 7}" / f"{number}").mkdir(parents=True)
    failures: list[BaseException] = []

    def remove() -> None:
        try:
            remove_tree(directory, "tree")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(tmp_path) == []


def test_a_directory_is_opened_through_no_link(tmp_path: Path, directory: int) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    fd = open_directory_beneath(directory, b"a/b")
    assert os.fstat(fd).st_ino == (tmp_path / "a" / "b").stat().st_ino
    os.close(fd)
    for path in ("link", "link/b", "..", "a/../..", "/"):
        with pytest.raises(OSError, match=r"openat2") as caught:
            open_directory_beneath(directory, path)
        assert caught.value.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR)


def test_a_directory_is_made_with_those_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    make_directory(str(path), 0o711)
    make_directory(str(path), 0o700)
    assert path.stat().st_mode & 0o7777 == 0o711
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "file"), 0o700)
