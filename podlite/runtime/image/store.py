"""The content-addressed store of images. How it lies on disk is in `podlite.runtime.image.layout`.

Everything here blocks; async callers use worker threads. Any number of processes may share a store: looking
an image up takes no lock, pinning takes the store's lock shared, changes take it exclusively and briefly.
The hot path, `acquire`, reads two small files and makes one symbolic link.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from podlite.cri.errors import ImageError, InvalidArgumentError
from podlite.linux.fs import FileLock, read_file
from podlite.runtime.image.failure import storing
from podlite.runtime.image.layout import DEFAULT_ROOT, Layout, boot_id
from podlite.runtime.image.record import ImageRecord, LayerRecord, StoreIndex
from podlite.runtime.image.reference import InvalidReferenceError, is_hex_id, is_id_prefix, normalise

if TYPE_CHECKING:
    from podlite.runtime.image.writer import StoreWriter

# The image that is made from this machine; see podlite.runtime.image.embedded.
EMBEDDED_NAME = "podlite.local/host:1"


class StoredImage(msgspec.Struct):
    """An image with its names, tags and digests, sorted, and when it was added (nanoseconds since the epoch)."""

    record: ImageRecord
    names: list[str]
    added_at: int


class Usage(msgspec.Struct):
    """What all layers together take: bytes and inodes of the disk."""

    bytes: int
    inodes: int


class ImageStore:
    """One store, at `root`. Making an object touches nothing; the store is made when something is first added.

    Methods raise ImageError: for a store that cannot be used, and with a sentence for what the machine refuses.
    """

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        self.layout = Layout(root)
        self._known = False

    # --- reading ---

    def lookup(self, reference: str) -> ImageRecord | None:
        """The image that a name, `name@digest`, id or unique prefix of an id stands for, or None.

        The embedded image is made, or made anew, if it is what was asked for. A text that can be no reference
        stands for nothing. Raises ImageError, also for a prefix that several ids have.
        """
        if reference == EMBEDDED_NAME:
            from podlite.runtime.image.embedded import ensure_embedded

            return ensure_embedded(self)
        return self.find(reference)

    def find(self, reference: str) -> ImageRecord | None:
        """As `lookup`, but makes nothing."""
        with storing(self.layout.root, f"looking up image {reference}"):
            return self._find(reference)

    def images(self) -> list[StoredImage]:
        """All images, the newest first."""
        with storing(self.layout.root, "listing images"):
            index = self._index()
            images = []
            for image, added_at in index.images.items():
                record = self._record(image)
                if record is not None:
                    images.append(StoredImage(record, index.names_of(image), added_at))
            images.sort(key=lambda image: -image.added_at)
            return images

    def names_of(self, image: ImageRecord) -> list[str]:
        """The image's names, tags and digests, sorted."""
        with storing(self.layout.root, "reading the index"):
            return self._index().names_of(image.hex)

    def read_blob(self, digest: str) -> bytes | None:
        """A blob that is kept, such as an image's configuration as it came, or None."""
        with storing(self.layout.root, f"reading blob {digest}"):
            try:
                return read_file(f"{self.layout.blobs}/{digest.removeprefix('sha256:')}")
            except FileNotFoundError:
                return None

    def usage(self) -> Usage:
        """What the layers take of the disk, as measured when they were unpacked."""
        usage = Usage(0, 0)
        with storing(self.layout.root, "measuring the layers"):
            for name in _names(self.layout.layers):
                layer = read_layer(self.layout, name)
                if layer is not None:
                    usage.bytes += layer.disk_bytes
                    usage.inodes += layer.entries
        return usage

    # --- pins ---

    def acquire(self, reference: str, holder: str) -> ImageRecord | None:
        """Looks an image up and pins it for `holder`, a container's id: its layers stay until `release(holder)`.

        Idempotent. A holder has one pin; a later one replaces it. Call it after the container's own record is
        written, so that whoever finds that record after a crash releases the pin; a pin without a container is
        found with `holders`. Pins end with a reboot. Returns None if there is no such image.
        """
        _check_holder(holder)
        if reference != EMBEDDED_NAME:
            return self._acquire(reference, holder)
        # Between the two steps another process may put a newer one in its place, or somebody remove it.
        for _ in range(8):
            image = self.lookup(EMBEDDED_NAME)
            record = None if image is None else self._acquire(image.id, holder)
            if record is not None:
                return record
        raise ImageError(f"image {reference} is being replaced all the time by somebody else")

    def _acquire(self, reference: str, holder: str) -> ImageRecord | None:
        if not self.layout.exists():
            return None
        with storing(self.layout.root, f"pinning image {reference}"), FileLock(self.layout.lock, shared=True):
            record = self._find(reference)
            if record is not None:
                self._pin(record.hex, holder)
            return record

    def release(self, holder: str) -> None:
        """Gives up the holder's pin. Idempotent. An image that was removed meanwhile is deleted now."""
        _check_holder(holder)
        with storing(self.layout.root, f"releasing the image of {holder}"):
            path = f"{self.layout.pins}/{holder}"
            try:
                image = os.readlink(path).rpartition("/")[2]
                os.unlink(path)
            except FileNotFoundError:
                return
            retired = image in self._index().retired
        if retired:
            self.collect()

    def holders(self) -> dict[str, str]:
        """Who has pinned which image: holder → image id, of this boot only."""
        from podlite.runtime.image.collect import read_pins

        with storing(self.layout.root, "reading the pins"):
            return {holder: f"sha256:{image}" for holder, image in read_pins(self.layout).items()}

    # --- changing ---

    def writer(self) -> StoreWriter:
        """A context manager through which images are added."""
        from podlite.runtime.image.writer import StoreWriter

        return StoreWriter(self.layout)

    def remove(self, reference: str) -> bool:
        """Removes the image that `reference` stands for, with all its names; False if there is none. Idempotent.

        Layers that no other image has are deleted, at once or, while containers have the image pinned, with
        the last of these. The whole image goes in one step: a crash leaves it as it was or removed.
        """
        from podlite.runtime.image.collect import empty_trash, read_pins, sweep, write_index

        if not self.layout.exists():
            return False
        with storing(self.layout.root, f"removing image {reference}"):
            with FileLock(self.layout.lock):
                index = self._index()
                image = self._resolve(index, reference)
                if image is None:
                    return False
                drop_image(index, image, pinned=image in read_pins(self.layout).values())
                write_index(self.layout, index)
                sweep(self.layout, index)
            empty_trash(self.layout)
        return True

    def collect(self) -> None:
        """Deletes what no image, pin or live writer needs: leftovers of killed processes, released images."""
        from podlite.runtime.image.collect import empty_trash, sweep

        if not self.layout.exists():
            return
        with storing(self.layout.root, "collecting garbage"):
            with FileLock(self.layout.lock):
                sweep(self.layout, self._index())
            empty_trash(self.layout)

    # --- inside ---

    def _index(self) -> StoreIndex:
        if not self._known:
            self._known = self.layout.exists()
        return read_index(self.layout)

    def _record(self, image: str) -> ImageRecord | None:
        return read_record(self.layout, image)

    def _find(self, reference: str) -> ImageRecord | None:
        while True:
            image = self._resolve(self._index(), reference)
            if image is None:
                return None
            record = self._record(image)
            if record is not None:
                return record
            if image in self._index().images:
                raise ImageError(
                    f"the image store {self.layout.root} is damaged: the record of image {image} is missing",
                    hint=f"remove the image with `podlite image rm {image[:12]}` and load it again",
                )
            # Removed between the two reads: look again.

    def _resolve(self, index: StoreIndex, reference: str) -> str | None:
        image = index.names.get(reference)
        if image is not None:
            return image
        bare = reference.removeprefix("sha256:")
        if is_hex_id(bare):
            return bare if bare in index.images else None
        try:
            image = index.names.get(normalise(reference))
        except InvalidReferenceError:
            pass
        if image is None and is_id_prefix(reference):
            matches = [id for id in index.images if id.startswith(bare)]
            if len(matches) > 1:
                raise ImageError(
                    f"{reference!r} is the beginning of the ids of {len(matches)} images", hint="give more of the id"
                )
            image = matches[0] if matches else None
        return image

    def _pin(self, image: str, holder: str) -> None:
        target = f"{boot_id()}/{image}"
        path = f"{self.layout.pins}/{holder}"
        try:
            os.symlink(target, path)
        except FileExistsError:
            if os.readlink(path) != target:
                scratch = f"{self.layout.pins}/.{os.urandom(8).hex()}"
                os.symlink(target, scratch)
                os.rename(scratch, path)


