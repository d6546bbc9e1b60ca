"""What tests of pulls share: a store, quick retries, and where hosts.toml lies."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio

from podlite.runtime.image.record import ImageRecord
from podlite.runtime.image.registry.pull import pull
from podlite.runtime.image.registry.retry import RetryPolicy
from podlite.runtime.image.store import ImageStore
from tests.support.image_worker import leftovers

QUICK = RetryPolicy(attempts=5, first=0.01, longest=0.02, connect=10, stall=10)


class Puller:
    """A store of its own and a directory for hosts.toml, and pulls with them."""

    def __init__(self, directory: Path) -> None:
        self.store = ImageStore(str(directory / "store"))
        self.certs = directory / "certs.d"

    def hosts(self, registry: str, text: str) -> None:
        """Writes a registry's hosts.toml."""
        (self.certs / registry).mkdir(parents=True, exist_ok=True)
        (self.certs / registry / "hosts.toml").write_text(text)

    def plain(self, registry: str, url: str) -> None:
        """Says that a registry is to be reached at one URL."""
        self.hosts(registry, f'server = "{url}"\n')

    async def apull(self, name: str, **options: Any) -> ImageRecord:
        options = {"policy": QUICK, "certs_dirs": (str(self.certs),), **options}
        return await pull(self.store, name, options.pop("auth", None), **options)

    def pull(self, name: str, **options: Any) -> ImageRecord:
        return anyio.run(partial(self.apull, name, **options))

    def left(self) -> list[str]:
        """What the store has beyond its images."""
        return leftovers(self.store)

    def read(self, image: ImageRecord, path: str) -> bytes:
        """A file of an image, as a container would see it."""
        from podlite.runtime.image.merged import MergedTree

        with MergedTree([self.store.layout.layer(layer) for layer in reversed(image.layers)]) as tree:
            found = tree.read(path, limit=1 << 26)
            assert found is not None
            return found
