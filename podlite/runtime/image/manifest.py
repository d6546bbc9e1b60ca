"""Manifests, indexes and descriptors, of OCI and of Docker, and the choice among them. Pure decisions.

Sources: OCI image-spec manifest.md, image-index.md, descriptor.md; Docker's manifest schema 2; the
annotations are those of containerd (io.containerd.image.name) and of BuildKit's attestations.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from podlite.cri.errors import ImageError
from podlite.runtime.image.platform import Platform, normalise_platform, rank
from podlite.runtime.image.reference import InvalidReferenceError, check_digest, normalise

INDEX_TYPES = frozenset(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
MANIFEST_TYPES = frozenset(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
CONFIG_TYPES = frozenset(
    (
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    )
)
ANNOTATION_NAME = "io.containerd.image.name"
ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
_ANNOTATION_REFERENCE_TYPE = "vnd.docker.reference.type"


class DescriptorPlatform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, rename="camel"):
    """What is said of a blob before it is read: its type, digest and size, and for an index's entries more."""

    digest: str
    media_type: str = ""
    size: int = 0
    platform: DescriptorPlatform | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str = ""


class Manifest(msgspec.Struct, rename="camel"):
    """An image's manifest: `layers` are the lowest first."""

    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = ""
    artifact_type: str = ""


class Index(msgspec.Struct, rename="camel"):
    """A list of manifests, or of further indexes."""

    schema_version: int
    manifests: list[Descriptor]
    media_type: str = ""


class SavedImage(msgspec.Struct, rename="pascal"):
    """One entry of `manifest.json` in an archive of `docker save`; the members name files of the archive."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


_T = TypeVar("_T")


def decode(raw: bytes, type: type[_T], what: str) -> _T:
    """JSON as one of the types above. Raises ImageError."""
    try:
        return msgspec.json.decode(raw, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{what} cannot be read: {error}") from error


def is_image(descriptor: Descriptor) -> bool:
    """Whether an index's entry may be an image: not an attestation, signature or other artifact."""
    platform = descriptor.platform
    if platform is not None and platform.os == "unknown" and platform.architecture == "unknown":
        return False
    if (descriptor.annotations or {}).get(_ANNOTATION_REFERENCE_TYPE):
        return False
    return not descriptor.artifact_type


def platform_of(descriptor: Descriptor) -> Platform | None:
    """The platform that an index states for an entry, or None."""
    platform = descriptor.platform
    if platform is None or not platform.architecture:
        return None
    return normalise_platform(platform.os, platform.architecture, platform.variant)


def in_order(descriptors: list[Descriptor], supported: list[Platform]) -> list[Descriptor]:
    """The entries that may be for this machine, the best first; those that state no platform come last."""
    ranked = []
    for descriptor in descriptors:
        if not is_image(descriptor):
            continue
        platform = platform_of(descriptor)
        place = len(supported) if platform is None else rank(platform, supported)
        if place is not None:
            ranked.append((place, descriptor))
    ranked.sort(key=lambda pair: pair[0])
    return [descriptor for _, descriptor in ranked]


def names_of(descriptor: Descriptor, base: str, what: str) -> list[str]:
    """The full names that an entry of `index.json` gives its image, by tag and by digest.

    `org.opencontainers.image.ref.name` is a full reference with some tools and a bare tag with others; a bare
    tag is one of `base`, and means nothing if that is empty. Raises ImageError for a name that is none.
    """
    annotations = descriptor.annotations or {}
    name = annotations.get(ANNOTATION_NAME, "")
    if not name:
        name = annotations.get(ANNOTATION_REF_NAME, "")
        if name and not any(character in name for character in "/:@"):
            name = f"{base}:{name}" if base else ""
    if not name:
        return []
    full = full_name(name, what)
    repository = full.partition("@")[0] if "@" in full else full.rpartition(":")[0]
    return sorted({full, f"{repository}@{descriptor.digest}"})


def full_name(name: str, what: str) -> str:
    """`name`, normalised. Raises ImageError if it is no reference."""
    try:
        return normalise(name)
    except InvalidReferenceError as error:
        raise ImageError(f"{what} names an image {name!r}: {error}", reason="InvalidImageName") from error


def checked_digest(digest: str, what: str) -> str:
    """`digest`, if it is a sha256. Raises ImageError."""
    try:
        check_digest(digest)
    except InvalidReferenceError as error:
        raise ImageError(f"{what} refers to a blob by a bad digest, {digest!r}: {error}") from error
    if not digest.startswith("sha256:"):
        raise ImageError(f"{what} refers to a blob by {digest!r}; only sha256 digests are supported")
    return digest
