"""The machine that figures come from, as far as it matters to them."""

from __future__ import annotations

import os
import platform
from typing import Any

from podlite.linux.cgroup_mounts import hierarchies
from podlite.runtime.layout import Layout
from podlite.version import __version__

# What changes the cost of a network namespace, or ends a run early.
SYSCTLS = (
    "kernel.pid_max",
    "kernel.threads-max",
    "fs.file-max",
    "fs.mount-max",
    "user.max_net_namespaces",
    "user.max_user_namespaces",
    "net.core.devconf_inherit_init_net",
    "net.core.fb_tunnels_only_for_init_net",
    "net.core.netdev_max_backlog",
    "net.ipv4.ip_forward",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.default.disable_ipv6",
    "net.ipv6.route.max_size",
    "net.netfilter.nf_conntrack_max",
)


def describe(layout: Layout) -> dict[str, Any]:
    """Facts for the report. Blocking, for a few milliseconds."""
    trees = hierarchies()
    controllers = sorted({str(each.version) for each in trees if each.controllers})
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load": round(os.getloadavg()[0], 2),
        "cgroups": "v" + " and v".join(controllers) if controllers else "none",
        "run_dir": _filesystem(layout.run_dir),
        "state_dir": _filesystem(layout.state_dir),
        "python": platform.python_version(),
        "podlite": __version__,
        "sysctls": {name: value for name in SYSCTLS if (value := _sysctl(name)) is not None},
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: str) -> str:
    """The type of the file system that a path, or where it will be, is on."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    wanted = os.stat(path).st_dev
    found = "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            major, _, minor = before.split()[2].partition(":")
            if os.makedev(int(major), int(minor)) == wanted:
                found = after.split()[0]
    return found


def _sysctl(name: str) -> int | str | None:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="utf-8") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.lstrip("-").isdigit() else text
