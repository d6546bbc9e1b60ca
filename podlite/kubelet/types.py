"""What the modules of the kubelet share: its configuration, probe results, errors with a reason, and the
objects that pods may refer to.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from podlite.errors import PodliteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from podlite.api.base import Object
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.probes import LifecycleHandler
    from podlite.kubelet.pod_status import RuntimePodStatus


class KubeletConfig(msgspec.Struct, kw_only=True, frozen=True):
    """How this kubelet runs pods. Paths are absolute; durations are seconds; sizes are bytes."""

    node_name: str = "localhost"
    host_ips: tuple[str, ...] = ("127.0.0.1",)  # at most one of each family, the preferred one first
    runtime_name: str = "podlite"  # the scheme of `containerID`
    runtime_endpoint: str = ""  # where a runtime is that outlives this process, and is not podlite's own

    run_dir: str = "/run/podlite"
    state_dir: str = "/var/lib/podlite"
    log_dir: str = "/var/log/pods"
    cgroup_root: str = "/podlite"
    keep_logs: bool = False  # whether a deleted pod's logs stay
    pods_stay: bool = False  # whether pods outlive this process, for another one to adopt

    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"

    # What the machine has: for resourceFieldRef without a limit, and for oom_score_adj. 0 stands for unknown.
    cpu_count: int = 0
    memory_bytes: int = 0

    cpu_cfs_quota: bool = True
    cpu_cfs_quota_period_us: int = 100_000
    pod_pids_limit: int = -1
    seccomp_default: bool = False
    seccomp_profile_root: str = "/var/lib/podlite/seccomp"
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    docker_configs: tuple[str, ...] = ()  # this machine's files of credentials for registries
    recursive_read_only: bool = True  # whether the runtime can do recursive read-only mounts
    runtime_handlers: dict[str, str] = {}  # runtimeClassName → the runtime's handler

    # The kubelet's own defaults: v1beta1.KubeletConfiguration and pkg/kubelet/kubelet.go.
    sync_error_back_off: float = 10
    # Of a great many pods at once no more than so many are at the runtime at the same time: they are not done later
    # for it, and everything else is answered sooner. Two limits, so that a pod that has its sandbox goes on.
    parallel_sandboxes: int = 4
    parallel_containers: int = 8
    container_back_off: float = 10
    max_container_back_off: float = 300
    image_back_off: float = 10
    max_image_back_off: float = 300
    relist_period: float = 1  # only while the runtime gives no events
    evented_relist_period: float = 300
    max_dead_containers_per_container: int = 1
    max_dead_containers: int = -1
    minimum_container_gc_age: float = 0
    container_gc_period: float = 60
    image_gc_high_threshold_percent: int = 85
    image_gc_low_threshold_percent: int = 80
    image_minimum_gc_age: float = 120
    image_maximum_gc_age: float = 0  # 0: images are never removed for their age alone
    image_gc_period: float = 300
    container_log_max_size: int = 10 * 1024 * 1024  # negative: logs are not rotated
    container_log_max_files: int = 5
    container_log_monitor_interval: float = 10


class ProbeResult(IntEnum):
    """What the probes of a container have come to, after their thresholds."""

    UNKNOWN = -1
    SUCCESS = 0
    FAILURE = 1


class Results(Protocol):
    """The current results of one kind of probe. A dict will do."""

    def get(self, container_id: str, /) -> ProbeResult | None:
        """The result for a container, by the runtime's id, or None where nothing has been probed."""
        ...


class ProbeResults(msgspec.Struct, frozen=True):
    """The results of all probes of this kubelet, as a decision reads them."""

    startup: Results = {}
    liveness: Results = {}
    readiness: Results = {}


class Prober(Protocol):
    """Probes the containers of pods, and keeps what that comes to."""

    startup: Results
    liveness: Results
    readiness: Results

    def add_pod(self, pod: Pod, *, adopted: bool = False) -> None:
        """Probes the pod's containers as its specification says. Idempotent; a new specification replaces the old.

        What the status of an `adopted` pod says holds until a probe says otherwise.
        """
        ...

    def observe(self, pod: Pod, status: RuntimePodStatus, pod_ips: Sequence[str]) -> None:
        """Takes in what the runtime says of a pod. An unknown pod is no error."""
        ...

    def stop_liveness_and_startup(self, uid: str) -> None:
        """Ends these probes of a pod that is being stopped. Idempotent; an unknown pod is no error."""
        ...

    def remove_pod(self, uid: str) -> None:
        """Ends all probes of a pod and forgets their results. Idempotent; an unknown pod is no error."""
        ...


class HookRunner(Protocol):
    """Runs a lifecycle handler in, or against, a running container."""

    async def __call__(self, container_id: str, pod: Pod, container: Container, handler: LifecycleHandler) -> None:
        """Returns when the handler has succeeded. Raises PodliteError with the kubelet's message."""
        ...


class Waiting(msgspec.Struct, frozen=True):
    """Why a container is not started: the reason and message of its `waiting` state."""

    reason: str
    message: str = ""


class KubeletError(PodliteError):
    """A failure with a CamelCase `reason` that statuses and events show."""

    reason = "FailedSync"

    def __init__(self, message: str, *, reason: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        if reason:
            self.reason = reason


class BackOffError(KubeletError):
    """Something is not tried again before `until`, in nanoseconds since the epoch."""

    def __init__(self, message: str, *, reason: str, until: int) -> None:
        super().__init__(message, reason=reason)
        self.until = until


class ContainerConfigError(KubeletError):
    """The container's configuration cannot be made: a key is missing, a user is not allowed …"""

    reason = "CreateContainerConfigError"


class VolumeError(KubeletError):
    """A volume of the pod cannot be set up."""

    reason = "FailedMount"


class ObjectStore:
    """The objects that pods may refer to, by kind, namespace and name: ConfigMaps, Secrets, claims."""

    __slots__ = ("_objects",)

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._objects: dict[tuple[str, str, str], Any] = {}
        self.update(objects)

    def update(self, objects: Iterable[Object]) -> None:
        """Adds objects, each replacing the one of the same kind, namespace and name."""
        for each in objects:
            found: Any = each
            self._objects[found.kind, found.metadata.namespace or "default", found.metadata.name] = found

    def get(self, kind: str, namespace: str, name: str) -> Any:
        """The object, or None."""
        return self._objects.get((kind, namespace or "default", name))

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        found: ConfigMap | None = self.get("ConfigMap", namespace, name)
        return found

    def secret(self, namespace: str, name: str) -> Secret | None:
        found: Secret | None = self.get("Secret", namespace, name)
        return found

    def __iter__(self) -> Any:
        return iter(self._objects.values())
