"""What an earlier boot has left on disk: pods end with the machine, but volumes, logs and writable layers stay.

The run directory is in memory on most machines, so what tells a leftover is the state directory: the kubelet side
keeps a directory there for each pod while it has one. Everything here blocks.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from podlite.kubelet.container_gc import orphaned_log_directories
from podlite.linux.fs import remove_path
from podlite.linux.trash import abandoned

if TYPE_CHECKING:
    from podlite.agent.node import NodeOptions
    from podlite.runtime.layout import Layout


class Leftovers(msgspec.Struct):
    """`pods` are the UIDs of pods whose directories are left; the others are paths."""

    pods: list[str] = []
    logs: list[str] = []
    layers: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.pods or self.logs or self.layers)


def find_leftovers(layout: Layout) -> Leftovers:
    """What is older than this boot. Logs are taken for ours only where the pod's own directory says so."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = Leftovers()
    for uid in _names(f"{layout.state_dir}/pods"):
        known = os.path.exists(f"{layout.pods_dir}/{uid}")
        if not known and os.stat(f"{layout.state_dir}/pods/{uid}").st_mtime < booted:
            found.pods.append(uid)
    ours = set(found.pods)
    everybody = orphaned_log_directories(layout.log_dir, ())
    found.logs = [path for path in everybody if path.rpartition("_")[2] in ours]
    parent, current = os.path.split(layout.containers_dir)
    found.layers = [f"{parent}/{name}" for name in _names(parent) if name != current]
    found.layers += abandoned(layout.trash_dir)
    return found


def remove_leftovers(options: NodeOptions, found: Leftovers) -> None:
    """Removes them; the pods' directories last, for they say whose the logs are. Idempotent.

    Raises OSError, VolumeError.
    """
    from podlite.agent.node import kubelet_config
    from podlite.kubelet.pod_files import remove_pod_directory

    for path in (*found.layers, *found.logs):
        remove_path(path)
    for uid in found.pods:
        remove_pod_directory(kubelet_config(options), uid)


def disk_usage(path: str) -> int:
    """The bytes of disk that a tree takes, without following links or leaving its file system; 0 without one."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    total = status.st_blocks * 512
    stack = [path] if os.path.isdir(path) and not os.path.islink(path) else []
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_dev != status.st_dev:
                        continue
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:
            continue  # removed meanwhile
    return total


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
