"""One blob from a registry into the store: in pieces, resumable, verified.

Source: OCI distribution-spec, "Pulling blobs"; RFC 9110 section 14 (ranges).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite.cri.errors import ImageError
from podlite.runtime.image.registry.failure import RegistryFailure
from podlite.runtime.image.registry.progress import DOWNLOADED, DOWNLOADING

if TYPE_CHECKING:
    import httpx

    from podlite.runtime.image.ingest import PartialBlob
    from podlite.runtime.image.registry.client import RegistryClient
    from podlite.runtime.image.registry.progress import LayerState, Progress
    from podlite.runtime.image.registry.transport import Transport
    from podlite.runtime.image.writer import StoreWriter

# How much is collected before it is hashed and written, on a worker thread.
_PIECE = 1 << 20
# Bytes per second: a server that drips is not worth waiting for.
_SLOWEST = 512
# How often to look whether another process has finished with the same blob.
_POLL_SECONDS = 0.1


async def download(client: RegistryClient, writer: StoreWriter, layer: LayerState, progress: Progress) -> None:
    """Makes the layer's archive a blob of the store; it must be protected. Raises ImageError.

    Goes on where an earlier try ended, be it this pull's or a killed one's. While another pull, of this process or of
    another, fetches the same blob, it waits and reports how far that is. A cancellation keeps what has come.
    """
    partial = writer.ingest(layer.digest, layer.size)
    while not await to_thread.run_sync(partial.try_open):
        layer.offset = await to_thread.run_sync(partial.arrived)
        layer.stage = DOWNLOADING
        progress.changed(layer)
        await anyio.sleep(_POLL_SECONDS)
    try:
        if not partial.complete:
            await _Download(client, partial, layer, progress).run()
        layer.offset, layer.stage = layer.size, DOWNLOADED
        progress.changed(layer)
    finally:
        partial.close()


class _Download:
    """The attempts for one blob."""

    def __init__(self, client: RegistryClient, partial: PartialBlob, layer: LayerState, progress: Progress) -> None:
        self._client = client
        self._partial = partial
        self._layer = layer
        self._progress = progress
        self._inherited = partial.offset > 0
        self._best = partial.offset

    async def run(self) -> None:
        self._show()
        await self._client.attempt(self._fetch, progressed=self._progressed)

    def _progressed(self) -> bool:
        """Whether much more has come than ever before: then it is not the same failure again and again."""
        if self._partial.offset < self._best + _PIECE:
            return False
        self._best = self._partial.offset
        return True

    async def _fetch(self, transport: Transport) -> None:
        try:
            if self._partial.offset < self._partial.size:
                async with self._client.blob(transport, self._partial.digest, self._partial.offset) as response:
                    await self._receive(transport, response)
            if self._partial.offset < self._partial.size:
                raise RegistryFailure(f"the connection to {transport.host} broke off", transient=True)
            await to_thread.run_sync(self._partial.commit)
        except ImageError as error:
            if isinstance(error.__cause__, OSError):
                raise  # this machine's fault
            # What an earlier try left may have been the damage: then this one begins anew.
            again, self._inherited = self._inherited, False
            raise RegistryFailure(f"{error.message} (from {transport.host})", transient=again) from error

    async def _receive(self, transport: Transport, response: httpx.Response) -> None:
        partial = self._partial
        if response.status_code == 416 or (response.status_code == 206 and first_byte(response) != partial.offset):
            await to_thread.run_sync(partial.restart)
            raise RegistryFailure(f"{transport.host} cannot go on with blob {partial.digest}", transient=True)
        if response.status_code == 200 and partial.offset:
            await to_thread.run_sync(partial.restart)
            self._inherited = False
            self._show()
        stated = response.headers.get("Content-Length")
        if stated is not None and int(stated) != partial.size - partial.offset:
            raise RegistryFailure(
                f"{transport.host} has {int(stated) + partial.offset} bytes for blob {partial.digest}, and should have "
                f"{partial.size}"
            )
        pieces: list[bytes] = []
        size = 0
        pace = Pace(transport.stall, _SLOWEST)
        try:
            async for piece in response.aiter_raw():
                pieces.append(piece)
                size += len(piece)
                if not pace.keeps(len(piece), time.monotonic()):
                    raise RegistryFailure(f"{transport.host} sends too slowly to wait for it", transient=True)
                if size >= _PIECE:
                    await self._write(pieces)
                    size = 0
        finally:
            # What came before the connection broke, or before a cancellation, is not to be fetched again.
            with anyio.CancelScope(shield=True):
                await self._write(pieces)

    async def _write(self, pieces: list[bytes]) -> None:
        if pieces:
            data = b"".join(pieces)
            pieces.clear()
            await to_thread.run_sync(self._partial.write, data)
            self._show()

    def _show(self) -> None:
        self._layer.offset, self._layer.stage = self._partial.offset, DOWNLOADING
        self._progress.changed(self._layer)


class Pace:
    """Whether bytes keep coming at a rate, in bytes per second, looked at once in so many seconds. Pure."""

    def __init__(self, seconds: float, slowest: float) -> None:
        self._seconds = seconds
        self._slowest = slowest
        self._since: float | None = None
        self._bytes = 0

    def keeps(self, more: int, now: float) -> bool:
        """Notes that `more` bytes came at the time `now`; False if too few have come since the last look."""
        if self._since is None:
            self._since = now
        self._bytes += more
        passed = now - self._since
        if passed < self._seconds:
            return True
        enough = self._bytes >= passed * self._slowest
        self._since, self._bytes = now, 0
        return enough


def first_byte(response: httpx.Response) -> int | None:
    """Where a 206 begins, by its Content-Range; None if it does not say."""
    found = re.match(r"bytes ([0-9]+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None
