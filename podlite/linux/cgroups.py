"""cgroups of pods and containers, on v1, v2, or both beside each other (hybrid).

A caller names a cgroup by one path, such as `/podlite/kubepods/burstable/pod<uid>/<id>`; podlite.linux.cgroup_places
says in which hierarchies it exists, and where: each one costs some 100 µs per container (create, join, remove).

Containers have a cgroup in every hierarchy of v1, name=systemd included, also where it has no duty: whoever may make a
user namespace, and that is everybody, can mount the hierarchies of v1 anew, and sees them from his own cgroup on. Where
a container has none of its own that is the host's, with others to freeze, processes to move and, at the top, a
release_agent (CVE-2022-0492).

Nothing outside `root` is made, changed or removed, except that v2 controllers are passed on to it from above.
All functions block, for microseconds as a rule; `wait_empty`, `kill` and `remove` for as long as they say.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from podlite.linux import cgroup_processes, cgroup_stats
from podlite.linux.cgroup_files import REMOVE_TIMEOUT, CgroupError, CgroupUnavailable, explain, remove_tree, write
from podlite.linux.cgroup_limits import DevicePrograms, limit_devices_v1, write_group
from podlite.linux.cgroup_mounts import hierarchies
from podlite.linux.cgroup_places import ALWAYS, ON_DEMAND, Places
from podlite.linux.cgroup_processes import OomWatch
from podlite.linux.cgroup_resources import MIN_SHARES, Resources, v1_plan, v2_plan
from podlite.linux.cgroup_stats import Stats
from podlite.linux.cgroup_tree import ancestors, available, make_v1, make_v2
from podlite.linux.cgroup_walk import thaw_v1

if TYPE_CHECKING:
    from podlite.linux.cgroup_details import Details
    from podlite.linux.cgroup_mounts import Hierarchy
    from podlite.linux.devices import DeviceRule

__all__ = ["CgroupError", "CgroupUnavailable", "Cgroups", "Created", "OomWatch", "Resources", "Stats"]


class Created(NamedTuple):
    """A cgroup that is there.

    `attach` is what `Cgroups.attach_paths` returns. `devices_limited` is False if nothing on this machine enforces
    device rules. `warnings` are sentences on what was asked for in vain.
    """

    attach: list[str]
    devices_limited: bool
    warnings: list[str]


class Cgroups(Places):
    """The cgroups below `root` (an absolute cgroup path such as /podlite), which is made when it is needed.

    With "/" as the root the caller answers for each path, as the runtime of a kubelet does, which names the parents.
    """

    def __init__(self, mounted: tuple[Hierarchy, ...], root: str = "/podlite", *, devices_by_bpf: bool = False) -> None:
        """`devices_by_bpf` uses a BPF program although there is a v1 hierarchy: for a process that starts many
        containers it is cheaper (loading 450 µs once, then 7 µs each, where v1 takes 150 µs each).
        """
        super().__init__(mounted, root, devices_by_bpf=devices_by_bpf)
        self._programs = DevicePrograms()

    @classmethod
    def detect(cls, root: str = "/podlite", *, devices_by_bpf: bool = False) -> Cgroups:
        """The cgroups of this machine, or container. Raises OSError if /proc is not readable."""
        return cls(hierarchies(), root, devices_by_bpf=devices_by_bpf)

    # --- creating and limiting -------------------------------------------------------------------

    def create(
        self,
        path: str,
        resources: Resources | None = None,
        rules: tuple[DeviceRule, ...] | None = None,
        *,
        confine: bool = False,
    ) -> Created:
        """Makes the cgroup with its ancestors, and limits it; idempotent.

        Without `rules` devices are not limited. With `confine` it exists in every hierarchy of v1, so that who is in
        it sees nothing else of them. Raises CgroupUnavailable where no cgroups can be made at all, CgroupError for a
        limit that the kernel refuses; what has been made by then stays, for `remove`.
        """
        warnings = self.make(path, resources, confine=confine)
        limited = rules is not None and self.set_devices(path, rules)
        return Created(self.attach_paths(path), limited, warnings)

    def make(self, path: str, resources: Resources | None = None, *, confine: bool = False) -> list[str]:
        """As `create`, for a cgroup that no process will join itself; returns the warnings."""
        self.check(path)
        if not self._constant and self.unified is None:
            raise CgroupUnavailable(
                "no cgroup hierarchy can be written to here",
                hint="mount cgroup2 on /sys/fs/cgroup, writable; in a container, run that with --privileged",
            )
        warnings: list[str] = []
        for each in self._constant.values():
            make_v1(each, self._place(each, path))
        if confine:
            warnings += self._confine(path)
        if self.unified is not None:
            problems = make_v2(self.unified, path, self._v2.intersection(ALWAYS))
            self.missing.update(problems)
        if resources is not None:
            warnings += self.set_resources(path, resources)
        return warnings

    def _confine(self, path: str) -> list[str]:
        """Makes the cgroup in the hierarchies in which it has no duty; a sentence for each where that cannot be."""
        warnings = []
        for each in self._all_v1:
            if each.mount not in self._constant:
                try:
                    make_v1(each, self._place(each, path))
                except CgroupError as error:
                    warnings.append(f"containers are not kept apart in {each.mount}: {error}")
        return warnings

    def create_pod(self, qos: str, uid: str, resources: Resources | None = None) -> str:
        """Makes a pod's cgroup and those of its QoS class, as the kubelet does; idempotent. Returns its path.

        Best-effort pods share the smallest weight among themselves. Raises as `create`.
        """
        path = self.pod_path(qos, uid)
        parent = os.path.dirname(path)
        if parent.endswith("/besteffort"):
            self.create(parent, Resources(cpu_shares=MIN_SHARES))
        self.create(path, resources)
        return path

    def set_resources(self, path: str, resources: Resources) -> list[str]:
        """Limits an existing cgroup; what is not specified stays as it is.

        Returns a sentence for each limit that nothing here can enforce. Raises CgroupError for one that the
        kernel refuses, and for `unified` settings of a controller that is not on v2. On v2 a memory limit below
        the present usage is not refused: the kernel frees what it can and then kills.
        """
        self.check(path)
        try:
            on_v1, on_v2 = v1_plan(resources), v2_plan(resources)
        except ValueError as error:
            raise CgroupError(f"the limits of the cgroup {path} contradict each other: {error}") from error
        warnings = []
        for controller in on_v2:
            for file in resources.unified:
                if file.startswith(f"{controller}.") and controller in self._v1:
                    raise CgroupError(
                        f"{file} is a setting of cgroup v2, and here the {controller} controller is on v1"
                    )
            if controller in self._v1:
                for group in on_v1[controller]:
                    write_group(self._demand_v1(controller, path), group)
                continue
            problem = self._demand_v2(controller, path)
            if problem:
                warnings.append(f"no {controller} limit can be set for {path}: {problem}")
                continue
            for group in on_v2[controller]:
                write_group(f"{self._unified_mount}{path}", group)
        return warnings

    def _demand_v1(self, controller: str, path: str) -> str:
        """The directory in a v1 hierarchy; one that is joined on demand is made, and running processes join it."""
        hierarchy = self._v1[controller]
        directory = self._in(hierarchy, path)
        if controller not in ON_DEMAND or os.path.isdir(directory):
            return directory
        make_v1(hierarchy, self._place(hierarchy, path))
        for pid in cgroup_processes.processes(self._members(path)):
            try:
                write(f"{directory}/cgroup.procs", str(pid))
            except ProcessLookupError:
                pass
            except OSError as error:
                raise explain("move a process into", directory, error) from error
        return directory

    def _demand_v2(self, controller: str, path: str) -> str:
        """Makes sure that a cgroup of the v2 tree has the controller; returns a sentence if it cannot have it."""
        if controller not in self._v2 or self.unified is None:
            return self.missing.get(controller, f"this machine has no {controller} cgroup controller")
        if controller in available(self.unified.mount + path):
            return ""
        return make_v2(self.unified, path, (controller,)).get(controller, "")

    def set_devices(self, path: str, rules: tuple[DeviceRule, ...]) -> bool:
        """Limits an existing cgroup to these devices; idempotent. Returns False where nothing can enforce it.

        On v1 this must happen before the cgroup has others below it. Raises CgroupError.
        """
        self.check(path)
        directory = self._of_v1("devices", path)
        if directory is not None:
            make_v1(self._v1["devices"], self._place(self._v1["devices"], path))
            limit_devices_v1(directory, rules)
            return True
        return self.unified is not None and self._programs.limit(self.unified.mount + path, rules)

    def close(self) -> None:
        """Closes the fds of loaded BPF programs; those on cgroups stay in force. Idempotent.

        With "/" as the root, the directories that this has made for every container go too, where they are empty.
        """
        self._programs.close()
        if self.root == "/":
            self._remove_flat_root()

    # --- looking ----------------------------------------------------------------------------------

    def exists(self, path: str, controller: str = "") -> bool:
        """Whether the cgroup is there: in any hierarchy, or in that of a controller of v1, or v2."""
        self.check(path)
        if controller:
            return os.path.isdir(self._of_v1(controller, path) or f"{self._unified_mount}{path}")
        return any(os.path.isdir(directory) for directory in self._directories(path))

    def stats(self, path: str) -> Stats:
        """What the cgroup has used; where it is gone, or a controller missing, the fields are None."""
        self.check(path)
        stats = Stats()
        if self.unified is not None:
            directory = self.unified.mount + path
            cgroup_stats.add_v2_cpu(stats, directory)
            cgroup_stats.add_pressure(stats, directory)
            if "memory" in self._v2:
                cgroup_stats.add_v2_memory(stats, directory)
            if "pids" in self._v2:
                cgroup_stats.add_pids(stats, directory)
        for controller, add in (
            ("cpu", cgroup_stats.add_v1_cpu),
            ("cpuacct", cgroup_stats.add_v1_cpuacct),
            ("memory", cgroup_stats.add_v1_memory),
            ("pids", cgroup_stats.add_pids),
        ):
            on_v1 = self._of_v1(controller, path)
            if on_v1 is not None:
                add(stats, on_v1)
        return stats

    def details(self, path: str) -> Details:
        """What cAdvisor's metrics say beyond `stats`."""
        from podlite.linux import cgroup_details

        self.check(path)
        details = cgroup_details.Details()
        if self.unified is not None:
            cgroup_details.add_v2(details, self.unified.mount + path)
        for controller, hierarchy in self._v1.items():
            cgroup_details.add_v1(details, controller, hierarchy.mount + path)
        return details

    def oom_kills(self, path: str) -> int:
        """How many processes the kernel killed in the cgroup for lack of memory; 0 if it is gone."""
        file = self.oom_file(path)
        return cgroup_processes.oom_kills(file) if file else 0

    def watch_oom(self, path: str) -> OomWatch:
        """Raises CgroupUnavailable where the memory controller is missing, CgroupError."""
        self.check(path)
        directory = self._of_v1("memory", path)
        if directory is not None:
            return OomWatch(directory, 1)
        if "memory" not in self._v2:
            raise CgroupUnavailable(self.missing.get("memory", "this machine has no memory cgroup controller"))
        return OomWatch(f"{self._unified_mount}{path}", 2)

    def processes(self, path: str) -> list[int]:
        """The processes in the cgroup and below; none if it is gone."""
        self.check(path)
        return cgroup_processes.processes(self._members(path))

    # --- ending -----------------------------------------------------------------------------------

    def kill(self, path: str) -> None:
        """SIGKILL to all processes in the cgroup and below, also to those that fork meanwhile; idempotent.

        What is frozen is thawed, or it would not die. Does not wait for their end (`wait_empty`
        does). Raises CgroupError.
        """
        self.check(path)
        if self.unified is not None and not os.path.isdir(self.unified.mount + path):
            return  # and with it all that was in it, frozen or not
        try:
            self._kill(path)
        finally:
            self._thaw(path)

    def _thaw(self, path: str) -> None:
        freezer = self.freezer(path)
        if freezer:
            try:
                thaw_v1(freezer)
            except OSError as error:
                raise explain("thaw", freezer, error) from error

    def _kill(self, path: str) -> None:
        if self.unified is not None and cgroup_processes.kill_v2(self.unified.mount + path):
            return
        try:
            self.freeze(path, True)
        except CgroupError:
            # Without a freezer a fork bomb may take more than one round.
            pass
        try:
            cgroup_processes.kill_each(self._members(path))
        finally:
            try:
                self.freeze(path, False)
            except CgroupError:
                pass

    def freeze(self, path: str, frozen: bool) -> None:
        """Stops all processes in the cgroup and below, or lets them go on. Raises CgroupError, also if it is gone."""
        self.check(path)
        freezer = self._of_v1("freezer", path)
        if self.unified is not None:
            cgroup_processes.freeze_v2(self.unified.mount + path, frozen)
        elif freezer is not None:
            cgroup_processes.freeze_v1(freezer, frozen)
        else:
            raise CgroupUnavailable("nothing on this machine can freeze a cgroup")

    def wait_empty(self, path: str, timeout: float) -> bool:
        """Waits up to `timeout` seconds until no process is in the cgroup or below. False if there still is one."""
        self.check(path)
        if self.unified is not None:
            return cgroup_processes.wait_empty_v2(self.unified.mount + path, timeout)
        return cgroup_processes.wait_empty_v1(self._members(path), timeout)

    def is_populated(self, path: str) -> bool:
        """Whether a process is in the cgroup or below; not if it is gone. Raises CgroupError."""
        self.check(path)
        if self.unified is not None:
            return not cgroup_processes.wait_empty_v2(self.unified.mount + path, 0)
        return bool(self._constant) and bool(cgroup_processes.processes(self._members(path)))

    def remove(self, path: str, timeout: float = REMOVE_TIMEOUT, *, below: tuple[str, ...] = ()) -> None:
        """Removes the cgroup and those below it from every hierarchy; idempotent.

        `below` are names of cgroups that are in it most likely: those are removed without looking for them first.
        Waits up to `timeout` seconds for the kernel to let go of dead processes. Every hierarchy is tried; then
        CgroupError is raised for the first that failed, for example because processes are still running.
        """
        self.check(path)
        deadline = time.monotonic() + timeout
        failed: CgroupError | None = None
        for directory in self._directories(path):
            try:
                remove_tree(directory, deadline, below)
            except CgroupError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _remove_flat_root(self) -> None:
        """The one directory of ours where otherwise all are the caller's; whoever makes a cgroup in it tries again."""
        for each in self._all_v1:
            if each.mount in self._flat:
                try:
                    os.rmdir(f"{each.mount}/podlite")
                except OSError:
                    pass  # in use, or gone

    def remove_empty_parents(self, path: str) -> None:
        """Removes the ancestors of `path` up to the root as far as nothing is in them; never waits, never fails.

        With "/" as the root they are somebody else's, and nothing is done.
        """
        self.check(path)
        for each in reversed(ancestors(path)[:-1]):
            if self.root == "/" or not each.startswith(self.root):
                return
            for directory in self._directories(each):
                try:
                    os.rmdir(directory)
                except OSError:
                    # In use (EBUSY), gone, or not ours.
                    pass
