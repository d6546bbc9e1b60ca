"""Each pod's manifest and status as a file, `<run dir>/pods/<uid>/pod.json`, and beside it its events: other terminals
see them with no daemon.

A file is replaced atomically, on a worker thread, and no more often than every few milliseconds: of changes that
come meanwhile only the newest is written. It is in memory on most machines, and void after a reboot. What it looks
like to others, and the lock beside it that says whose the pod is: `podlite.kubelet.written_pods`.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import anyio

from podlite import blocking, log
from podlite.kubelet.clock import Wake
from podlite.kubelet.paths import pod_record_dir
from podlite.kubelet.written_pods import NAME, remove_files, take, write_events, write_pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup

    from podlite.api.events import Event
    from podlite.api.pod import Pod
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.types import KubeletConfig

# What a person cannot see, and what many short pods spare the disk: most of them are over by then.
_PERIOD = 0.05


class PodJson:
    """Writes pods' files. `tasks` is where the writer runs, whenever there is something to write; `events` says what
    happened to a pod."""

    def __init__(
        self, config: KubeletConfig, tasks: TaskGroup, clock: Clock, events: Callable[[str], list[Event]] | None = None
    ) -> None:
        self._config = config
        self._events = events or (lambda uid: [])
        self._tasks = tasks
        self._clock = clock
        self._dirty: dict[str, Pod] = {}
        self._told: set[str] = set()
        self._hurry = Wake()
        self._idle: anyio.Event | None = None
        # What follows belongs to whoever holds the lock, on whatever thread.
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._removed: set[str] = set()
        self._forgotten: set[str] = set()

    def put(self, pod: Pod) -> None:
        """Has the pod written, soon. The pod must not be changed afterwards."""
        uid = pod.metadata.uid
        if uid in self._removed:
            return
        self._dirty[uid] = pod
        self._begin()

    def put_events(self, uid: str) -> None:
        """Has the pod's events written, soon, and after the pod. Of an unknown pod nothing is written."""
        if uid not in self._removed:
            self._told.add(uid)
            self._begin()

    def _begin(self) -> None:
        if self._idle is None:
            self._idle = anyio.Event()
            self._tasks.start_soon(self._write_all, self._idle)

    def write_now(self, uid: str) -> None:
        """Writes what is to be written of a pod: nothing is made for a pod before it is written down. Blocking."""
        pod = self._dirty.pop(uid, None)
        if pod is not None:
            self._write_pods([pod])

    def hold(self, uids: Iterable[str]) -> list[str]:
        """Takes the locks of pods that are written down already; returns whose could not be had. Blocking."""
        missed = []
        for uid in uids:
            with self._lock:
                if uid in self._held:
                    continue
                try:
                    self._held[uid] = take(pod_record_dir(self._config, uid), self._config)
                except OSError as error:
                    log.warning("a pod's lock cannot be taken", uid=uid, why=error.strerror or "")
                    missed.append(uid)
        return missed

    def remove(self, uid: str) -> None:
        """Removes a pod's files, and its directory if nothing else is in it; nothing is written from then on.

        Blocking. Raises OSError.
        """
        self._dirty.pop(uid, None)
        with self._lock:
            self._removed.add(uid)
            self._versions.pop(uid, None)
            remove_files(pod_record_dir(self._config, uid))
            fd = self._held.pop(uid, None)
            if fd is not None:
                os.close(fd)

    def forget(self, uid: str) -> None:
        """Drops, once no write is under way, what keeps a removed pod's file from coming back."""
        self._forgotten.add(uid)
        if self._idle is None:
            self._forget()

    def _forget(self) -> None:
        self._removed -= self._forgotten
        self._forgotten.clear()

    async def flush(self) -> None:
        """Returns when everything is written."""
        while self._idle is not None:
            self._hurry.set()
            await self._idle.wait()

    def close(self) -> None:
        """Gives up the pods' locks; whose files are still there has lost its process. Idempotent."""
        while self._held:
            os.close(self._held.popitem()[1])

    async def _write_all(self, idle: anyio.Event) -> None:
        try:
            while self._dirty or self._told:
                with self._clock.timeout(_PERIOD):
                    await self._hurry.wait()
                pods, self._dirty = self._dirty, {}
                events, self._told = {uid: self._events(uid) for uid in self._told}, set()
                if pods or events:
                    await blocking.run(self._write, list(pods.values()), events)
            self._forget()
        finally:
            self._idle = None
            idle.set()

    def _write(self, pods: list[Pod], events: dict[str, list[Event]]) -> None:
        """Blocking."""
        self._write_pods(pods)
        for uid, every in events.items():
            directory = pod_record_dir(self._config, uid)
            with self._lock:
                if uid in self._removed or uid not in self._held:
                    continue
                try:
                    write_events(directory, every)
                except OSError as error:
                    log.warning("a pod's events cannot be written", path=directory, why=error.strerror or "")

    def _write_pods(self, pods: list[Pod]) -> None:
        for pod in pods:
            uid, version = pod.metadata.uid, int(pod.metadata.resource_version or 0)
            directory = pod_record_dir(self._config, uid)
            with self._lock:
                if uid in self._removed or version < self._versions.get(uid, 0):
                    continue
                try:
                    if uid not in self._held:
                        self._held[uid] = take(directory, self._config)
                    write_pod(directory, pod)
                    self._versions[uid] = version
                except OSError as error:
                    log.warning("a pod's file cannot be written", path=f"{directory}/{NAME}", why=error.strerror or "")
