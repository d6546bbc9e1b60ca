"""What is to be loaded: one image, where its layers are, and what they must turn out to be."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from podlite.cri.errors import ImageError
from podlite.runtime.image.platform import Platform, machine_platforms, normalise_platform, rank

if TYPE_CHECKING:
    from podlite.runtime.image.config import ImageConfig


class LayerSource(NamedTuple):
    """A layer's archive at `path` in the files; `digest` is that of the archive as it is there, empty if unstated."""

    path: str
    diff_id: str
    digest: str = ""


class ImagePlan(NamedTuple):
    """One image. `id` is the configuration's digest, `layers` are lowest first, `blobs` (by digest) are to be kept;
    `what` names the image in messages."""

    id: str
    config: ImageConfig
    layers: list[LayerSource]
    names: list[str]
    blobs: dict[str, bytes]
    what: str


def sha256(raw: bytes) -> str:
    """The digest `sha256:…` of the bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def config_platform(config: ImageConfig) -> Platform | None:
    """What an image says it is for; None for one that says nothing, which is taken at its word."""
    if not config.architecture:
        return None
    return normalise_platform(config.os, config.architecture, config.variant)


def check_platform(config: ImageConfig, what: str) -> None:
    """Raises ImageError for an image that does not run on this machine."""
    platform = config_platform(config)
    supported = machine_platforms()
    if platform is not None and rank(platform, supported) is None:
        raise ImageError(f"{what} is for {platform}, and this machine runs {describe(supported)}")


def describe(platforms: list[Platform]) -> str:
    """`linux/amd64/v3, linux/amd64 and linux/386`"""
    texts = [str(platform) for platform in platforms]
    return " and ".join((", ".join(texts[:-1]), texts[-1])) if len(texts) > 1 else texts[0]
