"""User namespaces as file descriptors: joined, and used for id-mapped mounts."""

from __future__ import annotations

import os

import pytest
from linux_children import in_child

from podlite.linux import mounts
from podlite.linux.idmap import IdRange, format_map, parse, userns_fd_for
from podlite.linux.syscalls import (
    AT_EMPTY_PATH,
    CLONE_NEWUSER,
    MOUNT_ATTR_IDMAP,
    OPEN_TREE_CLONE,
    mount_setattr,
    open_tree,
    setns,
)
from podlite.linux.userns import userns_fd
from tests.support.leaks import children

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

UIDS = (IdRange(0, 100_000, 1000), IdRange(1000, 5, 1))
GIDS = (IdRange(0, 200_000, 65536),)


def test_the_namespace_has_the_maps() -> None:
    fd = userns_fd_for(UIDS, GIDS)

    def inside() -> list[object]:
        setns(fd, CLONE_NEWUSER)
        return [open("/proc/self/uid_map").read(), open("/proc/self/gid_map").read(), os.getuid()]

    try:
        assert not os.get_inheritable(fd)
        uid_map, gid_map, uid = in_child(inside)
    finally:
        os.close(fd)
    assert (parse(uid_map), parse(gid_map)) == (UIDS, GIDS)
    # Our own id, 0, is not mapped: it appears as the overflow id.
    assert uid == 65534


def test_nothing_is_left() -> None:
    before, had = len(os.listdir("/proc/self/fd")), children()
    os.close(userns_fd_for(UIDS, GIDS))
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= had


def test_an_id_mapped_mount_shifts_owners() -> None:
    fd = userns_fd_for(GIDS, GIDS)
    base = mounts.new_filesystem("tmpfs", {"size": "64k"})
    try:
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=base))
        mapped = open_tree(base, "", OPEN_TREE_CLONE | AT_EMPTY_PATH)
        try:
            mount_setattr(mapped, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=fd)
            status = os.stat("file", dir_fd=mapped)
        finally:
            os.close(mapped)
        assert (status.st_uid, status.st_gid) == (200_000, 200_000)
        assert os.stat("file", dir_fd=base).st_uid == 0
    finally:
        os.close(base)
        os.close(fd)


def test_maps_that_cannot_be() -> None:
    had = children()
    with pytest.raises(ValueError, match="overlap"):
        userns_fd_for((IdRange(0, 0, 2), IdRange(1, 9, 1)), GIDS)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        userns_fd("0 0 0\n", format_map(GIDS))
    assert caught.value.filename.endswith("/uid_map")
    assert children() <= had


def test_without_the_right_to_map() -> None:
    def try_it() -> None:
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        userns_fd("0 0 1\n", "0 0 1\n")

    with pytest.raises(PermissionError):
        in_child(try_it)
