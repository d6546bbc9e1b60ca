"""Loads images from files: archives of `docker save` (of every age since 1.10), OCI archives, OCI layout directories.

An archive may be compressed, and may hold several images. Of images for several platforms the one for this
machine is taken. Everything is verified on the way in: blobs by their digests, layers by their diffIDs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.cri.errors import ImageError
from podlite.runtime.image.archive import open_files
from podlite.runtime.image.config import parse_image_config
from podlite.runtime.image.limits import MAX_JSON, Limits
from podlite.runtime.image.manifest import SavedImage, decode, full_name
from podlite.runtime.image.oci import find_oci_images
from podlite.runtime.image.plan import ImagePlan, LayerSource, check_platform, sha256
from podlite.runtime.image.record import ImageRecord, LayerRecord
from podlite.runtime.image.unpack import unpack_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.runtime.image.archive import Files
    from podlite.runtime.image.store import ImageStore
    from podlite.runtime.image.writer import StoreWriter

# OVL_MAX_STACK of the kernel
_LAYERS_MAX = 500


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
        committed = [(_add_image(store, writer, files, plan, limits), plan.names) for plan in plans]
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


def _add_image(store: ImageStore, writer: StoreWriter, files: Files, plan: ImagePlan, limits: Limits) -> ImageRecord:
    if len(plan.layers) > _LAYERS_MAX:
        raise ImageError(f"{plan.what} has {len(plan.layers)} layers; overlayfs stacks at most {_LAYERS_MAX}")
    # An image of no layers needs a directory for overlayfs all the same.
    sources = plan.layers or [LayerSource("", EMPTY_LAYER)]
    chain = chain_ids([source.diff_id for source in sources])
    writer.protect(chain, plan.blobs)
    for digest, raw in plan.blobs.items():
        writer.add_blob(raw, digest)
    visible: list[str] = []
    size = 0
    for number, (name, source) in enumerate(zip(chain, sources, strict=True), 1):
        what = f"layer {number} of {plan.what}"
        lower = [store.layout.layer(layer) for layer in reversed(visible)]

        def fill(target: str, source: LayerSource = source, lower: list[str] = lower, what: str = what) -> LayerRecord:
            return _unpack(files, source, target, lower, limits, what)

        layer = writer.add_layer(name, fill)
        # overlayfs does not look for an opaque mark on the root of a layer.
        visible = [name] if layer.opaque else [*visible, name]
        size += layer.bytes
    return ImageRecord(
        id=plan.id, layers=visible, config=plan.config, size=size + len(plan.blobs[plan.id]), blobs=sorted(plan.blobs)
    )


def _unpack(
    files: Files, source: LayerSource, target: str, lower: Sequence[str], limits: Limits, what: str
) -> LayerRecord:
    if not source.path:
        return LayerRecord(diff_id=source.diff_id)
    unpacked = unpack_layer(files.reader(source.path), target, lower=lower, limits=limits, what=what)
    if source.digest and unpacked.digest != source.digest:
        raise ImageError(f"{what} is damaged: its digest is {unpacked.digest}, and should be {source.digest}")
    if unpacked.diff_id != source.diff_id:
        raise ImageError(f"{what} is damaged: its diffID is {unpacked.diff_id}, and should be {source.diff_id}")
    return LayerRecord(
        diff_id=unpacked.diff_id,
        entries=unpacked.entries,
        bytes=unpacked.bytes,
        disk_bytes=unpacked.disk_bytes,
        opaque=unpacked.opaque,
    )


# The diffID of an empty tar archive: 1,024 zero bytes.
EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain IDs of the layers, lowest first, without algorithm (OCI image-spec, config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return [id.removeprefix("sha256:") for id in chain]
