"""CRI's ImageService over the blocking store: every call runs on a worker thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from podlite import blocking
from podlite.cri.errors import DeadlineExceededError, ImageError
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

    `certs_dirs` are where hosts.toml is looked for, by default in /etc (podlite.runtime.image.registry.hosts).

    The embedded image is listed and found always. Methods raise ImageError.
    """

    def __init__(self, store: ImageStore, *, certs_dirs: tuple[str, ...] = ()) -> None:
        self.store = store
        self._certs_dirs = certs_dirs

    async def list_images(self, filter: ImageSpec | None = None) -> list[Image]:
        """All images, the newest first, or the one that `filter.image` stands for."""
        if filter is not None and filter.image:
            image = await self.image_status(filter)
            return [] if image is None else [image]
        return await blocking.run(self._list)

    async def image_status(self, image: ImageSpec, *, verbose: bool = False) -> Image | None:
        return await blocking.run(self._status, image.image, verbose)

    async def pull_image(
        self,
        image: ImageSpec,
        auth: AuthConfig | None = None,
        sandbox_config: PodSandboxConfig | None = None,
        *,
        timeout: float = 0,
    ) -> str:
        """Pulls from the image's registry, and returns the image's id; the embedded image is made where it is missing.

        After `timeout` seconds, if that is not 0, DeadlineExceededError. As with a cancellation, the image is then
        not there, and what has come of it is not fetched again next time. The message of an ImageError begins with
        RegistryUnavailable where no registry answered, for that is how a kubelet knows (k8s.io/cri-api/pkg/errors).
        """
        name = apply_default_tag(image.image)
        if name.startswith("podlite.local/"):
            return await blocking.run(self._make, name)
        with anyio.move_on_after(timeout or None) as deadline:
            return await self._pull(name, auth)
        assert deadline.cancelled_caught
        raise DeadlineExceededError(f"image {name} was not pulled within {timeout:g} s")

    async def remove_image(self, image: ImageSpec) -> None:
        await blocking.run(self.store.remove, image.image)

    async def image_fs_info(self) -> list[FilesystemUsage]:
        """What the images take, with the store's directory as mount point, as containerd reports it."""
        return await blocking.run(self._filesystem)

    def _list(self) -> list[Image]:
        self.store.lookup(EMBEDDED_NAME)
        return [cri_image(image.record, image.names) for image in self.store.images()]

    def _status(self, reference: str, verbose: bool) -> Image | None:
        record = self.store.lookup(reference)
        if record is None:
            return None
        image = cri_image(record, self.store.names_of(record))
        if verbose:
            from podlite.runtime.info import image_info

            image.info = image_info(record, self.store.read_blob(record.id))
        return image

    async def _pull(self, name: str, auth: AuthConfig | None) -> str:
        from podlite.runtime.image.registry.failure import REGISTRY_UNAVAILABLE
        from podlite.runtime.image.registry.hosts import CERTS_DIRS
        from podlite.runtime.image.registry.pull import pull

        try:
            return (await pull(self.store, name, auth, certs_dirs=self._certs_dirs or CERTS_DIRS)).id
        except ImageError as error:
            if error.reason == REGISTRY_UNAVAILABLE:
                message = f"{REGISTRY_UNAVAILABLE}: {error.message}"
                raise ImageError(message, reason=error.reason, hint=error.hint) from error
            raise

    def _make(self, name: str) -> str:
        if name != EMBEDDED_NAME:
            raise ImageError(f"there is no image {name}", hint=f"the only one of podlite.local is {EMBEDDED_NAME}")
        record = self.store.lookup(name)
        assert record is not None
        return record.id

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
