"""Sets up, updates and takes down the volumes of pods.

Everything lies below the pod's directory, under the kubelet's names, and nothing else is remembered: any podlite
can go on where another one was killed. One pod's volumes are worked on by one thread at a time, which is not the
event loop's.

Source: pkg/kubelet/volumemanager and pkg/volume/util/operationexecutor, Kubernetes 1.36.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from podlite.kubelet.paths import pod_dir
from podlite.kubelet.pod_files import remove_pod_directory
from podlite.kubelet.types import KubeletError, VolumeError
from podlite.kubelet.volumes import layout
from podlite.kubelet.volumes.context import Context
from podlite.linux.fs import remove_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podlite.api.pod import Pod
    from podlite.api.volumes import Volume
    from podlite.kubelet.types import KubeletConfig, ObjectStore

    # Records an event of the pod: its type, reason and message.
    Record = Callable[[str, str, str], None]

# How long the kubelet waits before it tries a volume again: 500 ms, doubled each time, up to this.
FIRST_RETRY, MAX_RETRY = 0.5, 122.0

# Field of a volume → the module that sets it up. An image is the runtime's to mount.
_PLUGINS = {
    "empty_dir": "empty_dir",
    "host_path": "host_path",
    "config_map": "config_map",
    "secret": "secret",
    "downward_api": "downward_api",
    "projected": "projected",
    "persistent_volume_claim": "local",
}


class VolumesNotReady(VolumeError):
    """Some volumes of a pod cannot be set up now.

    `problems` has the message of a FailedMount event for each, by volume; `retry_after` is when to try again, in
    seconds, as the kubelet would.
    """

    def __init__(self, problems: dict[str, str], retry_after: float, *, hint: str = "") -> None:
        self.problems = problems
        self.retry_after = retry_after
        super().__init__("; ".join(problems.values()), hint=hint)


class VolumeManager:
    """The volumes of this kubelet's pods. For the event loop's thread; the work is done on others."""

    def __init__(self, config: KubeletConfig, objects: ObjectStore) -> None:
        self._config = config
        self._objects = objects
        self._locks: dict[str, anyio.Lock] = {}
        self._failures: dict[str, int] = {}

    async def set_up(self, pod: Pod, record: Record | None = None) -> dict[str, str]:
        """Sets up all volumes of a pod; idempotent. Returns volume name → path on the host, without image volumes.

        `record` gets an event while changing the ownership of a large volume goes on. Raises VolumesNotReady when
        those that could be set up are. A cancelled call waits for what is being done.
        """
        if not pod.spec.volumes:
            return {}
        paths, problems, hint = await self._in_thread(pod, _set_up, pod.spec.volumes, record)
        uid = pod.metadata.uid
        if not problems:
            self._failures.pop(uid, None)
            return paths
        failures = self._failures[uid] = self._failures.get(uid, 0) + 1
        raise VolumesNotReady(problems, min(FIRST_RETRY * 2 ** min(failures - 1, 16), MAX_RETRY), hint=hint)

    async def update(self, pod: Pod) -> None:
        """Brings volumes that show ConfigMaps, Secrets or the pod itself up to date; the others stay as they are.

        Raises VolumesNotReady; containers keep seeing what they saw.
        """
        volumes = [volume for volume in pod.spec.volumes if layout.is_projection(volume)]
        if not volumes:
            return
        _, problems, hint = await self._in_thread(pod, _set_up, volumes, None)
        if problems:
            raise VolumesNotReady(problems, FIRST_RETRY, hint=hint)

    async def tear_down(self, uid: str) -> None:
        """Removes a pod's volumes and its directory; named volumes stay. Idempotent; needs no pod, only its UID.

        Raises VolumeError if something cannot be removed; what could is gone then.
        """
        self._failures.pop(uid, None)
        lock = self._locks.setdefault(uid, anyio.Lock())
        async with lock:
            await anyio.to_thread.run_sync(remove_pod_directory, self._config, uid)
        self._locks.pop(uid, None)

    async def _in_thread(
        self, pod: Pod, function: Callable[..., Result], volumes: list[Volume], record: Record | None
    ) -> Result:
        lock = self._locks.setdefault(pod.metadata.uid, anyio.Lock())
        async with lock:
            return await anyio.to_thread.run_sync(
                function, pod, volumes, self._config, self._objects, _from_thread(record)
            )


if TYPE_CHECKING:
    # Path by volume; message by volume that could not be set up; a hint.
    Result = tuple[dict[str, str], dict[str, str], str]


def _from_thread(record: Record | None) -> Record | None:
    """Events belong to the event loop's thread."""
    if record is None:
        return None
    import anyio.from_thread

    def call(type: str, reason: str, message: str) -> None:
        anyio.from_thread.run_sync(record, type, reason, message)

    return call


