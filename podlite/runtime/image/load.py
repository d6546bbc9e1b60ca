"""Loads images from files: archives of `docker save` (of every age since 1.10), OCI archives, OCI layout directories.

An archive may be compressed, and may hold several images. Of images for several platforms the one for this
machine is taken. Everything is verified on the way in: blobs by their digests, layers by their diffIDs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.cri.errors import ImageError
from podlite.runtime.image.archive import open_files
from podlite.runtime.image.assembly import Assembly
from podlite.runtime.image.config import parse_image_config
from podlite.runtime.image.limits import MAX_JSON, Limits
from podlite.runtime.image.manifest import SavedImage, decode, full_name
from podlite.runtime.image.oci import find_oci_images
from podlite.runtime.image.plan import ImagePlan, LayerSource, check_platform, sha256

if TYPE_CHECKING:
    from podlite.runtime.image.archive import Files
    from podlite.runtime.image.store import ImageStore


class LoadedImage(NamedTuple):
    """`id` is `sha256:…`; `names` are full names, by tag and by digest; an image without a name is known by its id."""

    id: str
    names: list[str]


def load_images(store: ImageStore, path: str, *, name: str = "", limits: Limits | None = None) -> list[LoadedImage]:
    """Loads every image in the file or directory `path` (`-` is standard input); all of them or none.

    `name` is for images that say only a tag of themselves, or nothing. Idempotent: layers that are there are not
    unpacked again. Names move over from images that had them. Blocks. Raises ImageError.
    """
    limits = limits or Limits()
    with store.writer() as writer, open_files(path, writer.scratch("archive"), limits, store.layout.root) as files:
        plans = find_images(files, name)
        committed = []
        for plan in plans:
            assembly = Assembly(store, writer, files, plan, limits)
            while assembly.add_layer():
                pass
            committed.append((assembly.record(), plan.names))
        writer.commit(committed)
    return [LoadedImage(record.id, names) for record, names in committed]


def find_images(files: Files, name: str = "") -> list[ImagePlan]:
    """What is to be loaded from `files`. Reads only what describes the images. Raises ImageError."""
    if files.has("oci-layout"):
        plans = find_oci_images(files, name)
    elif files.has("manifest.json"):
        plans = _find_saved_images(files)
    elif files.has("repositories"):
        raise ImageError(
            f"{files.source} was saved by a Docker older than 1.10, whose format is not supported",
            hint="load it into a newer Docker and save it again",
        )
    else:
        raise ImageError(
            f"{files.source} is no image: it has neither manifest.json (docker save) nor oci-layout (OCI)",
            hint="make it with `docker save`, `podman save` or `skopeo copy … oci-archive:FILE`",
        )
    if not plans:
        raise ImageError(f"{files.source} contains no image")
    return _name_them(plans, name, files.source)


def _name_them(plans: list[ImagePlan], name: str, source: str) -> list[ImagePlan]:
    nameless = [plan for plan in plans if not plan.names]
    if not name or not nameless:
        return plans
    if len(nameless) > 1:
        raise ImageError(f"{source} has {len(nameless)} images without a name, and there is one name for them: {name}")
    nameless[0].names.append(full_name(name, "the command line"))
    return plans


def _find_saved_images(files: Files) -> list[ImagePlan]:
    what = f"manifest.json in {files.source}"
    plans = []
    for saved in decode(files.read("manifest.json", limit=MAX_JSON), list[SavedImage], what):
        raw = files.read(saved.config, limit=MAX_JSON)
        digest = sha256(raw)
        what = f"image {(saved.repo_tags or [digest])[0]} in {files.source}"
        config, diff_ids = parse_image_config(raw, f"the configuration of {what}")
        if len(diff_ids) != len(saved.layers):
            raise ImageError(f"{what} has {len(saved.layers)} layers, and its configuration {len(diff_ids)}")
        check_platform(config, what)
        layers = [LayerSource(member, diff_id) for member, diff_id in zip(saved.layers, diff_ids, strict=True)]
        names = sorted({full_name(tag, what) for tag in saved.repo_tags or ()})
        plans.append(ImagePlan(digest, config, layers, names, {digest: raw}, what))
    return plans
