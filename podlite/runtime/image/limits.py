"""How much an image may ask of this machine before it is taken for an attack."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits for one layer, or for one archive that is itself compressed. Sizes are bytes.

    `max_ratio` bounds what a compressed byte may turn into, once more than `ratio_floor` came out: an honest
    layer with a large file of zeros is small, a bomb is not.
    """

    max_bytes: int = 256 << 30
    max_entries: int = 4_000_000
    max_ratio: int = 250
    ratio_floor: int = 2 << 30


# Manifests and configurations are read into memory; registries accept 4 MiB at most.
MAX_JSON = 8 << 20
# PAX records, long names and sparse maps of one entry, as Go's archive/tar bounds them.
MAX_TAR_HEADER = 1 << 20
PATH_MAX = 4096
NAME_MAX = 255
