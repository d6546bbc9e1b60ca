"""The cgroup of each pod, with its limits: `<root>/kubepods/<qos>/pod<uid>`, and the containers' below it.

Where cgroups cannot be had, pods run without limits and one warning says so.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from podlite import log
from podlite.kubelet.qos import pod_qos
from podlite.kubelet.resources import MIN_SHARES, pod_resources
from podlite.kubelet.types import KubeletError
from podlite.linux.cgroups import CgroupError, Cgroups, CgroupUnavailable, Resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.pod import Pod
    from podlite.cri.types import LinuxContainerResources
    from podlite.kubelet.types import KubeletConfig

_QOS_CLASSES = ("guaranteed", "burstable", "besteffort")


class PodCgroups:
    """Makes and removes the pods' cgroups. The methods block, for some 0.2 ms; they may be called from any thread.

    `warn` gets each warning once; by default it goes to the log.
    """

    def __init__(
        self, config: KubeletConfig, cgroups: Cgroups | None = None, *, warn: Callable[[str], None] | None = None
    ) -> None:
        self._config = config
        self._cgroups = cgroups
        self._warn = warn or log.warning
        self._warned: set[str] = set()
        # The classes' cgroups that have got their weight from this process.
        self._made: set[str] = set()
        self._lock = threading.Lock()

    def create(self, pod: Pod) -> str:
        """Makes the pod's cgroup and sets its limits; idempotent. Returns what RunPodSandbox gets as cgroup_parent.

        That is empty where cgroups cannot be made. Raises KubeletError for a limit that the kernel refuses.
        """
        try:
            cgroups = self._detected()
            path = cgroups.pod_path(pod_qos(pod), pod.metadata.uid)
            resources = self._resources(pod)
            parent = os.path.dirname(path)
            if parent.endswith("/besteffort") and not (parent in self._made and cgroups.exists(parent, "cpu")):
                # All best-effort pods together weigh as little as one of them. Another podlite may have removed the
                # class's cgroup when its last pod ended.
                cgroups.make(parent, Resources(cpu_shares=MIN_SHARES))
                self._made.add(parent)
            for warning in cgroups.make(path, resources):
                self._warn_once(warning)
        except CgroupUnavailable as error:
            self._warn_once(f"pods run without resource limits: {error.message}", error.hint)
            return ""
        except CgroupError as error:
            raise KubeletError(
                f"failed to create container for {path} : {error.message}",
                reason="FailedCreatePodContainer",
                hint=error.hint,
            ) from error
        return path

    def path(self, pod: Pod) -> str:
        """Where the pod's cgroup is, or would be."""
        return self._detected().pod_path(pod_qos(pod), pod.metadata.uid)

    def remove(self, uid: str, path: str = "", containers: tuple[str, ...] = ()) -> None:
        """Kills what still runs in the pod's cgroup and removes it; idempotent. Raises KubeletError if processes do
        not end.

        `path` is what `create` has returned; without, it is looked for in every QoS class. `containers` are the ids
        of the containers that may have cgroups in it: that of each is found without looking.
        """
        try:
            cgroups = self._detected()
        except CgroupUnavailable:
            return
        paths = [path] if path else [cgroups.pod_path(qos, uid) for qos in _QOS_CLASSES]
        for path in paths:
            try:
                if cgroups.is_populated(path):
                    cgroups.kill(path)
                cgroups.remove(path, below=containers)
            except CgroupError as error:
                raise KubeletError(
                    f"failed to delete cgroup paths for {path} : {error.message}",
                    reason="FailedKillPod",
                    hint=error.hint,
                ) from error

    def close(self) -> None:
        """Removes the QoS classes' cgroups as far as no pod of anybody's is in them; idempotent."""
        if self._cgroups is None:
            return
        for qos in _QOS_CLASSES:
            self._cgroups.remove_empty_parents(self._cgroups.pod_path(qos, "none"))
        self._cgroups.close()

    def _detected(self) -> Cgroups:
        """Found when the first pod needs it. Raises CgroupUnavailable."""
        with self._lock:
            if self._cgroups is None:
                try:
                    self._cgroups = Cgroups.detect(self._config.cgroup_root)
                except OSError as error:
                    raise CgroupUnavailable(f"the mounted cgroup hierarchies cannot be read: {error}") from error
            return self._cgroups

    def _resources(self, pod: Pod) -> Resources:
        wanted: LinuxContainerResources = pod_resources(pod, self._config)
        return Resources(
            cpu_shares=wanted.cpu_shares,
            cpu_quota=wanted.cpu_quota,
            cpu_period=wanted.cpu_period,
            memory_limit_in_bytes=wanted.memory_limit_in_bytes,
            pids_max=max(self._config.pod_pids_limit, 0),
            hugepage_limits={each.page_size: each.limit for each in wanted.hugepage_limits},
        )

    def _warn_once(self, warning: str, hint: str = "") -> None:
        with self._lock:
            if warning in self._warned:
                return
            self._warned.add(warning)
        self._warn(f"{warning} ({hint})" if hint else warning)
