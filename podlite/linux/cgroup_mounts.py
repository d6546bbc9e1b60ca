"""Where the cgroup hierarchies are: v1, v2, or both (hybrid), also seen from inside a container.

Sources: cgroups(7); proc(5) on mountinfo and /proc/PID/cgroup; Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Hierarchy(NamedTuple):
    """One mounted hierarchy.

    `controllers` are those that it controls; of a v2 tree those that its root offers, perhaps none. `own` is this
    process's cgroup below `mount`, beginning with a slash; "/" where it is the visible root, or lies outside.
    """

    version: int
    controllers: frozenset[str]
    mount: str
    own: str
    writable: bool


# What v1 lists among a mount's options beside the controllers.
_V1_OPTIONS = frozenset(("rw", "ro", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "favordynmods"))


def hierarchies(
    mountinfo: str = "/proc/self/mountinfo", own_cgroups: str = "/proc/self/cgroup"
) -> tuple[Hierarchy, ...]:
    """The hierarchies that this process sees, each once, those of v1 first. Empty where none is mounted.

    Raises OSError if the two files cannot be read.
    """
    with open(own_cgroups, encoding="utf-8", errors="surrogateescape") as file:
        own = parse_own(file.read())
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        found = parse_mounts(file.read(), own, _is_visible)
    return tuple(
        each._replace(controllers=_offered(each.mount)) if each.version == 2 else each
        for each in sorted(found, key=lambda each: each.version)
    )


def parse_own(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as controller → path; the v2 tree is ""; a named hierarchy `name=...`. Pure."""
    result = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            result[controller] = path.removesuffix(" (deleted)")
    return result


def _is_visible(mount: str, device: str) -> bool:
    """False for a mount that is covered by another one, as mountinfo lists those too."""
    major, _, minor = device.partition(":")
    try:
        return os.stat(mount).st_dev == os.makedev(int(major), int(minor))
    except OSError:
        return False


def parse_mounts(text: str, own: dict[str, str], visible: Callable[[str, str], bool]) -> list[Hierarchy]:
    """The cgroup mounts in a mountinfo. Of several mounts of one hierarchy the first under /sys/fs/cgroup.

    `visible` is asked for each (mount point, device as `major:minor`). The controllers of a v2 tree are not in
    mountinfo and left empty; `writable` says that the mount is not read-only, as a container's usually is.
    """
    chosen: dict[tuple[int, frozenset[str]], Hierarchy] = {}
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, filesystem = before.split(" "), after.split(" ")
        if not separator or filesystem[0] not in ("cgroup", "cgroup2"):
            continue
        root, mount, options = unescape(fields[3]), unescape(fields[4]), fields[5].split(",")
        if not visible(mount, fields[2]):
            continue
        super_options = filesystem[2].split(",")
        version = 2 if filesystem[0] == "cgroup2" else 1
        controllers: frozenset[str] = frozenset()
        path = own.get("", "/")
        if version == 1:
            named = [each for each in super_options if each not in _V1_OPTIONS and "release_agent" not in each]
            controllers = frozenset(named)
            path = next((own[each] for each in named if each in own), "/")
        hierarchy = Hierarchy(
            version, controllers, mount, _below(path, root), "ro" not in options and "ro" not in super_options
        )
        key = (version, controllers)
        if key not in chosen or (_usual(mount) and not _usual(chosen[key].mount)):
            chosen[key] = hierarchy
    return list(chosen.values())


def _usual(mount: str) -> bool:
    return mount == "/sys/fs/cgroup" or mount.startswith("/sys/fs/cgroup/")


def _below(path: str, root: str) -> str:
    """The cgroup `path` as seen below a mount that shows the hierarchy from `root` on."""
    if root == "/":
        return path if not path.startswith("/..") else "/"
    if path == root or path.startswith(root + "/"):
        return path[len(root) :] or "/"
    return "/"


def _offered(mount: str) -> frozenset[str]:
    try:
        with open(f"{mount}/cgroup.controllers", encoding="utf-8") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()


def unescape(text: str) -> str:
    """mountinfo writes blank, tab, newline and backslash in octal."""
    if "\\" not in text:
        return text
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
