"""Where a test's cgroups are: below a root that no other test uses, so that what one leaves is in no other's way."""

from __future__ import annotations

import itertools
import os

from podlite.linux.cgroups import CgroupError, Cgroups

_count = itertools.count(1)


def own_root() -> str:
    """A name for the root of one test's cgroups; nothing is made yet."""
    return f"/podlite-test-{os.getpid()}-{next(_count)}"


def remove_root(root: str) -> None:
    """Removes what is left of a test's cgroups: the pods' are the kubelet side's to remove, and not every test has one.

    Fails, and tells which processes, where one is still in them; those are killed, for nothing of a test outlives it.
    """
    cgroups = Cgroups.detect(root)
    try:
        cgroups.remove(root)
    except CgroupError as error:
        left = [_tell(pid) for pid in cgroups.processes(root)]
        cgroups.kill(root)
        cgroups.wait_empty(root, 10)
        cgroups.remove(root, 10)
        raise AssertionError(f"{error}; the test left these processes in its cgroups: {left}") from error


def _tell(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline, open(f"/proc/{pid}/cgroup") as cgroup:
            command = cmdline.read().replace(b"\0", b" ").decode(errors="replace").strip()
            return f"{pid} {command!r} in {cgroup.read().split()}"
    except OSError:
        return f"{pid}, which has ended by now"
