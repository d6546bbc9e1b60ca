"""Each pod's manifest and status as a file, `<run dir>/pods/<uid>/pod.json`: other terminals see it with no daemon.

The file is replaced atomically, on a worker thread, and never more often than it can be written: of changes that
come while one is being written, only the newest is. It is in memory on most machines, and void after a reboot.
What it looks like to others, and the lock beside it that says whose the pod is: `podlite.kubelet.written_pods`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite import log
from podlite.kubelet.paths import pod_record_dir
from podlite.kubelet.written_pods import NAME, remove_files, take, write_pod

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig


class PodJson:
    """Writes pods' files. `tasks` is where the writer runs, whenever there is something to write."""

    def __init__(self, config: KubeletConfig, tasks: TaskGroup) -> None:
        self._config = config
        self._tasks = tasks
        self._dirty: dict[str, Pod] = {}
        self._removed: set[str] = set()
        self._locks: dict[str, int] = {}
        self._writing = False
        self._idle = anyio.Event()
        self._idle.set()

    def put(self, pod: Pod) -> None:
        """Has the pod written, soon. The pod must not be changed afterwards."""
        uid = pod.metadata.uid
        if uid in self._removed:
            return
        self._dirty[uid] = pod
        if not self._writing:
            self._writing = True
            self._idle = anyio.Event()
            self._tasks.start_soon(self._write_all)

    async def remove(self, uid: str) -> None:
        """Removes a pod's files, and its directory if nothing else is in it; nothing is written from then on."""
        self._removed.add(uid)
        self._dirty.pop(uid, None)
        await self._idle.wait()
        await to_thread.run_sync(self._remove, uid)

    def forget(self, uid: str) -> None:
        """Drops what is kept to keep a removed pod's file from coming back."""
        self._removed.discard(uid)

    async def flush(self) -> None:
        """Returns when everything is written."""
        await self._idle.wait()

    def close(self) -> None:
        """Gives up the pods' locks; whose files are still there has lost its process. Idempotent."""
        while self._locks:
            os.close(self._locks.popitem()[1])

    async def _write_all(self) -> None:
        try:
            while self._dirty:
                pods, self._dirty = self._dirty, {}
                await to_thread.run_sync(self._write, list(pods.values()))
        finally:
            self._writing = False
            self._idle.set()

    def _write(self, pods: list[Pod]) -> None:
        """Blocking."""
        for pod in pods:
            uid = pod.metadata.uid
            directory = pod_record_dir(self._config, uid)
            try:
                if uid not in self._locks:
                    self._locks[uid] = take(directory, self._config)
                write_pod(directory, pod)
            except OSError as error:
                log.warning("a pod's file cannot be written", path=f"{directory}/{NAME}", why=error.strerror or "")

    def _remove(self, uid: str) -> None:
        """Blocking."""
        remove_files(pod_record_dir(self._config, uid))
        fd = self._locks.pop(uid, None)
        if fd is not None:
            os.close(fd)
