from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from podlite.linux.trash import Trash, abandoned

Problems = list[tuple[str, OSError]]


@pytest.fixture
def problems() -> Problems:
    return []


def make_tree(path: Path) -> Path:
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "file").write_text("x")
    return path


def test_the_name_is_gone_at_once_and_the_content_by_the_end(tmp_path: Path, problems: Problems) -> None:
    trash = Trash(str(tmp_path / "trash"), lambda path, error: problems.append((path, error)))
    for number in range(20):
        tree = make_tree(tmp_path / f"tree{number}")
        trash.throw(str(tree))
        assert not tree.exists()
    trash.close()
    assert os.listdir(tmp_path) == []
    assert problems == []


def test_what_is_gone_already_is_success(tmp_path: Path, problems: Problems) -> None:
    trash = Trash(str(tmp_path / "trash"), lambda path, error: problems.append((path, error)))
    trash.throw(str(tmp_path / "nothing"))
    trash.close()
    trash.close()
    assert os.listdir(tmp_path) == []


def test_the_same_name_again_and_again(tmp_path: Path, problems: Problems) -> None:
    trash = Trash(str(tmp_path / "trash"), lambda path, error: problems.append((path, error)))
    for _ in range(10):
        trash.throw(str(make_tree(tmp_path / "tree")))
    trash.close()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_goes_too(tmp_path: Path, problems: Problems) -> None:
    # No process has this number: pid_max is 2^22 at the most (proc(5)).
    left = make_tree(tmp_path / "trash" / f"tree.{1 << 23}.0")
    assert abandoned(str(tmp_path / "trash")) == [str(left)]
    trash = Trash(str(tmp_path / "trash"), lambda path, error: problems.append((path, error)))
    trash.throw(str(make_tree(tmp_path / "tree")))
    trash.close()
    assert os.listdir(tmp_path) == []


def test_what_a_live_process_is_removing_is_not_abandoned(tmp_path: Path) -> None:
    make_tree(tmp_path / "trash" / f"tree.{os.getpid()}.0")
    assert abandoned(str(tmp_path / "trash")) == []
    assert abandoned(str(tmp_path / "no such directory")) == []


def test_several_share_one(tmp_path: Path, problems: Problems) -> None:
    one, other = (Trash(str(tmp_path / "trash"), lambda path, error: problems.append((path, error))) for _ in range(2))

    def throw(trash: Trash, name: str) -> None:
        for number in range(50):
            trash.throw(str(make_tree(tmp_path / f"{name}{number}")))
        trash.close()

    threads = [threading.Thread(target=throw, args=each) for each in ((one, "a"), (other, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == []
    assert problems == []
