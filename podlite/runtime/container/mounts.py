"""The plan of what a container sees of files: a pure function from its configuration to mount operations.

The operations are those of `podlite.runtime.shim.rootfs`, in the order in which they are attached. Those that need
something of the host are given as sources, which `open_sources` turns into detached mounts; an operation names its
source by index.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.cri.errors import CRIError
from podlite.cri.types import Mount, MountPropagation
from podlite.linux import mounts
from podlite.linux.paths import open_in_root
from podlite.linux.syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
)
from podlite.runtime.shim.names import CGROUPS_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Operation = dict[str, Any]

_SAFE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_PROPAGATION = {
    MountPropagation.PROPAGATION_PRIVATE: MS_PRIVATE,
    MountPropagation.PROPAGATION_HOST_TO_CONTAINER: MS_SLAVE,
    MountPropagation.PROPAGATION_BIDIRECTIONAL: MS_SHARED,
}
# Where containerd and CRI-O put the pod's files; a mount of the user's on the same path takes their place.
_POD_FILES = ("/etc/hostname", "/etc/resolv.conf", "/etc/hosts")


class Source(msgspec.Struct, frozen=True):
    """Something of the host to bind: `propagation` is MS_PRIVATE, MS_SLAVE or MS_SHARED.

    With `layers`, it is not a path but the files of an image, from these directories, the top one first; `sub_path` is
    what of it is meant, and `path` its name. `mapped`: in a pod with users of its own its files must be shown with
    their ids; others are where that can be. `make`: where there is nothing, a directory is made.
    """

    path: str
    layers: tuple[str, ...] = ()
    sub_path: str = ""
    read_only: bool = False
    recursive_read_only: bool = False
    propagation: int = MS_PRIVATE
    recursive: bool = True
    mapped: bool = False
    make: bool = False


class Plan(msgspec.Struct):
    """The operations in order, and the sources that they name by index."""

    operations: list[Operation]
    sources: list[Source]


class Machine(msgspec.Struct, kw_only=True):
    """What of the machine and the pod the container's view of the kernel depends on.

    `cgroups` are (name below /sys/fs/cgroup, host directory) pairs: for cgroup v1 one per hierarchy, for v2 one
    with an empty name. `shm` is the pod's /dev/shm in the shim's mount namespace, or empty for the host's. `scratch` is
    where that namespace has what containers share, empty for one that could change it.
    """

    shm: str
    scratch: str
    cgroups: list[tuple[str, str]]
    devices: list[Operation]
    device_nodes: bool
    privileged: bool
    terminal: bool


class View(Machine, kw_only=True):
    """What else, of the image too, the plan depends on: `files` are the pod's own by their path in the container."""

    image_binds: list[tuple[str, str]]
    files: dict[str, str]
    working_dir: str
    host_pid: bool = False
    masked_paths: list[str]
    readonly_paths: list[str]


def plan(view: View, user_mounts: list[Mount], images: Mapping[str, Sequence[str]] | None = None) -> Plan:
    """The mounts of one container. Pure. `images` are the layers of those that it mounts, the top one first."""
    operations: list[Operation] = []
    sources: list[Source] = []
    taken = taken_paths(user_mounts)

    def bind(source: Source, to: str) -> None:
        operations.append({"op": "bind", "to": to, "fd": len(sources), "from": source.path})
        sources.append(source)

    for host, to in view.image_binds:
        bind(Source(host, read_only=True, recursive_read_only=True), to)
    operations.extend(kernel_mounts(view, taken))
    for to in _POD_FILES:
        if to in view.files and to not in taken:
            bind(Source(view.files[to], recursive=False), to)
    if not view.shm and "/dev" not in taken and "/dev/shm" not in taken:
        bind(Source("/dev/shm", recursive=False), "/dev/shm")
    # A mount inside another one comes after it (stable, so that equals stay in the order they were given).
    for mount in sorted(user_mounts, key=lambda each: _clean(each.container_path).count("/")):
        bind(_source_of(mount, images or {}), _clean(mount.container_path))
    if not view.privileged:
        operations.extend({"op": "mask", "to": path} for path in view.masked_paths)
        operations.extend({"op": "ro", "to": path} for path in view.readonly_paths)
    operations.append({"op": "mkdir", "to": view.working_dir})
    return Plan(operations, sources)


def _source_of(mount: Mount, images: Mapping[str, Sequence[str]]) -> Source:
    if mount.image is not None:
        layers = tuple(images[mount.image.image])
        return Source(f"image {mount.image.image}", layers, mount.image_sub_path, read_only=True)
    return Source(
        mount.host_path,
        read_only=mount.readonly,
        recursive_read_only=mount.recursive_read_only,
        propagation=_PROPAGATION[mount.propagation],
        mapped=bool(mount.uidMappings),
        # As docker, containerd and CRI-O have it: manifests rely on it (hostPath without a type).
        make=True,
    )


def taken_paths(user_mounts: list[Mount]) -> set[str]:
    """Where the container's own mounts are: nothing else is mounted there. Pure."""
    return {_clean(mount.container_path) for mount in user_mounts}


