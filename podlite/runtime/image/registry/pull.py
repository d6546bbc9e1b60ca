"""A pull, from the name to the image in the store.

    resolve ─▶ protect ─▶ download layers, three at a time ─┬─▶ commit
                                     └▶ unpack, lowest first ┘

Layers that the store has are neither downloaded nor unpacked. What a killed pull leaves is an unfinished blob, with
which the next one goes on, and a directory that the next writer collects; the image is there after the commit or not
at all. Pulls of the same image, in one process or in several, wait for one another blob by blob and layer by layer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
from anyio import to_thread

from podlite.cri.errors import ImageError
from podlite.errors import explain, first_error
from podlite.runtime.image.assembly import Assembly
from podlite.runtime.image.failure import filesystem_of, storing
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.plan import config_platform
from podlite.runtime.image.platform import machine_platforms, rank
from podlite.runtime.image.reference import DEFAULT_TAG, InvalidReferenceError, go_quote, parse_reference
from podlite.runtime.image.registry.client import RegistryClient
from podlite.runtime.image.registry.download import download
from podlite.runtime.image.registry.hosts import CERTS_DIRS, find_endpoints
from podlite.runtime.image.registry.progress import DONE, EXISTS, UNPACKING, LayerState, Silence
from podlite.runtime.image.registry.resolve import resolve
from podlite.runtime.image.registry.retry import RetryPolicy
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.cri.types import AuthConfig
    from podlite.runtime.image.platform import Platform
    from podlite.runtime.image.record import ImageRecord
    from podlite.runtime.image.reference import ImageReference
    from podlite.runtime.image.registry.progress import Progress
    from podlite.runtime.image.registry.resolve import ResolvedImage
    from podlite.runtime.image.store import ImageStore
    from podlite.runtime.image.writer import StoreWriter

# As containerd's max_concurrent_downloads.
PARALLEL = 3

_T = TypeVar("_T")


async def pull(
    store: ImageStore,
    name: str,
    auth: AuthConfig | None = None,
    *,
    platforms: list[Platform] | None = None,
    progress: Progress | None = None,
    certs_dirs: tuple[str, ...] = CERTS_DIRS,
    policy: RetryPolicy | None = None,
    limits: Limits | None = None,
) -> ImageRecord:
    """Pulls the image `name` (a tag or a digest; `latest` if there is neither) and returns what the store has then.

    `platforms` are those to take, the best first, by default this machine's. A tag is always resolved anew; when it
    still stands for what is in the store nothing else is asked for. Cancelled, it leaves what a killed pull would
    leave but for the directory. Raises ImageError, with reason RegistryUnavailable where no registry answered.
    """
    try:
        image = parse_reference(name)
    except InvalidReferenceError as error:
        message = f"couldn't parse image name {go_quote(name)}: {error}"
        raise ImageError(message, reason="InvalidImageName") from error
    wanted = image.digest or image.tag or DEFAULT_TAG
    if image.digest and not image.digest.startswith("sha256:"):
        raise ImageError(f"image {image} cannot be pulled: only sha256 digests are supported")
    image = image._replace(tag="" if image.digest else wanted)
    if platforms is None:
        platforms = await to_thread.run_sync(machine_platforms)
    job = _Pull(store, image, platforms, progress or Silence(), limits or Limits())
    endpoints = await to_thread.run_sync(find_endpoints, image.domain, certs_dirs)
    async with RegistryClient(image, endpoints, auth, policy or RetryPolicy()) as client:
        with storing(store.layout.root, f"pulling image {image}"):
            return await job.run(client, wanted)


class _Pull:
    """One pull: what it is for, and the steps."""

    def __init__(
        self,
        store: ImageStore,
        image: ImageReference,
        platforms: list[Platform],
        progress: Progress,
        limits: Limits,
    ) -> None:
        self._store = store
        self._image = image
        self._platforms = platforms
        self._progress = progress
        self._limits = limits
        self._stop = threading.Event()

    async def run(self, client: RegistryClient, wanted: str) -> ImageRecord:
        with step("image.resolve", image=str(self._image)):
            there = await self._known(client, wanted)
            if there is not None:
                return there
            names = [] if self._image.digest else [str(self._image)]
            resolved = await resolve(client, self._image, wanted, names, self._platforms)
        writer = self._store.writer()
        await to_thread.run_sync(writer.__enter__)
        try:
            return await self._fetch(client, writer, resolved)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(writer.__exit__, None, None, None)

    async def _known(self, client: RegistryClient, wanted: str) -> ImageRecord | None:
        """The image in the store, if that is what the name stands for in the registry too."""
        there = await to_thread.run_sync(self._store.find, str(self._image))
        if there is None or there.fingerprint:
            return None
        platform = config_platform(there.config)
        if platform is not None and rank(platform, self._platforms) is None:
            return None
        # The registry is asked by digest too: whether these credentials may have the image is its to say.
        digest = await client.head_manifest(wanted)
        names = await to_thread.run_sync(self._store.names_of, there)
        if not digest or f"{self._image.repository}@{digest}" not in names:
            return None
        self._progress.resolved(there.id, [])
        return there

    async def _fetch(self, client: RegistryClient, writer: StoreWriter, resolved: ResolvedImage) -> ImageRecord:
        archives = _Blobs(self._store, self._stop)
        assembly = await to_thread.run_sync(Assembly, self._store, writer, archives, resolved.plan, self._limits)
        missing = set(await to_thread.run_sync(assembly.missing))
        # One archive may be several layers of an image.
        states = {layer.digest: LayerState(layer.digest, layer.size, layer.size, EXISTS) for layer in resolved.layers}
        wanted = dict.fromkeys(layer.digest for place, layer in enumerate(resolved.layers) if place in missing)
        for digest in wanted:
            states[digest] = LayerState(digest, states[digest].size)
        self._progress.resolved(resolved.plan.id, list(states.values()))
        await to_thread.run_sync(self._check_space, [states[digest] for digest in wanted])
        ready = {digest: anyio.Event() for digest in wanted}
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._download_all, client, writer, [states[digest] for digest in wanted], ready)
                for place in range(max(1, len(resolved.layers))):
                    state = states[resolved.layers[place].digest] if resolved.layers else None
                    if place in missing and state is not None:
                        await ready[state.digest].wait()
                        self._tell(state, UNPACKING)
                    with step("image.unpack", image=str(self._image)):
                        await self._interruptible(assembly.add_layer)
                    if state is not None and state.stage == UNPACKING:
                        self._tell(state, DONE)
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            archives.close()
        with step("image.commit", image=str(self._image)):
            record = assembly.record()
            # From here on it is there or not: there is nothing to undo in between.
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(writer.commit, [(record, resolved.plan.names)])
        return record

    async def _download_all(
        self, client: RegistryClient, writer: StoreWriter, layers: list[LayerState], ready: dict[str, anyio.Event]
    ) -> None:
        slots = anyio.Semaphore(PARALLEL)

        async def one(layer: LayerState) -> None:
            try:
                with step("image.download", image=str(self._image)):
                    await download(client, writer, layer, self._progress)
            finally:
                slots.release()
            ready[layer.digest].set()

        async with anyio.create_task_group() as tasks:
            for layer in layers:
                await slots.acquire()
                tasks.start_soon(one, layer)

    async def _interruptible(self, function: Callable[[], _T]) -> _T:
        """Runs `function`, which reads archives, on a worker thread; a cancellation makes its reading fail."""

        async def watch() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                self._stop.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                result = await to_thread.run_sync(function)
            except _Stopped:
                await anyio.lowlevel.checkpoint()  # raises what stopped it
                raise
            finally:
                tasks.cancel_scope.cancel()
        self._stop.clear()
        return result

    def _check_space(self, layers: list[LayerState]) -> None:
        """Whether the archives have room at all, before the first byte is fetched."""
        need = sum(layer.size for layer in layers)
        found = os.statvfs(self._store.layout.root)
        free = found.f_bavail * found.f_frsize
        if need > free:
            raise ImageError(
                f"image {self._image} needs at least {need} bytes, and {filesystem_of(self._store.layout.root)} has "
                f"{free} left",
                hint="free space there, remove images with `podlite image prune -a`, or choose another --state-dir",
            )

    def _tell(self, layer: LayerState, stage: str) -> None:
        layer.stage = stage
        self._progress.changed(layer)


class _Stopped(Exception):
    """Reading an archive was given up because the pull was cancelled."""


class _Blobs:
    """The layers' archives, as blobs of the store; one of them is open at a time."""

    def __init__(self, store: ImageStore, stop: threading.Event) -> None:
        self._store = store
        self._stop = stop
        self._fd = -1

    def close(self) -> None:
        """Closes what is open. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def reader(self, path: str) -> Callable[[int], bytes]:
        """Reads the blob with the digest `path`. Raises ImageError; `_Stopped` while the pull is being cancelled."""
        self.close()
        try:
            self._fd = fd = os.open(
                f"{self._store.layout.blobs}/{path.removeprefix('sha256:')}", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError as error:
            raise ImageError(f"blob {path} cannot be read: {explain(error)}") from error

        def read(size: int) -> bytes:
            if self._stop.is_set():
                raise _Stopped
            try:
                return os.read(fd, size)
            except OSError as error:
                raise ImageError(f"blob {path} cannot be read: {explain(error)}") from error

        return read
