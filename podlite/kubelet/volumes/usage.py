"""How much is in a pod's emptyDirs, and whether that is more than they may hold.

Source: localStorageEviction in pkg/kubelet/eviction/eviction_manager.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.kubelet.volumes import layout

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig


def disk_usage(directory: str) -> int:
    """Bytes that the files below a directory take up, each once; in no other filesystem. Blocking, never fails: what
    disappears meanwhile is not counted."""
    try:
        root = os.lstat(directory)
    except OSError:
        return 0
    total = root.st_blocks * 512
    seen: set[int] = set()
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if found.st_dev != root.st_dev or found.st_ino in seen:
                        continue
                    if found.st_nlink > 1:
                        seen.add(found.st_ino)
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue
    return total


def exceeded_limit(pod: Pod, config: KubeletConfig) -> str:
    """The kubelet's eviction message for the first emptyDir that holds more than its sizeLimit, or nothing. Blocking.

    The reason of such an eviction is Evicted, its grace period 1 s.
    """
    for volume in pod.spec.volumes:
        if volume.empty_dir is None or not volume.empty_dir.size_limit:
            continue
        limit = quantity.parse(volume.empty_dir.size_limit)
        if limit.nanos <= 0:
            continue
        directory = layout.volume_dir(config, pod.metadata.uid, layout.EMPTY_DIR, volume.name)
        if disk_usage(directory) > limit.value():
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
    return ""
