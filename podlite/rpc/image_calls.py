"""runtime.v1.ImageService on the wire; see `podlite.rpc.runtime_calls`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from podlite.cri import types as cri
from podlite.cri.errors import InvalidArgumentError
from podlite.rpc.runtime_calls import PAGE
from podlite.rpc.translate import from_wire, to_dict
from podlite.rpc.wire import runtime_pb2 as wire

if TYPE_CHECKING:
    from podlite.cri.services import ImageService


class ImageCalls:
    """The calls, in front of one image service."""

    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def list_images(self, request: Any) -> Any:
        found = await self._images.list_images(from_wire(cri.ImageSpec, request.filter.image))
        return wire.ListImagesResponse(images=[to_dict(each) for each in found])

    async def stream_images(self, request: Any) -> AsyncIterator[Any]:
        found = await self._images.list_images(from_wire(cri.ImageSpec, request.filter.image))
        for start in range(0, max(1, len(found)), PAGE):
            yield wire.StreamImagesResponse(images=[to_dict(each) for each in found[start : start + PAGE]])

    async def image_status(self, request: Any) -> Any:
        found = await self._images.image_status(_spec(request), verbose=request.verbose)
        if found is None:
            return wire.ImageStatusResponse()
        return wire.ImageStatusResponse(image=to_dict(found), info=found.info)

    async def pull_image(self, request: Any) -> Any:
        auth = from_wire(cri.AuthConfig, request.auth) if request.HasField("auth") else None
        sandbox = None
        if request.HasField("sandbox_config") and request.sandbox_config.HasField("metadata"):
            sandbox = from_wire(cri.PodSandboxConfig, request.sandbox_config)
        return wire.PullImageResponse(image_ref=await self._images.pull_image(_spec(request), auth, sandbox))

    async def remove_image(self, request: Any) -> Any:
        await self._images.remove_image(_spec(request))
        return wire.RemoveImageResponse()

    async def image_fs_info(self, request: Any) -> Any:
        found = [to_dict(each) for each in await self._images.image_fs_info()]
        # The containers' writable layers are on the same file system, beside the images.
        return wire.ImageFsInfoResponse(image_filesystems=found, container_filesystems=found)


def _spec(request: Any) -> cri.ImageSpec:
    if not request.image.image:
        raise InvalidArgumentError("the request names no image")
    return from_wire(cri.ImageSpec, request.image)
