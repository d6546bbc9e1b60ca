"""CRI's ImageService over the blocking store: every call runs on a worker thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from anyio import to_thread

from podlite.cri.errors import ImageError
from podlite.cri.types import FilesystemUsage, Image, ImageSpec
from podlite.runtime.image.config import image_user
from podlite.runtime.image.reference import apply_default_tag
from podlite.runtime.image.store import EMBEDDED_NAME

if TYPE_CHECKING:
    from podlite.cri.types import AuthConfig, PodSandboxConfig
    from podlite.runtime.image.record import ImageRecord
    from podlite.runtime.image.store import ImageStore


class StoreImageService:
    """Implements `podlite.cri.services.ImageService`. A cancelled call ends when its thread has finished.

    The embedded image is listed and found always. Methods raise ImageError.
    """

    def __init__(self, store: ImageStore) -> None:
        self.store = store

    async def list_images(self, filter: ImageSpec | None = None) -> list[Image]:
        """All images, the newest first, or the one that `filter.image` stands for."""
        if filter is not None and filter.image:
            image = await self.image_status(filter)
            return [] if image is None else [image]
        return await to_thread.run_sync(self._list)

    async def image_status(self, image: ImageSpec) -> Image | None:
        return await to_thread.run_sync(self._status, image.image)

    async def pull_image(
        self, image: ImageSpec, auth: AuthConfig | None = None, sandbox_config: PodSandboxConfig | None = None
    ) -> str:
        """The id of the embedded image; every other name is an error with reason ErrImagePull that says what to do."""
        return await to_thread.run_sync(self._pull, image.image)

    async def remove_image(self, image: ImageSpec) -> None:
        await to_thread.run_sync(self.store.remove, image.image)

    async def image_fs_info(self) -> list[FilesystemUsage]:
        """What the images take, with the store's directory as mount point, as containerd reports it."""
        return await to_thread.run_sync(self._filesystem)

    def _list(self) -> list[Image]:
        self.store.lookup(EMBEDDED_NAME)
        return [cri_image(image.record, image.names) for image in self.store.images()]

    def _status(self, reference: str) -> Image | None:
        record = self.store.lookup(reference)
        return None if record is None else cri_image(record, self.store.names_of(record))

    def _pull(self, reference: str) -> str:
        name = apply_default_tag(reference)
        if name.startswith("podlite.local/"):
            if name != EMBEDDED_NAME:
                raise ImageError(f"there is no image {name}", hint=f"the only one of podlite.local is {EMBEDDED_NAME}")
            record = self.store.lookup(name)
            assert record is not None
            return record.id
        raise ImageError(
            f"image {name} is not on this machine, and this podlite does not pull from registries",
            hint="save it elsewhere (`docker save`, `skopeo copy … oci-archive:FILE`) and load it here with "
            "`podlite image load FILE`",
        )

    def _filesystem(self) -> list[FilesystemUsage]:
        usage = self.store.usage()
        return [
            FilesystemUsage(
                timestamp=time.time_ns(),
                mountpoint=self.store.layout.root,
                used_bytes=usage.bytes,
                inodes_used=usage.inodes,
            )
        ]


def cri_image(record: ImageRecord, names: list[str]) -> Image:
    """An image in CRI's terms. Only the embedded one is pinned, against garbage collection by a kubelet."""
    uid, username = image_user(record.config.user)
    return Image(
        id=record.id,
        repo_tags=[name for name in names if "@" not in name],
        repo_digests=[name for name in names if "@" in name],
        size=record.size,
        uid=uid,
        username=username,
        spec=ImageSpec(image=record.id),
        pinned=bool(record.fingerprint),
    )
