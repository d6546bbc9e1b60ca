"""How images get into the store: a writer with a directory of its own, a lease, and one commit.

    with store.writer() as writer:
        writer.protect(layers, blobs)      # what is made from here on is not garbage while we live
        writer.add_blob(raw)               # ┐ in any order, as often as needed,
        writer.add_layer(name, fill)       # ┘ and found done if another writer was faster
        writer.commit([(record, names)])   # the only step that anybody sees

Leaving the context removes the directory; a killed writer's is collected by the next (podlite.runtime.image.collect).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from podlite.cri.errors import ImageError
from podlite.linux.fs import FileLock, lock_file, remove_tree, replace_file, sync_directory, write_all
from podlite.linux.syscalls import syncfs
from podlite.runtime.image.collect import empty_trash, read_pins, sweep, write_index
from podlite.runtime.image.failure import storing
from podlite.runtime.image.record import ImageRecord, LayerRecord, Lease
from podlite.runtime.image.store import drop_image, read_index, read_layer, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podlite.runtime.image.ingest import PartialBlob
    from podlite.runtime.image.layout import Layout


class StoreWriter:
    """Adds images to a store. Not for several threads at once; several writers are. Methods raise ImageError."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lease = Lease()
        self._made = 0
        self.directory = ""

    def __enter__(self) -> StoreWriter:
        layout = self._layout
        with storing(layout.root, "preparing to add an image"):
            layout.create()
            self.directory = f"{layout.work}/{os.getpid()}-{os.urandom(4).hex()}"
            # Under the shared lock nobody can take the new directory for a dead writer's.
            with FileLock(layout.lock, shared=True):
                os.mkdir(self.directory, 0o700)
                self._lock = lock_file(f"{self.directory}/lock")
        return self

    def __exit__(self, *error: object) -> None:
        work, name = os.path.split(self.directory)
        fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(fd, name)
        finally:
            os.close(fd)
            if self._lock is not None:
                os.close(self._lock)

    def scratch(self, name: str) -> str:
        """A path in the writer's own directory, unique to this call."""
        self._made += 1
        return f"{self.directory}/{self._made}-{name}"

    def protect(self, layers: Iterable[str] = (), blobs: Iterable[str] = ()) -> None:
        """Says what the writer is going to make or rely on; from now on it is not collected while the writer lives.

        Layers are named by chain id, without algorithm; blobs by digest.
        """
        with storing(self._layout.root, "preparing to add an image"), FileLock(self._layout.lock, shared=True):
            self._lease.layers.extend(layers)
            self._lease.blobs.extend(blobs)
            self._write_lease()

    def add_blob(self, raw: bytes, digest: str) -> None:
        """Keeps a small blob whose digest the caller has verified; it must be protected. Durable with the commit."""
        path = f"{self._layout.blobs}/{digest.removeprefix('sha256:')}"
        with storing(self._layout.root, f"storing blob {digest}"):
            if os.path.exists(path):
                return
            scratch = self.scratch("blob")
            fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, raw)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(scratch, path)

    def ingest(self, digest: str, size: int) -> PartialBlob:
        """A context manager for a blob that arrives piece by piece, and may go on where an earlier try ended."""
        from podlite.runtime.image.ingest import PartialBlob

        return PartialBlob(self._layout, digest, size)

    def layer(self, name: str) -> LayerRecord | None:
        """The record of a layer that is there already; it must be protected, or it may go at any moment."""
        return read_layer(self._layout, name)

    def add_layer(self, name: str, fill: Callable[[str], LayerRecord], *, durable: bool = True) -> LayerRecord:
        """Makes the layer `name` (a chain id without algorithm) unless it is there; it must be protected.

        `fill(directory)` puts the tree into an empty directory of mode 0755 and returns its record; what it
        raises comes out here, and nothing of the layer is left. Of several writers that want the same layer
        one makes it, and the others wait. `durable` says whether it must survive a power failure.
        """
        layout = self._layout
        with storing(layout.root, f"unpacking layer {name}"):
            found = self.layer(name)
            if found is not None:
                return found
            lock = f"{layout.locks}/{name}"
            with FileLock(lock):
                try:
                    return self.layer(name) or self._make_layer(name, fill, durable)
                finally:
                    os.unlink(lock)

    def _make_layer(self, name: str, fill: Callable[[str], LayerRecord], durable: bool) -> LayerRecord:
        layout = self._layout
        scratch = self.scratch(name)
        os.mkdir(scratch, 0o700)
        os.mkdir(f"{scratch}/fs")
        # mkdir's mode is subject to the umask.
        os.chmod(f"{scratch}/fs", 0o755)
        record = fill(f"{scratch}/fs")
        raw = msgspec.json.encode(record)
        replace_file(f"{scratch}/layer.json", raw, scratch=f"{scratch}/layer.new", durable=False)
        if durable:
            # One pass over the filesystem instead of an fsync for each of thousands of files.
            fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)
        os.rename(scratch, f"{layout.layers}/{name}")
        if durable:
            sync_directory(layout.layers)
        return record

    def commit(self, images: Sequence[tuple[ImageRecord, Iterable[str]]]) -> None:
        """Adds images under their names, all of them in one step.

        A name that another image had goes over to the new one; an image that loses its last tag that way is
        removed, digests notwithstanding. An image that is there already gains the names. Layers and blobs
        must have been added. What else the writer protected is protected no more.
        """
        layout = self._layout
        with storing(layout.root, "adding the image to the index"):
            sync_directory(layout.blobs)
            with FileLock(layout.lock):
                for record, _ in images:
                    self._write_record(record)
                index = read_index(layout)
                displaced = set()
                for record, names in images:
                    index.images[record.hex] = time.time_ns()
                    for name in names:
                        before = index.names.get(name)
                        if before is not None and "@" not in name:
                            displaced.add(before)
                        index.names[name] = record.hex
                pinned = set(read_pins(layout).values())
                tagged = {image for name, image in index.names.items() if "@" not in name}
                for image in displaced - tagged:
                    drop_image(index, image, pinned=image in pinned)
                write_index(layout, index)
                # What the images do not refer to, such as the archives of their layers, has served its purpose.
                self._lease = Lease()
                self._write_lease()
                sweep(layout, index)
            empty_trash(layout)

    def _write_lease(self) -> None:
        raw = msgspec.json.encode(self._lease)
        replace_file(f"{self.directory}/lease.json", raw, scratch=f"{self.directory}/lease.new", durable=False)

    def _write_record(self, record: ImageRecord) -> None:
        layout = self._layout
        known = read_record(layout, record.hex)
        if known is not None:
            # The manifests that it came with before are its own too.
            record.blobs = sorted({*record.blobs, *known.blobs})
        for layer in record.layers:
            if not os.path.exists(f"{layout.layers}/{layer}/layer.json"):
                raise ImageError(f"layer {layer} of image {record.id} is missing in {layout.root}")
        if record != known:
            path = f"{layout.images}/{record.hex}.json"
            replace_file(path, msgspec.json.encode(record), scratch=layout.record_scratch)
