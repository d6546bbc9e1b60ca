"""How the image store lies on disk, and how a store of another version is told.

    <root>/                       /var/lib/podlite/images unless --state-dir says otherwise; mode 0700
      version                     the number of this layout, written when the store is made
      lock                        flock: shared to pin or to begin writing, exclusive to change what is below
      index.json                  names → image ids, the images, the removed ones that are still in use
      images/<id>.json            one image each: its layers, its configuration, its size
      blobs/sha256/<digest>       configurations and manifests, as they came
      layers/<chain id>/fs/       a layer unpacked, in overlayfs' form, shared read-only by all containers
      layers/<chain id>/layer.json
      pins/<holder>               symbolic link → <boot id>/<image id>: a container uses this image
      locks/<chain id>            flock: this layer is being unpacked; the others wait and then find it
      ingest/<digest>             blobs that have not arrived whole; a later download goes on with them
      work/<pid>-<random>/        one writer's own directory: its lock (held while it lives), its lease, what it unpacks
      trash/                      what is being deleted

A layer's name is its chain ID (OCI image-spec, config.md), not its diffID: an archive that leaves out a
parent directory means the one that the layers below have, so the same archive is another tree on another base.

Everything changes by one rename. `index.json` is the only truth: images, layers and blobs are complete and
on disk before it names them, and are deleted after it has ceased to. A killed writer therefore leaves the
old state or the new one, and garbage, which the next writer collects (podlite.runtime.image.collect). What
it was working in is known to be garbage because nobody holds its lock. Pins need no fsync: like containers
they mean nothing after a reboot, and carry the boot id to show it.

A store whose `version` is larger was made by a newer podlite, and is refused. A smaller one would be
converted here; there has been none yet.
"""

from __future__ import annotations

import os

from podlite.cri.errors import ImageError
from podlite.linux.fs import FileLock, read_file, replace_file, sync_directory

DEFAULT_ROOT = "/var/lib/podlite/images"
VERSION = 1

_DIRECTORIES = ("images", "blobs", "blobs/sha256", "layers", "pins", "locks", "ingest", "work", "trash")


class Layout:
    """The paths of one store. Making an object touches nothing."""

    __slots__ = (
        "blobs",
        "images",
        "index",
        "index_scratch",
        "ingest",
        "layers",
        "lock",
        "locks",
        "pins",
        "record_scratch",
        "root",
        "trash",
        "version",
        "work",
    )

    def __init__(self, root: str) -> None:
        self.root = root = os.path.abspath(root)
        self.version = f"{root}/version"
        self.lock = f"{root}/lock"
        self.index = f"{root}/index.json"
        self.index_scratch = f"{root}/index.new"
        self.record_scratch = f"{root}/record.new"
        self.images = f"{root}/images"
        self.blobs = f"{root}/blobs/sha256"
        self.layers = f"{root}/layers"
        self.pins = f"{root}/pins"
        self.locks = f"{root}/locks"
        self.ingest = f"{root}/ingest"
        self.work = f"{root}/work"
        self.trash = f"{root}/trash"

    def layer(self, name: str) -> str:
        """The directory that overlayfs is given for a layer."""
        return f"{self.layers}/{name}/fs"

    def exists(self) -> bool:
        """Whether there is a store, of this version. Raises ImageError for one of a newer version."""
        try:
            text = read_file(self.version, limit=64)
        except FileNotFoundError:
            return False
        if text.strip() != str(VERSION).encode():
            raise ImageError(
                f"the image store {self.root} has the format {text.decode(errors='replace').strip()!r}, and this "
                f"podlite knows format {VERSION}: a newer podlite made it",
                hint="use that podlite, or another --state-dir",
            )
        return True

    def create(self) -> None:
        """Makes the store where there is none. Idempotent, and safe to do twice at once. Raises ImageError, OSError."""
        if self.exists():
            return
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for name in _DIRECTORIES:
            try:
                os.mkdir(f"{self.root}/{name}", 0o700)
            except FileExistsError:
                pass
        with FileLock(self.lock):
            # The version comes last: where it is, everything else is.
            replace_file(self.version, f"{VERSION}\n".encode(), scratch=f"{self.version}.new")
        sync_directory(os.path.dirname(self.root))


_boot_id = ""


def boot_id() -> str:
    """The kernel's name for the time since it started."""
    global _boot_id
    if not _boot_id:
        _boot_id = read_file("/proc/sys/kernel/random/boot_id", limit=64).decode().strip()
    return _boot_id
