"""The files that the kubelet makes for every container itself: /etc/hosts and the termination message.

All of it blocks; all of it lies in the pod's directory and goes with it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from podlite.cri.types import Mount
from podlite.kubelet.hosts_file import HOSTS_PATH, host_network_hosts, pod_hosts
from podlite.kubelet.paths import pod_container_dir, pod_dir
from podlite.kubelet.types import ContainerConfigError, VolumeError
from podlite.linux.fs import make_directory, remove_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.kubelet.hostname import PodNames
    from podlite.kubelet.types import KubeletConfig


def hosts_mount(
    pod: Pod, container: Container, config: KubeletConfig, names: PodNames, pod_ips: Sequence[str]
) -> Mount | None:
    """Writes the pod's /etc/hosts and returns its mount: none if the container mounts something there itself.

    None too as long as the pod has no address, unless it has the host's network. Raises ContainerConfigError.
    """
    host_network = pod.spec.host_network
    if not pod_ips and not host_network:
        return None
    if any(mount.mount_path == HOSTS_PATH for mount in container.volume_mounts):
        return None
    path = f"{pod_dir(config, pod.metadata.uid)}/etc-hosts"
    try:
        if host_network:
            with open(HOSTS_PATH, encoding="utf-8", errors="surrogateescape") as file:
                content = host_network_hosts(file.read(), pod.spec.host_aliases)
        else:
            content = pod_hosts(pod_ips, names.hostname, names.domain, pod.spec.host_aliases)
        _write_in_place(path, content.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise ContainerConfigError(f"the pod's hosts file {path} cannot be written: {error.strerror}") from error
    return Mount(container_path=HOSTS_PATH, host_path=path, selinux_relabel=True)


def _write_in_place(path: str, content: bytes) -> None:
    """Keeps the file that running containers have mounted, and does not touch it while it is right already."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o644)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        fd = os.open(path, flags, 0o644)
    try:
        if os.pread(fd, len(content) + 1, 0) != content:
            os.ftruncate(fd, 0)
            os.pwrite(fd, content, 0)
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)


def termination_log_mount(pod: Pod, container: Container, config: KubeletConfig) -> Mount | None:
    """Makes an empty file for the termination message of the container's next instance, which anyone in it may write.

    None for a container without terminationMessagePath. Raises ContainerConfigError.
    """
    if not container.termination_message_path:
        return None
    path = f"{pod_container_dir(config, pod.metadata.uid, container.name)}/{os.urandom(4).hex()}"
    try:
        _make_file(path)
    except OSError as error:
        raise ContainerConfigError(
            f"the termination message file {path} cannot be made: {error.strerror}",
            hint="the disk is full" if error.errno == errno.ENOSPC else "",
        ) from error
    target = container.termination_message_path
    return Mount(container_path=target if target.startswith("/") else f"/{target}", host_path=path)


def _make_file(path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o666)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        fd = os.open(path, flags, 0o666)
    try:
        os.fchmod(fd, 0o666)
    finally:
        os.close(fd)


def make_log_directory(path: str) -> None:
    """Where the runtime writes the logs of a pod, or of one of its containers. Blocking; idempotent. Raises OSError."""
    make_directory(path, 0o755)


def remove_pod_directory(config: KubeletConfig, uid: str, remove: Callable[[str], None] | None = None) -> None:
    """Removes all that the kubelet keeps of a pod, its volumes included; named volumes stay. Blocking; idempotent.

    `remove` is how a directory without mounts goes, `remove_path` if it is not said.
    Needs no pod, only its UID, so that what a killed podlite left can be removed too. Raises VolumeError.
    """
    if not uid or "/" in uid or uid.startswith("."):
        raise VolumeError(f"{uid!r} is no pod's UID")
    directory = pod_dir(config, uid)
    if os.path.isdir(f"{directory}/volumes") or os.path.isdir(f"{directory}/volume-subpaths"):
        from podlite.kubelet.volumes.manager import tear_down

        return tear_down(config, uid)
    try:
        (remove or remove_path)(directory)
    except OSError as error:
        raise VolumeError(
            f"the files of the pod {uid} cannot be removed: {error.strerror}: {error.filename or directory}",
            reason="FailedKillPod",
        ) from error


def make_directories(path: str) -> None:
    """A directory that only root and its group can enter, and those above it that are missing. Blocking; idempotent.

    Raises OSError. (os.makedirs gives the mode to the last one only.)
    """
    try:
        os.mkdir(path, 0o750)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        try:
            os.mkdir(path, 0o750)
        except FileExistsError:
            pass
