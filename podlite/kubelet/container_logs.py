"""Rotates the logs of running containers: rename, have the runtime open a new file, compress the one before.

Source: pkg/kubelet/logs/container_log_manager.go, Kubernetes 1.36.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from anyio import CancelScope, to_thread

from podlite import log
from podlite.cri.errors import CRIError
from podlite.errors import explain
from podlite.kubelet.gotime import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podlite.cri.services import RuntimeService
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.types import KubeletConfig

COMPRESSED = ".gz"
TEMPORARY = ".tmp"

_CHUNK = 1 << 20


class ContainerLogManager:
    """Rotates what has grown beyond the configured size, whenever it is asked to."""

    def __init__(self, runtime: RuntimeService, clock: Clock, config: KubeletConfig) -> None:
        self._runtime = runtime
        self._clock = clock
        self._config = config

    async def rotate_logs(self, running: Iterable[tuple[str, str]]) -> None:
        """Looks at the logs of running containers, (id, path) each. A log that cannot be rotated is left as it is."""
        if self._config.container_log_max_size < 0:
            return
        logs = list(running)
        sizes = await to_thread.run_sync(_sizes, [path for _, path in logs])
        for (container_id, path), size in zip(logs, sizes, strict=True):
            try:
                if size is None:
                    # Somebody took the file away: the runtime writes to one that nobody can find.
                    await self._runtime.reopen_container_log(container_id)
                elif size >= self._config.container_log_max_size:
                    await self.rotate(container_id, path)
            except (CRIError, OSError) as error:
                log.warning("a container's log cannot be rotated", path=path, why=explain(error))

    async def rotate(self, container_id: str, path: str) -> None:
        """Rotates one log now. Raises CRIError, OSError; the log then goes on as before."""
        await to_thread.run_sync(make_room, path, self._config.container_log_max_files)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self._clock.now_ns() // NANOSECONDS))
        rotated = f"{path}.{stamp}"
        await to_thread.run_sync(_rename, path, rotated)
        try:
            await self._runtime.reopen_container_log(container_id)
        except BaseException:
            # Still on this file, under its new name: it gets its old one back, so that nothing is lost.
            with CancelScope(shield=True):
                await to_thread.run_sync(_rename, rotated, path)
            raise


def _rename(old: str, new: str) -> None:
    """Blocking. Raises OSError; never writes over a file."""
    if os.path.lexists(new) or os.path.lexists(new + COMPRESSED):
        raise FileExistsError(errno.EEXIST, "the log was rotated in this second already", new)
    os.rename(old, new)


def _sizes(paths: Sequence[str]) -> list[int | None]:
    """Blocking."""
    result: list[int | None] = []
    for path in paths:
        try:
            result.append(os.stat(path).st_size)
        except FileNotFoundError:
            result.append(None)
        except OSError:
            result.append(0)
    return result


def make_room(path: str, max_files: int) -> None:
    """Prepares a log's next rotation: leavings and the oldest files go, uncompressed ones are compressed. Blocking.

    Raises OSError.
    """
    directory, name = os.path.split(path)
    names = [each for each in os.listdir(directory) if each.startswith(f"{name}.")]
    kept, leavings = split_leavings(names)
    for each in leavings:
        os.unlink(f"{directory}/{each}")
    removed, kept = split_excess(kept, max_files)
    for each in removed:
        os.unlink(f"{directory}/{each}")
    for each in kept:
        if not each.endswith(COMPRESSED):
            compress(f"{directory}/{each}")


def split_leavings(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The rotated files in use, and what an interrupted rotation left: temporary ones, and those compressed already."""
    every = set(names)
    leavings = [
        each
        for each in sorted(every)
        if each.endswith(TEMPORARY) or (not each.endswith(COMPRESSED) and each + COMPRESSED in every)
    ]
    return sorted(every.difference(leavings)), leavings


def split_excess(names: Sequence[str], max_files: int) -> tuple[list[str], list[str]]:
    """Which rotated files go, oldest first, and which stay, so that with the current and the next there are at most
    `max_files`."""
    keep = max(max_files - 2, 0)
    ordered = sorted(names)
    cut = max(len(ordered) - keep, 0)
    return ordered[:cut], ordered[cut:]


def compress(path: str) -> None:
    """Replaces a file by its compressed form, `path`.gz. Blocking. Raises OSError; the file then stays."""
    import gzip

    temporary = path + TEMPORARY
    mode = os.stat(path).st_mode & 0o777
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(path, "rb") as source, open(fd, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
        os.rename(temporary, path + COMPRESSED)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
    os.unlink(path)
