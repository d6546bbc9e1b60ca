"""emptyDir: a directory that lives as long as the pod, on the disk or in memory.

Its sizeLimit is a limit for a tmpfs; on the disk the kubelet looks now and then, and evicts the pod (`usage`).

Source: pkg/volume/emptydir/empty_dir.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes import layout, tmpfs
from podlite.kubelet.volumes.context import make_directory, memory_directory, set_group_once

if TYPE_CHECKING:
    from podlite.kubelet.volumes.context import Context


def set_up(context: Context) -> str:
    """The volume's directory. Blocking; idempotent. Raises OSError, KubeletError."""
    source = context.volume.empty_dir
    assert source is not None
    directory = context.directory(layout.EMPTY_DIR)
    if source.medium == "":
        new = make_directory(directory)
    elif source.medium == "Memory":
        new = memory_directory(context, directory, source.size_limit)
    elif source.medium == "HugePages" or source.medium.startswith("HugePages-"):
        make_directory(directory)
        new = _mount_huge_pages(context, directory, source.medium)
    else:
        raise KubeletError(f'unknown storage medium "{source.medium}"')
    set_group_once(context, directory, new=new)
    return directory


def _mount_huge_pages(context: Context, directory: str, medium: str) -> bool:
    from podlite.kubelet.resources import hugepage_size
    from podlite.linux.syscalls import mount

    if tmpfs.is_mounted(directory):
        return False
    spec = context.pod.spec
    requested = {
        hugepage_size(name)
        for container in (*spec.containers, *spec.init_containers)
        for name in container.resources.requests
        if name.startswith("hugepages-")
    }
    if medium != "HugePages":
        requested &= {hugepage_size("hugepages-" + medium.removeprefix("HugePages-"))}
    elif len(requested) > 1:
        raise KubeletError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    if not requested:
        raise KubeletError(
            f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    mount("nodev", directory, "hugetlbfs", 0, f"pagesize={requested.pop()}")
    return True
