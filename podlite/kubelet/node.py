"""What this machine has to give: its CPUs, memory, disk and huge pages. Looked up once, for it costs files to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podlite.kubelet.field_refs import Allocatable
    from podlite.kubelet.types import KubeletConfig

_NANO = 10**9
_HUGE_PAGES = "/sys/kernel/mm/hugepages"
_CGROUP_MOUNT = "/sys/fs/cgroup"

_memory = 0
_huge_pages: dict[int, int] | None = None
_cgroup_v2: bool | None = None


def memory_capacity(config: KubeletConfig) -> int:
    """Bytes of memory: the configured figure, or what the kernel says. Blocking."""
    global _memory
    if config.memory_bytes:
        return config.memory_bytes
    if not _memory:
        with open("/proc/meminfo", encoding="utf-8") as file:
            _memory = int(file.readline().split()[1]) * 1024
    return _memory


def cpu_capacity(config: KubeletConfig) -> int:
    """How many CPUs: the configured figure, or those of the machine."""
    return config.cpu_count or os.cpu_count() or 1


def allocatable(config: KubeletConfig) -> Allocatable:
    """What pods may have, in billionths, by resource name: all of it, for nothing is reserved here. Blocking."""
    disk = 0
    for path in (config.state_dir, os.path.dirname(config.state_dir), "/"):
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        disk = found.f_blocks * found.f_frsize
        break
    result = {
        "cpu": cpu_capacity(config) * _NANO,
        "memory": memory_capacity(config) * _NANO,
        "ephemeral-storage": disk * _NANO,
    }
    for size, pages in huge_pages().items():
        result[f"hugepages-{_binary(size)}"] = size * pages * _NANO
    return result


def huge_pages() -> dict[int, int]:
    """Page size in bytes → how many there are, for each size the kernel has. Blocking the first time."""
    global _huge_pages
    if _huge_pages is None:
        found: dict[int, int] = {}
        try:
            for name in os.listdir(_HUGE_PAGES):
                with open(f"{_HUGE_PAGES}/{name}/nr_hugepages", encoding="utf-8") as file:
                    found[int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024] = int(file.read())
        except (OSError, ValueError):
            found = {}
        _huge_pages = found
    return _huge_pages


def cgroup_v2() -> bool:
    """Whether cgroup v2 alone is mounted where everybody looks, which decides how the kubelet writes some limits."""
    global _cgroup_v2
    if _cgroup_v2 is None:
        # The file is in the root of a cgroup v2 tree only (cgroup-v2.rst, "Core Interface Files").
        _cgroup_v2 = os.path.exists(f"{_CGROUP_MOUNT}/cgroup.controllers")
    return _cgroup_v2


def _binary(size: int) -> str:
    """2097152 → 2Mi, as the resource names of huge pages spell it."""
    for shift, suffix in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{suffix}"
    return str(size)