def drop_image(index: StoreIndex, image: str, *, pinned: bool) -> None:
    """Takes an image with its names out of the index; a pinned one is kept as retired."""
    for name in index.names_of(image):
        del index.names[name]
    index.images.pop(image, None)
    if pinned and image not in index.retired:
        index.retired.append(image)


def read_index(layout: Layout) -> StoreIndex:
    """The index; an empty one where there is no store. Raises ImageError if it is damaged."""
    try:
        raw = read_file(layout.index)
    except FileNotFoundError:
        return StoreIndex()
    try:
        return msgspec.json.decode(raw, type=StoreIndex)
    except msgspec.DecodeError as error:
        raise ImageError(f"the index of the image store, {layout.index}, is damaged: {error}") from error


def read_record(layout: Layout, image: str) -> ImageRecord | None:
    """The record of an image, or None. Raises ImageError if it is damaged."""
    path = f"{layout.images}/{image}.json"
    try:
        return msgspec.json.decode(read_file(path), type=ImageRecord)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ImageError(f"the record of an image, {path}, is damaged: {error}") from error


def read_layer(layout: Layout, name: str) -> LayerRecord | None:
    """The record of a layer, or None."""
    try:
        return msgspec.json.decode(read_file(f"{layout.layers}/{name}/layer.json"), type=LayerRecord)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _check_holder(holder: str) -> None:
    if not holder or "/" in holder or "\0" in holder or holder.startswith(".") or len(holder) > 200:
        raise InvalidArgumentError(f"{holder!r} cannot be the name of who holds an image")
