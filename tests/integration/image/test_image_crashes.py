"""Many processes on one store, and processes killed at every point of their work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from podlite.linux.fs import lock_file
from podlite.runtime.image import collect
from podlite.runtime.image.load import load_images
from podlite.runtime.image.store import ImageStore
from podlite.runtime.image.writer import StoreWriter
from tests.support.image_worker import check_store, leftovers
from tests.support.images import TestImage, docker_archive, oci_archive

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ROOT = Path(__file__).resolve().parents[3]


def numbered_image(name: str, *contents: str) -> TestImage:
    """Each layer says in one file what the other must contain."""
    return TestImage(
        name,
        [{f"data-{number}": content, f"sum-{number}": content} for number, content in enumerate(contents)],
        {"Labels": {"name": name}},
    )


def worker(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.image_worker", *arguments]


@pytest.mark.timeout(300)
def test_a_kill_at_any_system_call_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Load into a new store, load over an image whose tag is taken, and removal; each is then done again."""
    displaced = docker_archive(tmp_path / "old.tar", [numbered_image("victim:1", "base", "old")])
    archive = oci_archive(
        tmp_path / "new.tar",
        [numbered_image("victim:1", "base", "new", "top"), numbered_image("victim:2", "base", "other")],
    )
    result = subprocess.run(
        worker("kill", str(tmp_path / "store"), str(archive), str(displaced)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    points = json.loads(result.stdout)
    # Each action makes at least this many calls; fewer would mean that the kills missed it.
    assert points["first load"] > 150
    assert points["load"] > 100
    assert points["remove"] > 30


@pytest.mark.timeout(300)
def test_many_processes_share_a_store(tmp_path: Path) -> None:
    """They load images that share layers and tags, remove them under one another, and pin what they check."""
    archives = [
        docker_archive(
            tmp_path / f"{number}.tar", [numbered_image(f"image:{number % 2}", "base", "shared", str(number))]
        )
        for number in range(4)
    ]
    store = ImageStore(str(tmp_path / "store"))
    processes = [
        subprocess.Popen(
            worker("churn", store.layout.root, str(seed), "12", *map(str, archives)), stderr=subprocess.PIPE, cwd=ROOT
        )
        for seed in range(6)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors.decode()
    check_store(store)
    for image in store.images():
        assert store.remove(image.record.id)
    store.collect()
    assert leftovers(store) == []


def test_a_writer_that_ends_while_it_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removes its directory without the store's lock: the file of its own lock first, then the directory."""
    store = ImageStore(str(tmp_path / "store"))
    with StoreWriter(store.layout) as writer:
        pass
    os.mkdir(writer.directory)
    ended: list[str] = []

    def lock_then_end(path: str, *, wait: bool) -> int | None:
        fd = lock_file(path, wait=wait)
        os.unlink(path)
        os.rmdir(writer.directory)
        ended.append(path)
        return fd

    monkeypatch.setattr(collect, "lock_file", lock_then_end)
    store.collect()
    assert ended == [f"{writer.directory}/lock"]


@pytest.mark.timeout(300)
def test_a_process_killed_among_others_harms_none_of_them(tmp_path: Path) -> None:
    archives = [
        docker_archive(tmp_path / f"{number}.tar", [numbered_image(f"image:{number}", "base", "x" * 100_000 * number)])
        for number in range(1, 4)
    ]
    store = ImageStore(str(tmp_path / "store"))
    processes = [
        subprocess.Popen(
            worker("churn", store.layout.root, str(seed), rounds, *map(str, archives)),
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        for seed, rounds in enumerate(("1000000", "1000000", "10", "10"))
    ]
    for process in processes[2:]:
        _, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors.decode()
    for process in processes[:2]:
        assert process.poll() is None, "the endless ones failed by themselves"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    names = check_store(store)
    # The dead ones' pins are found by their holders' names, as the runtime finds those of dead containers.
    for holder in store.holders():
        store.release(holder)
    for archive in archives:
        load_images(store, str(archive))
    assert set(check_store(store)) >= set(names)
    assert leftovers(store) == []
