"""Processes that work on an image store for the tests: killed at every system call, or many at once.

python -m tests.support.image_worker kill STORE ARCHIVE DISPLACED    load ARCHIVE, killed at each point in turn
python -m tests.support.image_worker churn STORE SEED ROUNDS ARCHIVE...  load, remove, acquire, check, release
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

from podlite.linux.fs import remove_tree
from podlite.linux.syscalls import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare
from podlite.runtime.image.load import load_images
from podlite.runtime.image.merged import MergedTree
from podlite.runtime.image.record import ImageRecord
from podlite.runtime.image.store import ImageStore


def check_store(store: ImageStore) -> dict[str, str]:
    """Asserts that every image is whole, whatever happened before; returns name → id.

    The test images carry in each layer a file `sum-N` that says what the layer's file `data-N` must contain.
    """
    names = {}
    for image in store.images():
        check_image(store, image.record)
        names.update(dict.fromkeys(image.names, image.record.id))
        assert store.lookup(image.record.id) == image.record
    for name, id in names.items():
        record = store.lookup(name)
        assert record is not None
        assert record.id == id
    return names


def check_image(store: ImageStore, record: ImageRecord) -> None:
    lower = [store.layout.layer(layer) for layer in reversed(record.layers)]
    with MergedTree(lower) as tree:
        for number in range(len(record.layers)):
            assert tree.read(f"data-{number}", limit=1 << 24) == tree.read(f"sum-{number}", limit=1 << 24)
            assert tree.resolve(f"data-{number}") is not None


def leftovers(store: ImageStore) -> list[str]:
    """What the store has beyond what its index leads to."""
    layout = store.layout
    images = store.images()
    layers = {layer for image in images for layer in image.record.layers}
    blobs = {blob.removeprefix("sha256:") for image in images for blob in image.record.blobs}
    records = {f"{image.record.hex}.json" for image in images}
    found = [f"layers/{name}" for name in os.listdir(layout.layers) if name not in layers]
    found += [f"blobs/{name}" for name in os.listdir(layout.blobs) if name not in blobs]
    found += [f"images/{name}" for name in os.listdir(layout.images) if name not in records]
    for directory in ("work", "trash", "locks", "ingest", "pins"):
        found += [f"{directory}/{name}" for name in os.listdir(f"{layout.root}/{directory}")]
    found += [name for name in os.listdir(layout.root) if name.endswith(".new")]
    return found


def killed_at(point: int, action: Callable[[], object]) -> bool:
    """Runs `action` in a child that is killed just before its `point`-th system call; False if it came to its end."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            if event == "c_call" and getattr(argument, "__module__", "") in ("posix", "fcntl"):
                count += 1
                if count == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.setprofile(profile)
            action()
            status = 0
        finally:
            sys.setprofile(None)
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the action failed by itself"
    return os.WIFSIGNALED(status)


def kill_everywhere(root: str, archive: str, displaced: str) -> None:
    """Loads `archive` over `displaced`, whose tag it takes, and removes it, killed at each point in turn."""
    # A tmpfs of its own: the test is about order, and fsync on a disk would make it slow.
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    os.makedirs(root)
    mount("tmpfs", root, "tmpfs")
    points = {action: _kill_in(action, root, archive, displaced) for action in ("first load", "load", "remove")}
    print(json.dumps(points))


def _kill_in(action: str, root: str, archive: str, displaced: str) -> int:
    """Kills one action at each of its points; returns how many these are."""
    store = ImageStore(f"{root}/{action}")
    point = 0
    killed = True
    while killed:
        point += 1
        before: dict[str, str] = {}
        if action == "first load":
            fd = os.open(root, os.O_RDONLY)
            remove_tree(fd, action)
            os.close(fd)
            store = ImageStore(f"{root}/{action}")
        else:
            load_images(store, displaced)
            if action == "remove":
                load_images(store, archive)
            before = check_store(store)
        killed = killed_at(point, lambda: act(store, action, archive))  # noqa: B023 - it is called at once
        after = check_store(store)
        act(store, action, archive)
        done = check_store(store)
        # Either nothing happened, or all of it.
        assert after in (before, done), (action, point, before, after, done)
        assert leftovers(store) == [], (action, point, leftovers(store))
    return point


def act(store: ImageStore, action: str, archive: str) -> None:
    if action == "remove":
        store.remove("victim:1")
        # Where the removal itself was finished, what remained of it is collected by the next change.
        store.collect()
    else:
        load_images(store, archive)


def churn(root: str, seed: int, rounds: int, archives: list[str]) -> None:
    store = ImageStore(root)
    choose = random.Random(seed)
    holder = f"holder-{seed}"
    for _ in range(rounds):
        images = load_images(store, choose.choice(archives))
        image = choose.choice(images)
        record = store.acquire(choose.choice(image.names), holder)
        if record is not None:
            if choose.random() < 0.5:
                store.remove(record.id)
            # Pinned: whole, whoever removes it.
            check_image(store, record)
            store.release(holder)
        if choose.random() < 0.3:
            store.remove(choose.choice(image.names))


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill_everywhere(*sys.argv[2:])
    else:
        churn(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
