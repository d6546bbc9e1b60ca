"""What the store writes down: images, layers, the index that says what is there, and what a writer needs meanwhile."""

from __future__ import annotations

import msgspec

from podlite.runtime.image.config import ImageConfig


class ImageRecord(msgspec.Struct, omit_defaults=True):
    """One image, in `images/<id>.json`; it never changes but by gaining blobs.

    `id` is `sha256:` and the digest of the configuration. `layers` are the names of directories below
    `layers/`, lowest first, and never none. `binds` are (host path, container path) to be mounted read-only
    over them. `size` is that of the files in the layers, in bytes. `blobs` are what of the image is kept as it
    came, by digest. `fingerprint` says what an image was made from that podlite made itself.
    """

    id: str
    layers: list[str]
    config: ImageConfig
    size: int = 0
    blobs: list[str] = []
    binds: list[tuple[str, str]] = []
    fingerprint: str = ""

    @property
    def hex(self) -> str:
        """The id without its algorithm: what the store's own names are made of."""
        return self.id.removeprefix("sha256:")


class LayerRecord(msgspec.Struct, omit_defaults=True):
    """One layer, in `layers/<chain id>/layer.json`: the digest of its archive, what it holds, what it takes of the
    disk, and whether it hides all that lies below."""

    diff_id: str
    entries: int = 0
    bytes: int = 0
    disk_bytes: int = 0
    opaque: bool = False


class StoreIndex(msgspec.Struct, omit_defaults=True):
    """`index.json`, the one file that says what the store contains; whatever it does not lead to is garbage.

    `names` maps full names (`docker.io/library/busybox:1.36`, or with `@sha256:…`) to ids; `images` maps ids
    to when they were added, in nanoseconds since the epoch; `retired` are images that were removed while
    containers had them pinned. Ids are without `sha256:`.
    """

    names: dict[str, str] = {}
    images: dict[str, int] = {}
    retired: list[str] = []

    def names_of(self, image: str) -> list[str]:
        return sorted(name for name, id in self.names.items() if id == image)


class Lease(msgspec.Struct, omit_defaults=True):
    """`work/<writer>/lease.json`: what a live writer needs though no image refers to it yet."""

    layers: list[str] = []
    blobs: list[str] = []