def _set_up(
    pod: Pod, volumes: list[Volume], config: KubeletConfig, objects: ObjectStore, record: Record | None
) -> Result:
    paths: dict[str, str] = {}
    problems: dict[str, str] = {}
    hint = ""
    for volume in volumes:
        if volume.image is not None:
            continue
        context = Context(pod, volume, config, objects, _progress(pod, volume, record))
        try:
            paths[volume.name] = _set_up_one(context)
        except KubeletError as error:
            problems[volume.name] = f'MountVolume.SetUp failed for volume "{volume.name}" : {error.message}'
            hint = hint or error.hint
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            problems[volume.name] = f'MountVolume.SetUp failed for volume "{volume.name}" : {error.strerror}{where}'
    return paths, problems, hint


def _set_up_one(context: Context) -> str:
    for field, module in _PLUGINS.items():
        if getattr(context.volume, field) is not None:
            plugin = importlib.import_module(f"podlite.kubelet.volumes.{module}")
            path: str = plugin.set_up(context)
            return path
    raise KubeletError("no volume plugin matched", hint="this kind of volume needs a cluster or a storage driver")


def _progress(pod: Pod, volume: Volume, record: Record | None) -> Callable[[int], None] | None:
    if record is None:
        return None
    reason = "VolumePermissionChangeInProgress"
    about = f"Setting volume ownership for {pod.metadata.uid}/volumes/{volume.name}"
    told = False

    def progress(count: int) -> None:
        nonlocal told
        if told:
            record("Warning", reason, f"{about}, processed {count} files.")
        else:
            told = True
            record(
                "Warning",
                reason,
                f"{about} is taking longer than expected, consider using OnRootMismatch - https://kubernetes.io/docs/"
                "tasks/configure-pod-container/security-context/"
                "#configure-volume-permission-and-ownership-change-policy-for-pods",
            )

    return progress


def tear_down(config: KubeletConfig, uid: str) -> None:
    """Removes a pod's volumes and directory, whoever made them. Blocking; idempotent. Raises VolumeError.

    `pod_files.remove_pod_directory` does the same, without loading this package for pods without volumes.
    """
    from podlite.kubelet.volumes import subpath, tmpfs

    directory = pod_dir(config, uid)
    problem = ""
    try:
        subpath.clean(layout.sub_paths_dir(config, uid))
        for path in _mount_points(config, uid):
            tmpfs.unmount(path)
    except OSError as error:
        problem = f"{error.strerror}: {error.filename or directory}"
    try:
        # Enters no mount: what could not be unmounted is not emptied.
        remove_path(directory)
    except OSError as error:
        problem = problem or f"{error.strerror}: {error.filename or directory}"
    if problem:
        raise VolumeError(f"the volumes of the pod {uid} cannot be taken down: {problem}", reason="FailedKillPod")


def _mount_points(config: KubeletConfig, uid: str) -> Iterator[str]:
    for plugin in layout.PLUGINS:
        directory = f"{layout.volumes_dir(config, uid)}/{plugin}"
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            continue
        for name in names:
            yield f"{directory}/{name}"


def pods_with_volumes(config: KubeletConfig) -> list[str]:
    """The UIDs of all pods that have a directory, whoever runs them: those that nobody runs are to be torn down.

    Blocking. Raises OSError.
    """
    try:
        return sorted(name for name in os.listdir(f"{config.state_dir}/pods") if not name.startswith("."))
    except FileNotFoundError:
        return []
