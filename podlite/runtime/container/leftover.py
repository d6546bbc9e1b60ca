"""What an ended container has left on disk, for a look inside: its root file system, read-only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from podlite.cri.errors import CRIError, NotFoundError
from podlite.errors import explain
from podlite.linux import mounts
from podlite.linux.syscalls import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.journal import load

if TYPE_CHECKING:
    from podlite.runtime.image.store import ImageStore

Entry = dict[str, Any]


def record_containers(directory: str) -> list[Entry]:
    """The containers of a sandbox by its record, oldest first: each with `image_id` and `user` where it got so far.

    Blocking. Empty without a record of this boot. Raises OSError, and ValueError for what is no record.
    """
    found: dict[str, Entry] = {}
    try:
        entries = load(f"{directory}/{RECORD}")
    except FileNotFoundError:
        return []
    for entry in entries:
        if "container" in entry:
            found[entry["container"]] = entry
        elif "image" in entry and entry["image"] in found:
            found[entry["image"]] |= {key: value for key, value in entry.items() if key != "image"}
        elif "removed" in entry:
            found.pop(entry["removed"], None)
    return list(found.values())


def enter_root(store: ImageStore, container: Entry) -> None:
    """Makes an ended container's file system the root of the calling process, and / its working directory.

    For a process with one thread, in a mount namespace of its own in which nothing is shared. What the container had
    mounted is not there, but /proc and /dev are the host's. Blocking. Raises NotFoundError, CRIError.
    """
    image = store.find(container.get("image_id", ""))
    if image is None:
        raise NotFoundError(f"the image of container {container['container'][:12]} is not there any more")
    lower = [f"{container['writable']}/upper", *(store.layout.layer(layer) for layer in reversed(image.layers))]
    try:
        root = mounts.new_overlay(lower, attributes=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)
        # Over a directory that is nobody else's, in this mount namespace only.
        _attach(root, os.open(f"{container['writable']}/work", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        os.fchdir(root)
        for source, path in [*image.binds, ("/proc", "/proc"), ("/dev", "/dev")]:
            try:
                target = os.open(f".{path}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # an image without the directory, or it was removed
            _attach(mounts.clone(source, recursive=True), target)
        os.chroot(".")
    except OSError as error:
        name = container["container"][:12]
        raise CRIError(f"the root file system of container {name} cannot be mounted: {explain(error)}") from error


def _attach(mount: int, target: int) -> None:
    try:
        mounts.attach(mount, target)
    finally:
        os.close(target)
