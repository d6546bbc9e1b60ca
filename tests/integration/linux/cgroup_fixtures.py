"""cgroups for tests: below a root of their own, which is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from podlite.linux.cgroup_mounts import Hierarchy, hierarchies
from podlite.linux.cgroups import Cgroups

ROOT = f"/podlite-test-{os.getpid()}"
DEADLINE_SECONDS = 30.0


@contextmanager
def cgroups_below(
    root: str = ROOT, *, mounted: tuple[Hierarchy, ...] | None = None, **options: bool
) -> Iterator[Cgroups]:
    found = Cgroups(hierarchies() if mounted is None else mounted, root, **options)
    try:
        yield found
    finally:
        found.kill(root)
        assert found.wait_empty(root, DEADLINE_SECONDS)
        found.remove(root, timeout=DEADLINE_SECONDS)
        found.close()
        left = [each.mount + root for each in hierarchies() if os.path.exists(each.mount + root)]
        assert left == []


@contextmanager
def running(paths: list[str], script: str) -> Iterator[subprocess.Popen[str]]:
    """A shell that has joined the cgroups and runs `script`; it prints a line to say that it is there."""
    join = "".join(f"echo 0 > {path}; " for path in paths)
    process = subprocess.Popen(["/bin/sh", "-ec", f"{join}echo ready; {script}"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE_SECONDS} s"
        time.sleep(0.002)
