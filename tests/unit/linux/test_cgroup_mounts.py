"""Finding the hierarchies; the mount tables are those of the machines named."""

from __future__ import annotations

import os
from pathlib import Path

from podlite.linux import cgroup_mounts
from podlite.linux.cgroup_mounts import Hierarchy, hierarchies, parse_own


def parse_mounts(text: str, own: dict[str, str], hidden: str = "") -> list[Hierarchy]:
    return cgroup_mounts.parse_mounts(text, own, lambda mount, device: device != hidden)


# Debian 11 with systemd.unified_cgroup_hierarchy=false
HYBRID = """\
25 21 0:22 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
27 25 0:24 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
28 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
29 25 0:29 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
"""
HYBRID_OWN = """\
9:memory:/user.slice
4:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user-0.slice/session-1.scope
0::/user.slice/user-0.slice/session-1.scope
"""
UNIFIED = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
# docker 24 on the above: a cgroup namespace of its own, and read-only.
DOCKER = "1023 1010 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
# docker on v1, without a cgroup namespace: each mount shows the container's own cgroup only.
DOCKER_V1 = """\
915 914 0:29 /docker/0a1b /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,memory
916 914 0:30 /docker/0a1b /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids
"""
DOCKER_V1_OWN = "9:memory:/docker/0a1b\n8:pids:/docker/0a1b/deeper\n"


def test_hybrid() -> None:
    found = parse_mounts(HYBRID, parse_own(HYBRID_OWN))
    assert found == [
        Hierarchy(2, frozenset(), "/sys/fs/cgroup/unified", "/user.slice/user-0.slice/session-1.scope", True),
        Hierarchy(
            1,
            frozenset(("name=systemd",)),
            "/sys/fs/cgroup/systemd",
            "/user.slice/user-0.slice/session-1.scope",
            True,
        ),
        Hierarchy(1, frozenset(("cpu", "cpuacct")), "/sys/fs/cgroup/cpu,cpuacct", "/user.slice", True),
        Hierarchy(1, frozenset(("memory",)), "/sys/fs/cgroup/memory", "/user.slice", True),
    ]


def test_unified() -> None:
    assert parse_mounts(UNIFIED, parse_own("0::/init.scope\n")) == [
        Hierarchy(2, frozenset(), "/sys/fs/cgroup", "/init.scope", True)
    ]


def test_read_only_in_a_container() -> None:
    assert parse_mounts(DOCKER, parse_own("0::/\n")) == [Hierarchy(2, frozenset(), "/sys/fs/cgroup", "/", False)]


def test_a_mount_of_a_part_of_the_hierarchy() -> None:
    memory, pids = parse_mounts(DOCKER_V1, parse_own(DOCKER_V1_OWN))
    assert (memory.own, memory.writable) == ("/", False)
    assert (pids.own, pids.writable) == ("/deeper", True)


def test_a_cgroup_outside_the_mount() -> None:
    # cgroup_namespaces(7): what lies above the namespace's root is shown with /.. in both files.
    mounts = "35 24 0:30 /../.. /mnt/host rw - cgroup2 cgroup2 rw\n"
    assert parse_mounts(mounts, parse_own("0::/\n"))[0].own == "/"
    assert parse_mounts(UNIFIED, parse_own("0::/../other\n"))[0].own == "/"


def test_the_usual_place_is_preferred() -> None:
    other = "90 24 0:30 / /mnt/cgroup\\040two rw - cgroup2 cgroup2 rw\n"
    own = parse_own("0::/\n")
    assert [each.mount for each in parse_mounts(other + UNIFIED, own)] == ["/sys/fs/cgroup"]
    assert [each.mount for each in parse_mounts(UNIFIED + other, own)] == ["/sys/fs/cgroup"]
    assert [each.mount for each in parse_mounts(other, own)] == ["/mnt/cgroup two"]


def test_a_covered_mount_is_not_there() -> None:
    assert [each.mount for each in parse_mounts(DOCKER_V1, parse_own(DOCKER_V1_OWN), "0:29")] == ["/sys/fs/cgroup/pids"]


def test_deleted_cgroup() -> None:
    assert parse_own("0::/gone (deleted)\n") == {"": "/gone"}


def test_files_are_read(tmp_path: Path) -> None:
    tree = tmp_path / "cgroup"
    tree.mkdir()
    (tree / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    device = f"{os.major(tree.stat().st_dev)}:{os.minor(tree.stat().st_dev)}"
    (tmp_path / "mountinfo").write_text(
        f"29 25 0:999 / {tree} rw - cgroup cgroup rw,memory\n30 25 {device} / {tree} rw - cgroup2 cgroup2 rw\n"
    )
    (tmp_path / "own").write_text("3:memory:/a\n0::/b\n")
    controllers = frozenset(("cpuset", "cpu", "io", "memory", "hugetlb", "pids"))
    assert hierarchies(str(tmp_path / "mountinfo"), str(tmp_path / "own")) == (
        Hierarchy(2, controllers, str(tree), "/b", True),
    )
