"""From a name to one image: its manifest, chosen from an index for a platform, and its configuration.

Sources: OCI image-spec manifest.md and image-index.md, Docker's manifest schema 2; that a document may not be
both is because of CVE-2021-41190.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from podlite.cri.errors import ImageError
from podlite.runtime.image.config import parse_image_config
from podlite.runtime.image.limits import MAX_JSON
from podlite.runtime.image.manifest import (
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Index,
    Manifest,
    checked_digest,
    decode,
    in_order,
    is_image,
    platform_of,
)
from podlite.runtime.image.plan import ImagePlan, LayerSource, config_platform, describe
from podlite.runtime.image.platform import rank

if TYPE_CHECKING:
    from podlite.runtime.image.platform import Platform
    from podlite.runtime.image.reference import ImageReference
    from podlite.runtime.image.registry.client import RawManifest, RegistryClient

_DEPTH_MAX = 8
# Entries of an index that do not state their platform are looked at one by one.
_TRIES_MAX = 16


class ResolvedImage(NamedTuple):
    """`digest` is that of what the name stands for, an index or a manifest; `layers` are the archives, lowest first."""

    digest: str
    layers: list[Descriptor]
    plan: ImagePlan


class _Kind(msgspec.Struct, rename="camel"):
    """Enough of a document to tell which kind it is."""

    # Raw: of a hostile document nothing is made here but what it is.
    schema_version: int = 0
    media_type: str = ""
    manifests: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()


async def resolve(
    client: RegistryClient, image: ImageReference, wanted: str, names: list[str], supported: list[Platform]
) -> ResolvedImage:
    """The image that the tag or digest `wanted` stands for, for the best of the `supported` platforms.

    `names` are those that it is to have besides its digest. Raises ImageError.
    """
    top = await client.manifest(wanted)
    finder = _Finder(client, image, supported)
    found = await finder.choose(top, "", 0)
    if found is None:
        has = f"; it has {describe(sorted(finder.seen))}" if finder.seen else ""
        raise ImageError(f"image {image} is not there for {describe(supported)}{has}")
    layers, plan = found
    plan.names.extend((*names, f"{image.repository}@{top.digest}"))
    return ResolvedImage(top.digest, layers, plan)


class _Finder:
    """Follows an index to the first image that runs here, the best platform first."""

    def __init__(self, client: RegistryClient, image: ImageReference, supported: list[Platform]) -> None:
        self._client = client
        self._image = image
        self._supported = supported
        self._tries = 0
        self.seen: set[Platform] = set()

    async def choose(
        self, document: RawManifest, stated_type: str, depth: int, stated: Platform | None = None
    ) -> tuple[list[Descriptor], ImagePlan] | None:
        what = f"manifest {document.digest} of image {self._image}"
        if is_index(document, stated_type, what):
            if depth > _DEPTH_MAX:
                raise ImageError(f"image {self._image} has indexes within indexes, more than {_DEPTH_MAX} deep")
            return await self._choose_from(decode(document.raw, Index, what), document, depth)
        return await self._image_of(decode(document.raw, Manifest, what), document, stated)

    async def _choose_from(
        self, index: Index, document: RawManifest, depth: int
    ) -> tuple[list[Descriptor], ImagePlan] | None:
        for descriptor in index.manifests:
            platform = platform_of(descriptor) if is_image(descriptor) else None
            if platform is not None:
                self.seen.add(platform)
        for descriptor in in_order(index.manifests, self._supported):
            self._tries += 1
            if self._tries > _TRIES_MAX:
                break
            digest = checked_digest(descriptor.digest, f"the index of image {self._image}")
            manifest = await self._client.manifest(digest, size=descriptor.size)
            found = await self.choose(manifest, descriptor.media_type, depth + 1, platform_of(descriptor))
            if found is not None:
                found[1].blobs[document.digest] = document.raw
                return found
        return None

    async def _image_of(
        self, manifest: Manifest, document: RawManifest, stated: Platform | None
    ) -> tuple[list[Descriptor], ImagePlan] | None:
        what = f"image {self._image}"
        if manifest.artifact_type or manifest.config.media_type not in CONFIG_TYPES:
            kind = manifest.artifact_type or manifest.config.media_type
            raise ImageError(f"{what} is no image of a container: its registry says that it is {kind!r}")
        digest = checked_digest(manifest.config.digest, what)
        raw = await self._client.small_blob(digest, manifest.config.size, MAX_JSON)
        config, diff_ids = parse_image_config(raw, f"the configuration of {what}")
        platform = stated or config_platform(config)
        if platform is not None:
            self.seen.add(platform)
            if rank(platform, self._supported) is None:
                return None
        if len(diff_ids) != len(manifest.layers):
            raise ImageError(f"{what} has {len(manifest.layers)} layers, and its configuration {len(diff_ids)}")
        for layer in manifest.layers:
            checked_digest(layer.digest, what)
            if layer.size < 0:
                raise ImageError(f"{what} has a layer of {layer.size} bytes")
            if layer.media_type.endswith("+encrypted"):
                raise ImageError(f"{what} has encrypted layers, which podlite cannot decrypt")
        layers = [
            LayerSource(layer.digest, diff_id, layer.digest)
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)
        ]
        return manifest.layers, ImagePlan(
            digest, config, layers, [], {digest: raw, document.digest: document.raw}, what
        )


def is_index(document: RawManifest, stated_type: str, what: str) -> bool:
    """Whether a document is an index and not a manifest. Pure. Raises ImageError if it is neither, or might be both.

    `stated_type` is what an index says of it, empty where nothing does.
    """
    kind = decode(document.raw, _Kind, what)
    if _is_there(kind.fs_layers) or kind.schema_version == 1:
        raise ImageError(
            f"{what} is of Docker's schema 1, which nothing pushes since 2017 and podlite does not read",
            hint="push the image again with a newer tool",
        )
    index = _is_there(kind.manifests)
    if index == (_is_there(kind.layers) or _is_there(kind.config)):
        raise ImageError(f"{what} is no image: it is {'both an index and a manifest' if index else 'something else'}")
    for stated in (kind.media_type, stated_type, document.media_type):
        if stated in (MANIFEST_TYPES if index else INDEX_TYPES):
            raise ImageError(f"{what} is said to be {stated}, and is {'an index' if index else 'a manifest'}")
    return index


def _is_there(value: msgspec.Raw) -> bool:
    return bytes(value) not in (b"", b"null")
