"""What whoever waits for a pull can be told."""

from __future__ import annotations

from typing import Protocol

import msgspec

# The stages of one layer, in their order; EXISTS stands alone.
EXISTS, WAITING, DOWNLOADING, DOWNLOADED, UNPACKING, DONE = (
    "already there",
    "waiting",
    "downloading",
    "downloaded",
    "unpacking",
    "done",
)


class LayerState(msgspec.Struct):
    """One layer, as it is now: `size` is the archive's, `offset` how much of that is here, both in bytes."""

    digest: str
    size: int
    offset: int = 0
    stage: str = WAITING


class Progress(Protocol):
    """Told of one pull, on the event loop; it must not block."""

    def resolved(self, digest: str, layers: list[LayerState]) -> None:
        """Which image it is; `layers` are the lowest first, and these objects change."""
        ...

    def changed(self, layer: LayerState) -> None:
        """Another stage, or more bytes."""
        ...


class Silence:
    """For whoever does not want to know."""

    def resolved(self, digest: str, layers: list[LayerState]) -> None:
        """Nothing."""

    def changed(self, layer: LayerState) -> None:
        """Nothing."""
