"""Images that a container mounts as volumes (KEP-4639): pinned like its own image, for as long as it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.errors import CRIError, NotFoundError
from podlite.runtime.image.merged import MergedTree
from podlite.runtime.image.rootfs import describe_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.cri.types import Mount
    from podlite.runtime.image.store import ImageStore


def acquire(store: ImageStore, container_id: str, mounts: list[Mount]) -> dict[str, list[str]]:
    """Pins the images among the mounts, and notes in each mount which image it is (KEP-5365); returns the layers of
    each, the top one first, by the mount's reference.

    Blocking. Raises NotFoundError for one that is not in the store, CRIError for one that is not made of layers alone
    or lacks the path in it that is to be mounted.
    """
    found: dict[str, list[str]] = {}
    ids: dict[str, str] = {}
    for holder, reference in holders(container_id, [each.image.image if each.image else "" for each in mounts]):
        image = store.acquire(reference, holder)
        if image is None:
            raise NotFoundError(f"image {reference}, which is to be mounted, is not in the store")
        rootfs = describe_rootfs(store, image)
        if rootfs.binds:
            raise CRIError(f"image {reference} has files that are this machine's own, and cannot be a volume")
        found[reference] = rootfs.lower
        ids[reference] = image.id
    for mount in mounts:
        if mount.image is not None:
            mount.image.image_ref = ids[mount.image.image]
            _check_sub_path(mount, found[mount.image.image])
    return found


def _check_sub_path(mount: Mount, layers: list[str]) -> None:
    if not mount.image_sub_path:
        return
    with MergedTree(layers) as files:
        try:
            there = files.resolve("/" + mount.image_sub_path) is not None
        except OSError:
            there = False  # through a file, or links without end
    if not there:
        assert mount.image is not None
        raise CRIError(
            f"{mount.image_sub_path} of image {mount.image.user_specified_image or mount.image.image} cannot be "
            f"mounted on {mount.container_path}: there is no such file or directory"
        )


def image_refs(mounts: Iterable[Mount]) -> list[str]:
    """Which image each mount is, for the container's record; empty for those that are none. Pure."""
    return [each.image.image_ref if each.image is not None else "" for each in mounts]


def holders(container_id: str, references: Iterable[str]) -> list[tuple[str, str]]:
    """(the name under which an image is pinned, the image) for each image, by the references of all mounts; those
    that are no image are empty. Pure."""
    every = dict.fromkeys(each for each in references if each)
    return [(f"{container_id}.{index}", reference) for index, reference in enumerate(every)]


def release(store: ImageStore, container_id: str, references: Iterable[str]) -> None:
    """Gives the images up, by the references of all mounts. Blocking; idempotent."""
    for holder, _ in holders(container_id, references):
        store.release(holder)