def kernel_mounts(view: Machine, taken: set[str]) -> list[Operation]:
    """/proc, /dev and /sys with what is in them, as far as they need no source. Pure."""
    operations: list[Operation] = []
    if "/proc" not in taken:
        operations.append({"op": "fs", "type": "proc", "to": "/proc", "attr": _SAFE})
    if "/dev" not in taken:
        operations.extend(_dev(view, taken))
    sys_attributes = _SAFE if view.privileged else _SAFE | MOUNT_ATTR_RDONLY
    if "/sys" not in taken:
        operations.append({"op": "fs", "type": "sysfs", "to": "/sys", "attr": sys_attributes})
        if "/sys/fs/cgroup" not in taken:
            operations.extend(_cgroups(view, sys_attributes))
    return operations


def _dev(view: Machine, taken: set[str]) -> list[Operation]:
    result: list[Operation] = [
        {"op": "dev", "nodes": view.device_nodes, "devices": view.devices, "console": view.terminal},
        {"op": "pts", "to": "/dev/pts"},
        {"op": "fs", "type": "mqueue", "to": "/dev/mqueue", "attr": _SAFE},
    ]
    if view.shm and "/dev/shm" not in taken:
        result.append({"op": "path", "from": view.shm, "to": "/dev/shm", "attr": _SAFE})
    return result


def _cgroups(view: Machine, attributes: int) -> list[Operation]:
    if not view.cgroups:
        return []
    if view.cgroups[0][0] == "":
        return [{"op": "path", "from": view.cgroups[0][1], "to": "/sys/fs/cgroup", "attr": attributes}]
    top = "/sys/fs/cgroup"
    names = [name for name, _ in view.cgroups]
    mounted: list[Operation] = [
        {"op": "path", "from": directory, "to": f"{top}/{name}", "attr": attributes} for name, directory in view.cgroups
    ]
    if view.scratch:
        # A file system for nothing but mount points is one more that the kernel walks for each memory cgroup that goes.
        shared = f"{view.scratch}/{CGROUPS_DIRECTORY}-{'+'.join(names)}"
        return [{"op": "names", "from": shared, "names": names, "to": top, "attr": attributes}, *mounted]
    own = {"op": "fs", "type": "tmpfs", "to": top, "attr": _SAFE, "options": {"mode": "755", "size": "64k"}}
    read_only = [{"op": "ro", "to": top}] if attributes & MOUNT_ATTR_RDONLY else []
    return [own, *mounted, *read_only]


def _clean(path: str) -> str:
    """An absolute path without doubled or trailing slashes, `.` and `..`."""
    return os.path.normpath("/" + path.lstrip("/"))


def open_sources(sources: list[Source], *, devices: bool, user_namespace: int = -1) -> list[int]:
    """The detached mounts of these sources, as fds, in order. Blocking.

    Without `devices`, device nodes on them do not work. `user_namespace` is a descriptor of the pod's, if it has one.
    Raises CRIError, all of them closed again.
    """
    fds: list[int] = []
    try:
        for source in sources:
            # Not a comprehension: what has been opened by the time of a failure is closed below.
            fds.append(_open_source(source, devices=devices))
            if user_namespace >= 0:
                _map_ids(source, fds[-1], user_namespace)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _open_source(source: Source, *, devices: bool) -> int:
    try:
        if source.make and not os.path.lexists(source.path):
            os.makedirs(source.path, mode=0o755, exist_ok=True)
        fd = _image(source) if source.layers else mounts.clone(source.path, recursive=source.recursive)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise CRIError(f"{source.path} cannot be mounted: there is no such file or directory") from None
        raise CRIError(f"{source.path} cannot be mounted: {error.strerror}") from error
    try:
        if source.propagation == MS_SHARED:
            # The clone is in the peer group of what it is a clone of, if that is in one.
            _check_shared(source.path)
        else:
            # A clone of a shared mount is its peer: what the container mounts below it would appear on the host.
            mounts.set_attributes(fd, 0, recursive=source.recursive, propagation=source.propagation)
        attributes = MOUNT_ATTR_RDONLY if source.read_only else 0
        if attributes:
            mounts.set_attributes(fd, attributes, recursive=source.recursive_read_only)
        if not devices:
            mounts.set_attributes(fd, MOUNT_ATTR_NODEV, recursive=source.recursive)
    except OSError as error:
        os.close(fd)
        raise CRIError(f"the mount of {source.path} cannot be configured: {error.strerror}") from error
    return fd


def _check_shared(path: str) -> None:
    if not mounts.is_shared(path):
        raise CRIError(
            f"{path} cannot be mounted with Bidirectional propagation: it does not lie on a shared mount",
            hint=f"mount --make-shared what it lies on (findmnt -T {path})",
        )


def _map_ids(source: Source, fd: int, user_namespace: int) -> None:
    try:
        mounts.map_ids(fd, user_namespace)
    except OSError as error:
        if source.mapped:
            raise CRIError(
                f"{source.path} cannot be mounted with the ids of the pod's users: {error.strerror}",
                hint="its file system has no id-mapped mounts: use another one, or leave hostUsers out",
            ) from error


def _image(source: Source) -> int:
    """A detached, read-only mount of an image's files, or of a directory or file in them."""
    if len(source.layers) == 1:
        whole = mounts.clone(source.layers[0])
    else:
        whole = mounts.new_overlay(list(source.layers), attributes=MOUNT_ATTR_RDONLY)
    if not source.sub_path:
        return whole
    try:
        found = open_in_root(whole, source.sub_path, os.O_PATH)
        try:
            return mounts.clone("", dir_fd=found)
        finally:
            os.close(found)
    finally:
        os.close(whole)
