"""What podlite could leave behind on a machine, counted; see "What could leak" in docs/architecture.md."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

from podlite.linux.cgroup_mounts import hierarchies
from podlite.runtime.layout import RUN_DIR


def machine_state() -> dict[str, set[str]]:
    """Everything of podlite's kind that is on this machine now, by kind."""
    return {
        "netns": _names("/run/netns"),
        "link": {name for name in _names("/sys/class/net") if name.startswith("pl")},
        "cgroup": _cgroups(),
        "mount": _mounts(),
        "process": _processes(),
        "nft": _tables(),
    }


def leaked(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, list[str]]:
    """What is there after and was not before, by kind; empty if nothing."""
    return {kind: sorted(after[kind] - before[kind]) for kind in after if after[kind] - before[kind]}


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _cgroups() -> set[str]:
    """Directly below each hierarchy's root; what lies deeper is a container's, with a podlite of its own in it."""
    return {
        f"{each.mount}/{name}"
        for each in hierarchies()
        for name in _names(each.mount)
        if name.startswith(("podlite", "kubepods"))
    }


def _mounts() -> set[str]:
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    # What the first podlite makes a mount point for good (podlite.runtime.run_directory) is no leak.
    return {line[4] for line in lines if "podlite" in " ".join(line) and line[4] != RUN_DIR}


def _processes() -> set[str]:
    return {f"{pid} {title}" for pid, title in processes_titled("podlite:")}


def processes_titled(prefix: str) -> Iterable[tuple[int, str]]:
    """(pid, title) of every process whose title begins so, but those in other pid namespaces: another podlite's.

    The first process of a namespace just below ours is our podlite's, though: a pod's pause.
    """
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    title = file.read().rstrip(b"\0").decode(errors="replace")
                if title.startswith(prefix) and _is_ours(name):
                    yield int(name), title
            except OSError:
                continue


def _is_ours(pid: str) -> bool:
    """Raises OSError for one that is gone."""
    with open(f"/proc/{pid}/status") as file:
        numbers = next(line.split()[1:] for line in file if line.startswith("NSpid:"))
    return len(numbers) == 1 or (len(numbers) == 2 and numbers[1] == "1")


def children() -> set[int]:
    """The children of this process, dead ones included. As pid 1 of a container it gets those of others too, so
    tests compare."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found.update(int(pid) for pid in file.read().split())
    return found


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped by whoever inherited it: pid 1, which in a container may
    be a test runner that reaps nobody."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _tables() -> set[str]:
    try:
        done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return set()
    return {line for line in done.stdout.splitlines() if "podlite" in line}
