"""Which cgroup hierarchies a machine has for which duty, and where in each of them a cgroup lies.

    cpu, memory, pids   limits and usage: v1's hierarchies, or v2's controllers
    devices             v1's hierarchy, or a BPF program on the v2 cgroup
    the v2 tree         kill and freeze at a stroke, CPU usage, pressure; also where the controllers are on v1
    cpuacct, freezer    v1, only where there is no v2 tree to do their duty
    cpuset, hugetlb     only for cgroups that are limited by them
    the rest of v1      only to keep containers apart (see `Cgroups.create`)

In those of v1's hierarchies in which pods and their classes have no duty (devices, cpuset, blkio ...) a cgroup lies
directly below the root, by the last part of its path: each level costs a pod 50 µs there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podlite.linux.cgroup_mounts import Hierarchy

ALWAYS = ("cpu", "memory", "pids")
ON_DEMAND = ("cpuset", "hugetlb", "devices")
_WITHOUT_V2 = ("cpuacct", "freezer")
# Those that limit pods too, or count for them.
_OF_PODS = frozenset((*ALWAYS, "hugetlb"))


class Places:
    """The paths of cgroups below `root`. All functions but those that say so look at no file."""

    def __init__(self, mounted: tuple[Hierarchy, ...], root: str, *, devices_by_bpf: bool) -> None:
        if not root.startswith("/") or os.path.normpath(root) != root:
            raise ValueError(f"{root!r} is no cgroup to work in: it must be an absolute path")
        self.root = root
        self.unified = next((each for each in mounted if each.version == 2 and each.writable), None)
        self.missing: dict[str, str] = {}
        self._v1: dict[str, Hierarchy] = {}
        self._v2: set[str] = set()
        self._all_v1 = tuple({each.mount: each for each in mounted if each.version == 1 and each.writable}.values())
        by_controller = {controller: each for each in mounted for controller in each.controllers}
        freezer = by_controller.get("freezer")
        self._freezer = freezer if freezer is not None and freezer in self._all_v1 else None
        of_pods = _OF_PODS if self.unified is not None else _OF_PODS.union(_WITHOUT_V2)
        self._flat = frozenset(each.mount for each in self._all_v1 if not each.controllers & of_pods)
        wanted = [*ALWAYS, "cpuset", "hugetlb"]
        if self.unified is None:
            wanted += _WITHOUT_V2
        if not devices_by_bpf or self.unified is None:
            wanted.append("devices")
        for controller in wanted:
            found = by_controller.get(controller)
            if found is None:
                if controller in ALWAYS:
                    self.missing[controller] = f"this machine has no {controller} cgroup controller"
            elif not found.writable:
                self.missing[controller] = f"{found.mount} is mounted read-only"
            elif found.version == 1:
                self._v1[controller] = found
            else:
                self._v2.add(controller)
        # By mount: those that every cgroup is in.
        self._constant = {self._v1[each].mount: self._v1[each] for each in self._v1 if each not in ON_DEMAND}

    def pod_path(self, qos: str, uid: str) -> str:
        """The kubelet's layout (cgroupfs driver): guaranteed pods lie directly in kubepods.

        `qos` is Guaranteed, Burstable or BestEffort, in any case.
        """
        level = {"guaranteed": "", "burstable": "/burstable", "besteffort": "/besteffort"}[qos.lower()]
        return f"{self.root.rstrip('/')}/kubepods{level}/pod{uid}"

    def check(self, path: str) -> None:
        """Raises ValueError for a path that does not lie below the root."""
        below = path.startswith(self.root.rstrip("/") + "/") or path == self.root
        if not below or path == "/" or os.path.normpath(path) != path:
            raise ValueError(f"the cgroup {path!r} does not lie below {self.root}")

    def _place(self, hierarchy: Hierarchy, path: str) -> str:
        """The cgroup's path in a v1 hierarchy."""
        if hierarchy.mount not in self._flat or path == self.root:
            return path
        root = "/podlite" if self.root == "/" else self.root
        return f"{root}/{os.path.basename(path)}"

    def _in(self, hierarchy: Hierarchy, path: str) -> str:
        """The cgroup's directory in a v1 hierarchy."""
        return hierarchy.mount + self._place(hierarchy, path)

    def _directories(self, path: str) -> list[str]:
        """The directories that the cgroup may have, each once, the v2 tree's last."""
        found = [self._in(each, path) for each in self._all_v1]
        return found if self.unified is None else [*found, self.unified.mount + path]

    def _of_v1(self, controller: str, path: str) -> str | None:
        return self._in(self._v1[controller], path) if controller in self._v1 else None

    def _members(self, path: str) -> str:
        """The directory that is asked for processes: the v2 tree's, else that of a v1 hierarchy joined always."""
        if self.unified is not None:
            return self.unified.mount + path
        return self._in(next(iter(self._constant.values())), path)

    @property
    def _unified_mount(self) -> str | None:
        return None if self.unified is None else self.unified.mount

    def attach_paths(self, path: str) -> list[str]:
        """The files of an existing cgroup into which a process with one thread writes "0" to join it. Looks.

        In v1's hierarchies that is `tasks`, in the v2 tree, last in the list, cgroup.procs. The difference is large:
        a write to a cgroup.procs waits for an RCU grace period, 5 to 16 ms, unless somebody on the machine has just
        done the same, but a thread that moves itself by `tasks` waits for nobody. v2 has nothing like it; there, be
        born in the cgroup instead (`process.fork_into` with `v2_directory`), and leave out the last path.
        """
        self.check(path)
        found = [self._in(each, path) for each in self._constant.values()]
        others = [self._in(each, path) for each in self._all_v1 if each.mount not in self._constant]
        found += [directory for directory in others if os.path.isdir(directory)]
        v2 = [] if self.unified is None else [f"{self.unified.mount}{path}/cgroup.procs"]
        return [*(f"{directory}/tasks" for directory in found), *v2]

    def v2_directory(self, path: str) -> str:
        """The cgroup's directory in the v2 tree, or "" where there is no such tree."""
        self.check(path)
        return "" if self.unified is None else self.unified.mount + path

    def view(self, path: str) -> list[tuple[str, str]]:
        """What a container sees of its cgroup below /sys/fs/cgroup: (name there, directory here) for each of v1's
        hierarchies with a duty, or for v2 the one with an empty name."""
        self.check(path)
        if not self._v1 and self.unified is not None:
            return [("", self.unified.mount + path)]
        shown = dict(self._constant)
        if "devices" in self._v1:
            shown[self._v1["devices"].mount] = self._v1["devices"]
        return [(os.path.basename(mount), self._in(each, path)) for mount, each in shown.items()]

    def kill_file(self, path: str) -> str:
        """The file into which "1" is written to kill everything in the cgroup, or "" (before Linux 5.14, no v2).
        Looks."""
        self.check(path)
        file = f"{self._unified_mount}{path}/cgroup.kill"
        return file if self.unified is not None and os.path.exists(file) else ""

    def freezer(self, path: str) -> str:
        """The cgroup's directory in v1's freezer hierarchy, where a container may have frozen itself, or ""."""
        self.check(path)
        return "" if self._freezer is None else self._in(self._freezer, path)

    def oom_file(self, path: str) -> str:
        """The file with the line `oom_kill N`, or "" where the memory controller is missing."""
        self.check(path)
        directory = self._of_v1("memory", path)
        if directory is not None:
            return f"{directory}/memory.oom_control"
        return f"{self._unified_mount}{path}/memory.events" if "memory" in self._v2 else ""

    def version_of(self, controller: str) -> str:
        """Which version controls it here: `v1`, `v2`, or "" where nothing does."""
        return "v1" if controller in self._v1 else "v2" if controller in self._v2 else ""

    def describe(self) -> str:
        """`v1`, `v2` or `hybrid`: v1's controllers beside a v2 tree."""
        if self.unified is None:
            return "v1"
        return "hybrid" if self._v1 else "v2"
