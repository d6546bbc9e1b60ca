"""Removes unused images when the disk that they are on is nearly full, those first that were not used for longest.

Source: pkg/kubelet/images/image_gc_manager.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread

from podlite import log
from podlite.cri.errors import CRIError
from podlite.cri.types import ImageSpec
from podlite.kubelet import events
from podlite.kubelet.gotime import NANOSECONDS
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podlite.cri.services import ImageService, RuntimeService
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.events import EventRecorder
    from podlite.kubelet.types import KubeletConfig


class ImageRecord(msgspec.Struct):
    """Times are nanoseconds since the epoch; `last_used` is 0 for an image that was never seen in use."""

    id: str
    first_detected: int
    last_used: int = 0
    size: int = 0
    pinned: bool = False


class DiskUsage(msgspec.Struct, frozen=True):
    """Of the filesystem that holds the images, in bytes."""

    capacity: int
    available: int


def bytes_to_free(usage: DiskUsage, config: KubeletConfig) -> int:
    """How much must go: nothing below the high threshold, else what leads to the low one. Pure."""
    available = min(usage.available, usage.capacity)
    percent = 100 - available * 100 // usage.capacity
    if percent < config.image_gc_high_threshold_percent:
        return 0
    return usage.capacity * (100 - config.image_gc_low_threshold_percent) // 100 - available


def eviction_order(records: Iterable[ImageRecord], in_use: Iterable[str]) -> list[ImageRecord]:
    """The images that may go: least recently used first, then first seen first. Pure."""
    used = set(in_use)
    free = [each for each in records if each.id not in used and not each.pinned]
    return sorted(free, key=lambda each: (each.last_used, each.first_detected))


def images_to_free(candidates: Sequence[ImageRecord], wanted: int, min_age: float, now_ns: int) -> list[ImageRecord]:
    """The images whose removal frees `wanted` bytes, or as much as there is; none that has just come. Pure."""
    chosen: list[ImageRecord] = []
    freed = 0
    for each in candidates:
        if freed >= wanted:
            break
        if each.last_used >= now_ns or now_ns - each.first_detected < min_age * NANOSECONDS:
            continue
        chosen.append(each)
        freed += each.size
    return chosen


def too_old(candidates: Sequence[ImageRecord], max_age: float, now_ns: int) -> list[ImageRecord]:
    """The images that were not used for longer than `max_age` seconds; none if that is 0. Pure."""
    if not max_age:
        return []
    return [each for each in candidates if now_ns - each.last_used > max_age * NANOSECONDS]


class ImageGC:
    """`disk_usage` looks at the filesystem of a path; it blocks."""

    def __init__(
        self,
        runtime: RuntimeService,
        images: ImageService,
        recorder: EventRecorder,
        clock: Clock,
        config: KubeletConfig,
        disk_usage: Callable[[str], DiskUsage] | None = None,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._recorder = recorder
        self._clock = clock
        self._config = config
        self._disk_usage = disk_usage or disk_usage_of
        self._records: dict[str, ImageRecord] = {}
        self._began_ns = clock.now_ns()

    async def collect(self) -> None:
        """Frees space if too little is left. Raises CRIError, and KubeletError if not enough could be freed."""
        now = self._clock.now_ns()
        candidates = await self._candidates(now)
        # An age is known only of what was watched for so long.
        if now - self._began_ns > self._config.image_maximum_gc_age * NANOSECONDS:
            for each in too_old(candidates, self._config.image_maximum_gc_age, now):
                await self._remove(each)
                candidates.remove(each)
        usage = await self._usage()
        wanted = bytes_to_free(usage, self._config)
        if wanted <= 0:
            return
        freed = await self._free(candidates, wanted, now)
        if freed >= wanted:
            return
        percent = 100 - min(usage.available, usage.capacity) * 100 // usage.capacity
        message = (
            f"Insufficient free disk space on the node's image filesystem ({percent}% of "
            f"{format_size(usage.capacity)} used). Failed to free sufficient space by deleting unused images (freed "
            f"{freed} bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other "
            "data."
        )
        self._recorder.node_event(events.WARNING, events.FREE_DISK_SPACE_FAILED, message)
        raise KubeletError(message, reason=events.FREE_DISK_SPACE_FAILED)

    async def remove_unused(self) -> int:
        """Removes every image that nothing uses and that is not pinned; returns the bytes freed. Raises CRIError."""
        now = self._clock.now_ns()
        return await self._free(await self._candidates(now), 1 << 62, now)

    async def _candidates(self, now: int) -> list[ImageRecord]:
        images = await self._images.list_images()
        in_use: set[str] = set()
        for container in await self._runtime.list_containers():
            in_use.add(container.image_id or container.image_ref)
            if container.image is not None:
                in_use.add(container.image.image)
        found: dict[str, ImageRecord] = {}
        for image in images:
            record = self._records.get(image.id) or ImageRecord(image.id, now)
            record.size, record.pinned = image.size, image.pinned
            if not in_use.isdisjoint((image.id, *image.repo_tags, *image.repo_digests)):
                record.last_used = now
                in_use.add(image.id)
            found[image.id] = record
        self._records = found
        await to_thread.run_sync(self._prune_pull_records, list(found), now / NANOSECONDS)
        return eviction_order(found.values(), in_use)

    def _prune_pull_records(self, images: list[str], now: float) -> None:
        """Forgets who may use images that are not there. A pull that has just ended may not be listed yet."""
        from podlite.kubelet.pull_records import PullRecords

        PullRecords(f"{self._config.state_dir}/image_manager").prune(images, now)

    async def _usage(self) -> DiskUsage:
        info = await self._images.image_fs_info()
        path = info[0].mountpoint if info else self._config.state_dir
        try:
            usage = await to_thread.run_sync(self._disk_usage, path)
        except OSError as error:
            raise KubeletError(f"the images' filesystem {path} cannot be looked at: {error.strerror}") from error
        if not usage.capacity:
            message = "invalid capacity 0 on image filesystem"
            self._recorder.node_event(events.WARNING, events.INVALID_DISK_CAPACITY, message)
            raise KubeletError(message, reason=events.INVALID_DISK_CAPACITY)
        return usage

    async def _free(self, candidates: Sequence[ImageRecord], wanted: int, now: int) -> int:
        freed = 0
        problem: CRIError | None = None
        for each in images_to_free(candidates, wanted, self._config.image_minimum_gc_age, now):
            try:
                await self._remove(each)
            except CRIError as error:
                problem = error
                continue
            freed += each.size
        if problem is not None:
            raise problem
        return freed

    async def _remove(self, record: ImageRecord) -> None:
        log.info("removing an image to free bytes", image=record.id, size=record.size)
        await self._images.remove_image(ImageSpec(image=record.id))
        self._records.pop(record.id, None)


def disk_usage_of(path: str) -> DiskUsage:
    """Blocking. Raises OSError."""
    found = os.statvfs(path)
    return DiskUsage(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def format_size(size: int) -> str:
    """A size for a person: `12 B`, `1.5 GiB`."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
