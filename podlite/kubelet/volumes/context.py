"""What the volume plugins are given, and what they have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from podlite.api import quantity
from podlite.kubelet import node
from podlite.kubelet.pod_files import make_directories
from podlite.kubelet.resources import pod_resources
from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes import layout, tmpfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.pod import Pod
    from podlite.api.volumes import Volume
    from podlite.kubelet.types import KubeletConfig, ObjectStore


class Context(NamedTuple):
    """One volume of one pod. `progress` gets the number of files whose group has been changed, if that takes long."""

    pod: Pod
    volume: Volume
    config: KubeletConfig
    objects: ObjectStore
    progress: Callable[[int], None] | None = None

    def directory(self, plugin: str) -> str:
        return layout.volume_dir(self.config, self.pod.metadata.uid, plugin, self.volume.name)

    @property
    def fs_group(self) -> int | None:
        context = self.pod.spec.security_context
        return None if context is None else context.fs_group


def make_directory(path: str, mode: int = 0o777) -> bool:
    """A directory with exactly these permissions whatever the umask is, and its parents; one that is there stays as
    it is, and the result is False. Blocking. Raises OSError."""
    if os.path.isdir(path):
        return False
    parent, name = os.path.split(path)
    # Under another name until its permissions are right: then it is either complete or not there.
    scratch = f"{parent}/.{name}"
    try:
        os.mkdir(scratch)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_directories(parent)
        os.mkdir(scratch)
    os.chmod(scratch, mode)
    os.rename(scratch, path)
    return True


def set_group_once(context: Context, directory: str, *, new: bool = False, on_root_mismatch: bool = False) -> None:
    """Gives a volume to the pod's fsGroup, the first time that it is set up for the pod: what the pod does to its
    files afterwards stays. A `new` directory has not been given yet, whatever was there before a reboot. Blocking;
    idempotent. Raises OSError."""
    if context.fs_group is None:
        return
    ready = layout.ready_file(context.config, context.pod.metadata.uid, context.volume.name)
    if not new and os.path.exists(ready):
        return
    from podlite.kubelet.volumes.ownership import set_ownership

    set_ownership(directory, context.fs_group, on_root_mismatch=on_root_mismatch, progress=context.progress)
    make_directories(os.path.dirname(ready))
    os.close(os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def memory_directory(context: Context, path: str, size_limit: str | None = None) -> bool:
    """A directory in memory, or on the disk where that cannot be; False if it was there. Blocking. Raises OSError."""
    new = make_directory(path)
    if not new and tmpfs.is_mounted(path):
        return False
    return tmpfs.mount_tmpfs(path, memory_size(context, size_limit)) or new


def memory_size(context: Context, size_limit: str | None = None) -> int:
    """Bytes: what is least of the volume's own limit, the pod's memory limit, and what the machine has."""
    size = node.memory_capacity(context.config)
    for limit in (
        pod_resources(context.pod, context.config).memory_limit_in_bytes,
        quantity.parse(size_limit).value() if size_limit else 0,
    ):
        if 0 < limit <= size:
            size = limit
    return size


def make_nested_mount_points(context: Context, directory: str) -> None:
    """Directories in a volume for the volumes that some container mounts inside of it: a read-only one could not
    have them made later. Blocking; idempotent. Raises KubeletError."""
    try:
        for path in nested_mount_points(context.pod, context.volume.name):
            os.makedirs(f"{directory}/{path}", mode=0o755, exist_ok=True)
    except OSError as error:
        raise KubeletError(
            f"unable to create nested volume mountpoints: mkdir {error.filename}: {error.strerror}"
        ) from error


def nested_mount_points(pod: Pod, volume: str) -> list[str]:
    """Where, relative to the volume, others are mounted directly inside of it. Pure. Raises KubeletError."""
    spec = pod.spec
    result: list[str] = []
    for container in (*spec.init_containers, *spec.containers, *spec.ephemeral_containers):
        mounts = [(os.path.normpath(mount.mount_path), mount.name) for mount in container.volume_mounts]
        every = sorted(path for path, _ in mounts)
        for outer in [path for path, name in mounts if name == volume]:
            if outer == ".." or outer.startswith("../"):
                raise KubeletError(f"invalid container mount point {outer}")
            prefix = outer.rstrip("/") + "/"
            direct: list[str] = []
            for inner in every:
                if inner.startswith(prefix) and not any(inner.startswith(f"{each}/") for each in direct):
                    direct.append(inner)
                    result.append(inner[len(prefix) :])
    return [path for path in dict.fromkeys(result) if path]
