"""Each pod's manifest and status as a file, `<run dir>/pods/<uid>/pod.json`: other terminals see it with no daemon.

The file is replaced atomically, on a worker thread, and never more often than it can be written: of changes that
come while one is being written, only the newest is. It is in memory on most machines, and void after a reboot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread

from podlite import log
from podlite.kubelet.paths import pod_record_dir
from podlite.linux.fs import replace_file

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig

NAME = "pod.json"


class PodJson:
    """Writes pods' files. `tasks` is where the writer runs, whenever there is something to write."""

    def __init__(self, config: KubeletConfig, tasks: TaskGroup) -> None:
        self._config = config
        self._tasks = tasks
        self._dirty: dict[str, Pod] = {}
        self._removed: set[str] = set()
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
        """Removes a pod's file, and its directory if nothing else is in it; nothing is written from then on."""
        self._removed.add(uid)
        self._dirty.pop(uid, None)
        await self._idle.wait()
        await to_thread.run_sync(_remove, pod_record_dir(self._config, uid))

    def forget(self, uid: str) -> None:
        """Drops what is kept to keep a removed pod's file from coming back."""
        self._removed.discard(uid)

    async def flush(self) -> None:
        """Returns when everything is written."""
        await self._idle.wait()

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
            directory = pod_record_dir(self._config, pod.metadata.uid)
            try:
                write_pod(directory, pod)
            except OSError as error:
                log.warning("a pod's file cannot be written", path=f"{directory}/{NAME}", why=error.strerror or "")


def write_pod(directory: str, pod: Pod) -> None:
    """Blocking. Raises OSError."""
    os.makedirs(directory, mode=0o711, exist_ok=True)
    data = msgspec.json.encode(pod)
    replace_file(f"{directory}/{NAME}", data, scratch=f"{directory}/.{NAME}", durable=False)


def read_pod(path: str) -> Pod:
    """The pod in a file. Blocking. Raises OSError, and ValueError for what is no pod."""
    from podlite.api.decode import from_builtins
    from podlite.api.pod import Pod
    from podlite.linux.fs import read_file

    try:
        return from_builtins(msgspec.json.decode(read_file(path)), Pod)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_pods(run_dir: str) -> list[Pod]:
    """Every pod that any podlite with this run directory has written down, unreadable files left out. Blocking."""
    pods = []
    try:
        uids = sorted(os.listdir(f"{run_dir}/pods"))
    except OSError:
        return []
    for uid in uids:
        try:
            pods.append(read_pod(f"{run_dir}/pods/{uid}/{NAME}"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            log.warning("a pod's file cannot be read", path=f"{run_dir}/pods/{uid}/{NAME}", why=str(error))
    return pods


def _remove(directory: str) -> None:
    """Blocking."""
    for name in (NAME, f".{NAME}"):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(directory)
    except OSError:
        pass  # the runtime's record is in it, and goes with the sandbox
