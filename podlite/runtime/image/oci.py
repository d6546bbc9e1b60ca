"""Finds the images in an OCI layout (OCI image-spec, image-layout.md), on disk or in an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from podlite.cri.errors import ImageError
from podlite.runtime.image.config import parse_image_config
from podlite.runtime.image.limits import MAX_JSON
from podlite.runtime.image.manifest import (
    CONFIG_TYPES,
    INDEX_TYPES,
    Descriptor,
    Index,
    Manifest,
    checked_digest,
    decode,
    in_order,
    is_image,
    names_of,
    platform_of,
)
from podlite.runtime.image.plan import ImagePlan, LayerSource, config_platform, describe, sha256
from podlite.runtime.image.platform import machine_platforms, rank

if TYPE_CHECKING:
    from podlite.runtime.image.archive import Files
    from podlite.runtime.image.platform import Platform

_DEPTH_MAX = 8
_LAYOUT_VERSION = "1.0.0"


class _LayoutFile(msgspec.Struct, rename="camel"):
    image_layout_version: str = ""


class _Choice(NamedTuple):
    """An image for this machine, and its place in the order of what the machine runs."""

    rank: int
    plan: ImagePlan


def find_oci_images(files: Files, base: str) -> list[ImagePlan]:
    """The images that `index.json` lists, each for this machine's platform.

    `base` is the repository of images that are named by a bare tag. Entries of one name, or of none, that
    differ only in platform are one image. Raises ImageError.
    """
    layout = decode(files.read("oci-layout", limit=MAX_JSON), _LayoutFile, f"oci-layout in {files.source}")
    if layout.image_layout_version != _LAYOUT_VERSION:
        raise ImageError(f"{files.source} is an OCI layout of the unknown version {layout.image_layout_version!r}")
    index = decode(files.read("index.json", limit=MAX_JSON), Index, f"index.json in {files.source}")
    what = f"index.json in {files.source}"
    finder = _Finder(files)
    groups: dict[str, list[Descriptor]] = {}
    for descriptor in index.manifests:
        if is_image(descriptor):
            names = names_of(descriptor, base, what)
            groups.setdefault(next((name for name in names if "@" not in name), ""), []).append(descriptor)
    plans: dict[str, ImagePlan] = {}
    for tag, group in groups.items():
        for choice, descriptor in finder.choose_all(group)[: 1 if tag else None]:
            plan = plans.setdefault(choice.plan.id, choice.plan)
            plan.names.extend(name for name in names_of(descriptor, base, what) if name not in plan.names)
    if not plans and finder.seen:
        raise ImageError(
            f"{files.source} has no image for this machine, which runs {describe(finder.supported)}; it has "
            f"{describe(sorted(finder.seen))}"
        )
    return list(plans.values())


class _Finder:
    """Follows descriptors to what runs here. Each blob is looked at once, however often it is referred to."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[str, _Choice | None] = {}
        self.supported = machine_platforms()
        self.seen: set[Platform] = set()

    def choose(self, descriptor: Descriptor, depth: int = 0) -> _Choice | None:
        """The best image that a descriptor leads to, or None if none of them runs here."""
        if depth > _DEPTH_MAX:
            raise ImageError(f"{self._files.source} has indexes within indexes, more than {_DEPTH_MAX} deep")
        if descriptor.digest not in self._known:
            self._known[descriptor.digest] = self._choose(descriptor, depth)
        return self._known[descriptor.digest]

    def choose_all(self, descriptors: list[Descriptor], depth: int = 0) -> list[tuple[_Choice, Descriptor]]:
        """Of entries that stand beside one another, those that run here best, in their order.

        Where platforms are stated only the best is looked at: an archive for one platform lacks the others.
        """
        for descriptor in descriptors:
            platform = platform_of(descriptor) if is_image(descriptor) else None
            if platform is not None:
                self.seen.add(platform)
        ordered = in_order(descriptors, self.supported)
        best = platform_of(ordered[0]) if ordered else None
        found = []
        for descriptor in ordered:
            if platform_of(descriptor) in (best, None):
                choice = self.choose(descriptor, depth)
                if choice is not None:
                    found.append((choice, descriptor))
        place = min((choice.rank for choice, _ in found), default=0)
        return [(choice, descriptor) for choice, descriptor in found if choice.rank == place]

    def _choose(self, descriptor: Descriptor, depth: int) -> _Choice | None:
        stated = platform_of(descriptor)
        if stated is not None:
            self.seen.add(stated)
            if rank(stated, self.supported) is None:
                return None
        raw = self._blob(descriptor)
        what = f"blob {descriptor.digest} in {self._files.source}"
        if descriptor.media_type in INDEX_TYPES:
            chosen = self.choose_all(decode(raw, Index, what).manifests, depth + 1)
            return chosen[0][0] if chosen else None
        manifest = decode(raw, Manifest, what)
        if manifest.artifact_type or manifest.config.media_type not in CONFIG_TYPES:
            return None  # a signature, a chart, or another artifact
        return self._image(descriptor, raw, manifest, stated)

    def _image(self, descriptor: Descriptor, raw: bytes, manifest: Manifest, stated: Platform | None) -> _Choice | None:
        what = f"image {descriptor.digest} in {self._files.source}"
        config_raw = self._blob(manifest.config)
        config, diff_ids = parse_image_config(config_raw, f"the configuration of {what}")
        platform = stated or config_platform(config)
        place: int | None = 0
        if platform is not None:
            self.seen.add(platform)
            place = rank(platform, self.supported)
        if place is None:
            return None
        if len(diff_ids) != len(manifest.layers):
            raise ImageError(f"{what} has {len(manifest.layers)} layers, and its configuration {len(diff_ids)}")
        layers = []
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            path = _blob_path(checked_digest(layer.digest, what))
            if not self._files.has(path):
                raise ImageError(f"{what} is not complete: its layer {layer.digest} is missing")
            layers.append(LayerSource(path, diff_id, layer.digest))
        blobs = {manifest.config.digest: config_raw, descriptor.digest: raw}
        return _Choice(place, ImagePlan(manifest.config.digest, config, layers, [], blobs, what))

    def _blob(self, descriptor: Descriptor) -> bytes:
        """A small blob, verified."""
        source = self._files.source
        path = _blob_path(checked_digest(descriptor.digest, f"an index in {source}"))
        raw = self._files.read(path, limit=MAX_JSON)
        if len(raw) != descriptor.size or sha256(raw) != descriptor.digest:
            raise ImageError(f"{path} in {source} is damaged: it does not have the size and digest that are stated")
        return raw


def _blob_path(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"
