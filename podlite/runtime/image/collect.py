"""What the store can do without, found and deleted.

`sweep` runs under the store's exclusive lock. Pinning and the beginning of writing take that lock shared, so
it sees every pin and every lease; directories are only moved to `trash/` meanwhile, and deleted after.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from podlite import log
from podlite.cri.errors import ImageError
from podlite.linux.fs import lock_file, read_file, remove_tree, replace_file
from podlite.runtime.image.layout import boot_id
from podlite.runtime.image.record import Lease, StoreIndex
from podlite.runtime.image.store import read_record

if TYPE_CHECKING:
    from podlite.runtime.image.layout import Layout

# How long a download that nobody goes on with is kept.
_PARTIAL_SECONDS = 7 * 24 * 3600


def read_pins(layout: Layout) -> dict[str, str]:
    """holder → image, without those of an earlier boot, which mean nothing. Image ids are without `sha256:`."""
    pins = {}
    try:
        holders = os.listdir(layout.pins)
    except FileNotFoundError:
        return {}
    for holder in holders:
        try:
            boot, _, image = os.readlink(f"{layout.pins}/{holder}").rpartition("/")
        except FileNotFoundError:
            continue
        if boot == boot_id() and not holder.startswith("."):
            pins[holder] = image
    return pins


def write_index(layout: Layout, index: StoreIndex) -> None:
    """Makes `index` the store's, durably. The caller holds the exclusive lock."""
    replace_file(layout.index, msgspec.json.encode(index), scratch=layout.index_scratch)


def sweep(layout: Layout, index: StoreIndex) -> None:
    """Moves out of the way what nothing needs, and forgets retired images that nobody pins any more.

    The caller holds the exclusive lock, and calls `empty_trash` after releasing it. Raises OSError.
    """
    pins = read_pins(layout)
    for holder in os.listdir(layout.pins):
        if holder not in pins:
            _unlink(f"{layout.pins}/{holder}")
    pinned = set(pins.values())
    retired = [image for image in index.retired if image in pinned and image not in index.images]
    if retired != index.retired:
        index.retired = retired
        write_index(layout, index)

    images = {*index.images, *retired}
    leases = _live_leases(layout)
    for name in os.listdir(layout.images):
        if name.removesuffix(".json") not in images:
            os.unlink(f"{layout.images}/{name}")
    for name in os.listdir(layout.locks):
        _unlink_if_free(f"{layout.locks}/{name}")
    for name in os.listdir(layout.ingest):
        if _age(f"{layout.ingest}/{name}") > _PARTIAL_SECONDS:
            _unlink_if_free(f"{layout.ingest}/{name}")

    needed = _needed(layout, images, leases)
    if needed is None:
        return
    layers, blobs = needed
    for name in os.listdir(layout.layers):
        if name not in layers:
            _discard(layout, f"{layout.layers}/{name}")
    for name in os.listdir(layout.blobs):
        if name not in blobs:
            os.unlink(f"{layout.blobs}/{name}")


def empty_trash(layout: Layout) -> None:
    """Deletes what was discarded; several processes may do so at once. What cannot be deleted stays for the next."""
    trash = os.open(layout.trash, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(trash):
            try:
                remove_tree(trash, name)
            except OSError as error:
                log.warning("a discarded layer cannot be deleted", path=f"{layout.trash}/{name}", error=str(error))
    finally:
        os.close(trash)


def _needed(layout: Layout, images: set[str], leases: list[Lease]) -> tuple[set[str], set[str]] | None:
    """The names of the layers and blobs that must stay; None if that cannot be known."""
    layers = {layer for lease in leases for layer in lease.layers}
    blobs = {blob.removeprefix("sha256:") for lease in leases for blob in lease.blobs}
    for image in images:
        try:
            record = read_record(layout, image)
        except ImageError as error:
            log.warning("no layers are collected, for an image's record cannot be read", error=str(error))
            return None
        if record is not None:
            layers.update(record.layers)
            blobs.update(blob.removeprefix("sha256:") for blob in record.blobs)
    return layers, blobs


def _live_leases(layout: Layout) -> list[Lease]:
    """The leases of the writers that live; the directories of the others are discarded."""
    leases = []
    for name in os.listdir(layout.work):
        directory = f"{layout.work}/{name}"
        try:
            fd = lock_file(f"{directory}/lock", wait=False)
            if fd is not None:
                os.close(fd)
                _discard(layout, directory)
                continue
        except FileNotFoundError:
            continue  # its writer removes it, which takes a while: the lock goes first, and may be made anew here
        try:
            leases.append(msgspec.json.decode(read_file(f"{directory}/lease.json"), type=Lease))
        except FileNotFoundError:
            pass  # it has not asked for anything yet
    return leases


def _discard(layout: Layout, path: str) -> None:
    os.rename(path, f"{layout.trash}/{os.path.basename(path)}.{os.urandom(8).hex()}")


def _unlink_if_free(path: str) -> None:
    fd = lock_file(path, wait=False)
    if fd is not None:
        _unlink(path)
        os.close(fd)


def _unlink(path: str) -> None:
    # Pins are released, and downloads finished, without the store's lock.
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return 0
