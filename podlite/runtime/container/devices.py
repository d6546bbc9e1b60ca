"""The device nodes that a container is to have of the host's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from podlite.cri.types import Device

# What runc and containerd pass over in a directory: file systems of their own, and what others keep there.
_NOT_ENTERED = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))


def device_nodes(devices: Iterable[Device]) -> Iterator[Device]:
    """The devices, each directory of them replaced by the device nodes in it, as other runtimes have it. Blocking.

    Raises OSError for what is not there. What is neither a device nor a directory is given on as it is.
    """
    for device in devices:
        if os.path.isdir(device.host_path):
            yield from _inside(device.host_path, device.container_path or device.host_path, device.permissions)
        else:
            yield device


def _inside(host: str, container: str, permissions: str) -> Iterator[Device]:
    with os.scandir(host) as entries:
        found = sorted(entries, key=lambda each: each.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_ENTERED:
                yield from _inside(entry.path, f"{container}/{entry.name}", permissions)
        elif entry.name != "console" and _is_device(entry):
            yield Device(host_path=entry.path, container_path=f"{container}/{entry.name}", permissions=permissions)


def _is_device(entry: os.DirEntry[str]) -> bool:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
