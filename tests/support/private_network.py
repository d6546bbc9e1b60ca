"""The part of `tests/support/private_machine` that is made from within: a network of its own, and the mounts that show
it and the cgroups."""

from __future__ import annotations

import os
import subprocess

from podlite.linux.cgroup_mounts import hierarchies
from podlite.linux.syscalls import CLONE_NEWNET, MNT_DETACH, mount, umount2, unshare

TOP = "/sys/fs/cgroup"


def enter() -> None:
    """Moves this thread, and what it starts, to a network with `lo` only."""
    found = hierarchies()
    links = {name: os.readlink(f"{TOP}/{name}") for name in os.listdir(TOP) if os.path.islink(f"{TOP}/{name}")}
    unshare(CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    umount2(TOP, MNT_DETACH)
    # What /sys/class/net shows is the network of whoever mounts it; a cgroup hierarchy begins at the mounter's cgroup.
    mount("sysfs", "/sys", "sysfs")
    mount("tmpfs", TOP, "tmpfs", 0, "mode=755")
    for each in found:
        os.mkdir(each.mount)
        if each.version == 2:
            mount("cgroup2", each.mount, "cgroup2")
        else:
            names = ",".join(each.controllers)
            mount("cgroup", each.mount, "cgroup", 0, f"none,{names}" if names.startswith("name=") else names)
    for name, target in links.items():
        os.symlink(target, f"{TOP}/{name}")
