"""The leak audit: what a benchmark could leave behind on the machine, counted before and after, by kind."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from podlite import blocking
from podlite.linux.cgroup_mounts import hierarchies
from podlite.runtime.layout import Layout

# "What could leak" of docs/architecture.md.
KINDS = {
    "netns": "pins of network namespaces",
    "veth": "veth devices on the host",
    "address": "reservations of pod addresses",
    "nft": "nftables chains, sets and elements of podlite's table",
    "cgroup": "cgroups below podlite's own",
    "mount": "mounts in the mount namespace",
    "process": "spawners, shims, and children of this process",
    "fd": "descriptors of this process",
    "thread": "threads of this process",
    "file": "files of the runtime and of its containers",
}


def count(layout: Layout) -> dict[str, int]:
    """How many of each kind there are now. Blocking, for tens of milliseconds."""
    return {
        "netns": _names(layout.netns_dir),
        "veth": _veths(),
        "address": _names(f"{layout.run_dir}/network/addresses"),
        "nft": _nft(),
        "cgroup": _cgroups(layout.cgroup_root),
        "mount": _mounts(layout),
        "process": _processes(),
        "fd": _names("/proc/self/fd"),
        # Worker threads are kept for a while: they are a pool, and nobody's leak.
        "thread": sum(not each.name.startswith(("AnyIO worker", blocking.NAME)) for each in threading.enumerate()),
        "file": _files(f"{layout.run_dir}/pods") + _files(layout.containers_dir) + _files(f"{layout.state_dir}/pods"),
    }


def difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """After minus before. Pure."""
    return {kind: after[kind] - before[kind] for kind in before}


def leaks(difference: Mapping[str, int]) -> dict[str, int]:
    """What there is more of than before. Pure."""
    return {kind: number for kind, number in difference.items() if number > 0}


def _names(directory: str) -> int:
    try:
        return len(os.listdir(directory))
    except FileNotFoundError:
        return 0


def _mounts(layout: Layout) -> int:
    """But for what the first podlite makes mount points for good: its run directory, and the directories of pins."""
    for_good = {os.path.realpath(layout.netns_dir), "/run/netns", os.path.realpath(layout.run_dir)}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return sum(line.split()[4] not in for_good for line in file)


def _files(directory: str) -> int:
    return sum(len(names) + len(directories) for _, directories, names in os.walk(directory))


def _veths() -> int:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        return sum(1 for link in netlink.get_links() if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "veth")


def _nft() -> int:
    """What podlite's nftables table holds; 0 without one, or without nftables."""
    import json
    import shutil
    import subprocess

    if shutil.which("nft") is None:
        return 0
    done = subprocess.run(["nft", "-j", "list", "table", "inet", "podlite"], capture_output=True, check=False)
    if done.returncode:
        return 0
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return sum(1 + len(value.get("elem", ())) for each in found for value in each.values() if isinstance(value, dict))


def _cgroups(root: str) -> int:
    bases = {f"{each.mount}{root}" for each in hierarchies()}
    return sum(1 for base in bases for _ in os.walk(base))


def _processes() -> int:
    own = os.getpid()
    total = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                ours = file.read(9) == b"podlite: "
            with open(f"/proc/{name}/stat", "rb") as file:
                child = int(file.read().rpartition(b")")[2].split()[1]) == own
        except (OSError, ValueError, IndexError):
            continue
        total += ours or child
    return total
