"""An image put together in the store, layer by layer, from a plan and from wherever its archives are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from podlite.cri.errors import ImageError
from podlite.runtime.image.plan import LayerSource, sha256
from podlite.runtime.image.record import ImageRecord, LayerRecord
from podlite.runtime.image.unpack import unpack_layer

if TYPE_CHECKING:
    from podlite.runtime.image.limits import Limits
    from podlite.runtime.image.plan import ImagePlan
    from podlite.runtime.image.store import ImageStore
    from podlite.runtime.image.writer import StoreWriter

# OVL_MAX_STACK of the kernel
_LAYERS_MAX = 500
# The diffID of an empty tar archive: 1,024 zero bytes.
EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


class Archives(Protocol):
    """Where the plan's layers are."""

    def reader(self, path: str) -> Callable[[int], bytes]:
        """What reads a layer's archive from its beginning: up to n bytes at a call, none at the end."""
        ...


class Assembly:
    """One image on its way into the store. Making one says what is going to be made, and keeps the plan's blobs.

    Blocking; methods raise ImageError. The image is not there before the writer commits its record.
    """

    def __init__(
        self, store: ImageStore, writer: StoreWriter, archives: Archives, plan: ImagePlan, limits: Limits
    ) -> None:
        if len(plan.layers) > _LAYERS_MAX:
            raise ImageError(f"{plan.what} has {len(plan.layers)} layers; overlayfs stacks at most {_LAYERS_MAX}")
        # An image of no layers needs a directory for overlayfs all the same.
        self._sources = plan.layers or [LayerSource("", EMPTY_LAYER)]
        self._store = store
        self._writer = writer
        self._archives = archives
        self._plan = plan
        self._limits = limits
        self._chain = chain_ids([source.diff_id for source in self._sources])
        self._done = 0
        self._visible: list[str] = []
        self._size = 0
        writer.protect(self._chain, [*plan.blobs, *(source.digest for source in plan.layers if source.digest)])
        for digest, raw in plan.blobs.items():
            writer.add_blob(raw, digest)

    def missing(self) -> list[int]:
        """Which layers, by their place from the lowest on, are not in the store: those whose archives are needed."""
        return [
            place
            for place, name in enumerate(self._chain)
            if self._sources[place].path and self._writer.layer(name) is None
        ]

    def add_layer(self) -> bool:
        """Unpacks the lowest layer that is still to come, unless the store has it; False when that was the last."""
        source, name = self._sources[self._done], self._chain[self._done]
        what = f"layer {self._done + 1} of {self._plan.what}"
        lower = [self._store.layout.layer(layer) for layer in reversed(self._visible)]
        layer = self._writer.add_layer(name, lambda target: self._unpack(source, target, lower, what))
        # overlayfs does not look for an opaque mark on the root of a layer.
        self._visible = [name] if layer.opaque else [*self._visible, name]
        self._size += layer.bytes
        self._done += 1
        return self._done < len(self._sources)

    def record(self) -> ImageRecord:
        """The image, for the writer to commit when all layers have been added."""
        plan = self._plan
        size = self._size + len(plan.blobs[plan.id])
        return ImageRecord(id=plan.id, layers=self._visible, config=plan.config, size=size, blobs=sorted(plan.blobs))

    def _unpack(self, source: LayerSource, target: str, lower: Sequence[str], what: str) -> LayerRecord:
        if not source.path:
            return LayerRecord(diff_id=source.diff_id)
        read = self._archives.reader(source.path)
        unpacked = unpack_layer(read, target, lower=lower, limits=self._limits, what=what)
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


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain IDs of the layers, lowest first, without algorithm (OCI image-spec, config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return [id.removeprefix("sha256:") for id in chain]
