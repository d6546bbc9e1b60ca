"""Images that a container mounts as volumes (KEP-4639): pinned like its own image, for as long as it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.errors import CRIError, NotFoundError
from podlite.runtime.image.rootfs import describe_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.cri.types import Mount
    from podlite.runtime.image.store import ImageStore


def acquire(store: ImageStore, container_id: str, mounts: Iterable[Mount]) -> dict[str, list[str]]:
    """Pins the images among the mounts; returns the layers of each, the top one first, by the mount's reference.

    Blocking. Raises NotFoundError for one that is not in the store, CRIError for one that is not made of layers alone.
    """
    found: dict[str, list[str]] = {}
    for holder, reference in holders(container_id, [each.image.image if each.image else "" for each in mounts]):
        image = store.acquire(reference, holder)
        if image is None:
            raise NotFoundError(f"image {reference}, which is to be mounted, is not in the store")
        rootfs = describe_rootfs(store, image)
        if rootfs.binds:
            raise CRIError(f"image {reference} has files that are this machine's own, and cannot be a volume")
        found[reference] = rootfs.lower
    return found


def holders(container_id: str, references: Iterable[str]) -> list[tuple[str, str]]:
    """(the name under which an image is pinned, the image) for each image, by the references of all mounts; those
    that are no image are empty. Pure."""
    every = dict.fromkeys(each for each in references if each)
    return [(f"{container_id}.{index}", reference) for index, reference in enumerate(every)]


def release(store: ImageStore, container_id: str, references: Iterable[str]) -> None:
    """Gives the images up, by the references of all mounts. Blocking; idempotent."""
    for holder, _ in holders(container_id, references):
        store.release(holder)
