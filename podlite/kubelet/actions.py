"""The one decision of the kubelet's sync: from a pod, what runs of it and what its probes say, to a plan.

Pure: nothing here asks a clock, a cache or the runtime, and the executor (`pod_sync`) decides nothing.
Source: pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions) and kuberuntime_container.go
(computeInitContainerActions), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podlite.cri.types import ContainerState
from podlite.kubelet import labels, restart
from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus, sandbox_change
from podlite.kubelet.types import ProbeResult, ProbeResults

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod

# Why a container is killed; it decides over the grace period.
UNKNOWN_STATE = "Unknown"
STARTUP_PROBE = "StartupProbe"
LIVENESS_PROBE = "LivenessProbe"
FAILED_POST_START_HOOK = "FailedPostStartHook"

_STATE_NAMES = {
    ContainerState.CONTAINER_CREATED: "created",
    ContainerState.CONTAINER_RUNNING: "running",
    ContainerState.CONTAINER_EXITED: "exited",
    ContainerState.CONTAINER_UNKNOWN: "unknown",
}


class ContainerToKill(msgspec.Struct, frozen=True):
    """`message` is that of the Killing event; `reason` is one of this module's constants, or empty."""

    id: str
    name: str
    message: str
    reason: str = ""


class PodActions(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, in this order; containers are named.

    `kill_pod`: kill all its containers and stop its sandboxes. Without it, kill `containers_to_kill`.
    `create_sandbox`: make sandbox number `attempt`; otherwise `sandbox_id` is the one to use.
    Then start ephemeral, init and app containers, each group in its order.
    """

    kill_pod: bool = False
    create_sandbox: bool = False
    sandbox_id: str = ""
    attempt: int = 0
    containers_to_kill: tuple[ContainerToKill, ...] = ()
    ephemeral_containers_to_start: tuple[str, ...] = ()
    init_containers_to_start: tuple[str, ...] = ()
    containers_to_start: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.kill_pod
            or self.create_sandbox
            or self.containers_to_kill
            or self.ephemeral_containers_to_start
            or self.init_containers_to_start
            or self.containers_to_start
        )


def compute_pod_actions(pod: Pod, status: RuntimePodStatus, probes: ProbeResults) -> PodActions:
    """What brings the runtime's state of a pod nearer to its specification."""
    sandbox = sandbox_change(pod, status)
    if sandbox.needed:
        return _with_new_sandbox(pod, status, sandbox.attempt, sandbox.sandbox_id)
    spec = pod.spec
    ephemeral = tuple(each.name for each in spec.ephemeral_containers if status.container(each.name) is None)
    init = _InitActions(pod, status, probes)
    if init.failed or not init.initialized:
        return PodActions(
            kill_pod=init.failed,
            sandbox_id=sandbox.sandbox_id,
            attempt=sandbox.attempt,
            containers_to_kill=tuple(init.to_kill),
            ephemeral_containers_to_start=ephemeral,
            init_containers_to_start=tuple(init.to_start),
        )
    to_start: list[str] = []
    to_kill: list[ContainerToKill] = []
    kept = 0
    for container in spec.containers:
        newest = status.container(container.name)
        if newest is None or not newest.running:
            if restart.to_be_started(container, pod, status):
                to_start.append(container.name)
                if newest is not None and newest.state == ContainerState.CONTAINER_UNKNOWN:
                    # It may still run: never two instances of a container at a time.
                    to_kill.append(_lost(newest, "Container"))
            continue
        killed, restarted = _unfit(pod, container, newest, probes)
        if killed is None:
            kept += 1
            continue
        to_kill.append(killed)
        if restarted:
            to_start.append(container.name)
    ended = not kept and not to_start
    return PodActions(
        kill_pod=ended,
        sandbox_id=sandbox.sandbox_id,
        attempt=sandbox.attempt,
        containers_to_kill=(*init.to_kill, *to_kill),
        ephemeral_containers_to_start=ephemeral,
        # Sidecars must not keep a pod alive whose containers have all ended.
        init_containers_to_start=() if ended else tuple(init.to_start),
        containers_to_start=tuple(to_start),
    )


def _with_new_sandbox(pod: Pod, status: RuntimePodStatus, attempt: int, sandbox_id: str) -> PodActions:
    """Everything starts over in a new sandbox, unless the pod has done its work."""
    end = PodActions(kill_pod=True, sandbox_id=sandbox_id, attempt=attempt)
    spec = pod.spec
    if spec.restart_policy == "Never" and attempt != 0 and status.containers:
        return end
    to_start = [each.name for each in spec.containers if not _done_for_good(each, pod, status)]
    if not to_start and has_any_app_container(pod, status):
        return end
    return PodActions(
        kill_pod=True,
        create_sandbox=True,
        sandbox_id=sandbox_id,
        attempt=attempt,
        init_containers_to_start=(spec.init_containers[0].name,) if spec.init_containers else (),
        containers_to_start=() if spec.init_containers else tuple(to_start),
    )


def _done_for_good(container: Container, pod: Pod, status: RuntimePodStatus) -> bool:
    if restart.effective_policy(container, pod.spec) != "OnFailure":
        return False
    newest = status.container(container.name)
    return newest is not None and newest.exited and newest.exit_code == 0


def has_any_app_container(pod: Pod, status: RuntimePodStatus) -> bool:
    """Whether a container other than an init container was ever made, so that all init containers have ended."""
    return any(
        newest is not None and newest.state != ContainerState.CONTAINER_UNKNOWN
        for newest in (status.container(each.name) for each in pod.spec.containers)
    )


def _unfit(
    pod: Pod, container: Container, running: RuntimeContainerStatus, probes: ProbeResults
) -> tuple[ContainerToKill | None, bool]:
    """Why a running app container must be killed, if it must, and whether it is started again."""
    if labels.hash_container(container) != running.hash:
        message, reason, restarted = f"Container {container.name} definition changed", "", True
    elif probes.liveness.get(running.id) == ProbeResult.FAILURE:
        message, reason = f"Container {container.name} failed liveness probe", LIVENESS_PROBE
        restarted = restart.restarts_on_failure(container, pod.spec)
    elif probes.startup.get(running.id) == ProbeResult.FAILURE:
        message, reason = f"Container {container.name} failed startup probe", STARTUP_PROBE
        restarted = restart.restarts_on_failure(container, pod.spec)
    else:
        return None, False
    if restarted:
        message = f"{message}, will be restarted"
    return ContainerToKill(running.id, container.name, message, reason), restarted


def _lost(container: RuntimeContainerStatus, kind: str) -> ContainerToKill:
    message = f'{kind} is in "{_STATE_NAMES[container.state]}" state, try killing it before restart'
    return ContainerToKill(container.id, container.name, message, UNKNOWN_STATE)


class _InitActions:
    """What the init containers need: `initialized` says that the app containers may be started.

    The newest trace counts: a completed init container may have been removed from the runtime since, but
    a later one, or an app container, shows that it completed. So they are looked at from last to first.
    """

    __slots__ = ("_pod", "_probes", "_status", "failed", "initialized", "to_kill", "to_start")

    def __init__(self, pod: Pod, status: RuntimePodStatus, probes: ProbeResults) -> None:
        self._pod = pod
        self._status = status
        self._probes = probes
        self.to_start: list[str] = []
        self.to_kill: list[ContainerToKill] = []
        self.failed = False
        # An exited app container proves nothing: it may have ended with an earlier sandbox.
        self.initialized = not pod.spec.init_containers or any(
            newest is not None and newest.state in (ContainerState.CONTAINER_CREATED, ContainerState.CONTAINER_RUNNING)
            for newest in (status.container(each.name) for each in pod.spec.containers)
        )
        if pod.spec.init_containers:
            self._compute()

    def _compute(self) -> None:
        containers = self._pod.spec.init_containers
        passed = self.initialized  # whether this container has completed, or started, before
        for index in range(len(containers) - 1, -1, -1):
            container = containers[index]
            newest = self._status.container(container.name)
            sidecar = labels.is_sidecar(container)
            if newest is None:
                if passed and sidecar:
                    self.to_start.append(container.name)
                continue
            if passed and not sidecar:
                continue
            if newest.state == ContainerState.CONTAINER_CREATED:
                # Creating and starting are one step: it could not be started.
                self.to_start.append(container.name)
            elif newest.state == ContainerState.CONTAINER_RUNNING:
                if sidecar:
                    self._running_sidecar(index, newest, passed)
            elif newest.state == ContainerState.CONTAINER_EXITED:
                self._exited(index, newest)
            else:
                self._lost(container, newest, sidecar)
            if self.failed:
                return
            passed = True
        if not passed:
            self.to_start.append(containers[0].name)
        self.to_start.reverse()

    def _completed(self, index: int) -> None:
        """The container at `index` has done what the next one waits for."""
        containers = self._pod.spec.init_containers
        if index == len(containers) - 1:
            self.initialized = True
        else:
            self.to_start.append(containers[index + 1].name)

    def _running_sidecar(self, index: int, running: RuntimeContainerStatus, passed: bool) -> None:
        container = self._pod.spec.init_containers[index]
        if container.startup_probe is not None:
            startup = self._probes.startup.get(running.id)
            if startup == ProbeResult.FAILURE:
                self._kill_and_start(running, f"Init container {container.name} failed startup probe", STARTUP_PROBE)
            if startup != ProbeResult.SUCCESS:
                return
        if index == len(self._pod.spec.init_containers) - 1 or not passed:
            self._completed(index)
        if labels.hash_container(container) != running.hash:
            self._kill_and_start(running, f"Init container {container.name} definition changed", "")
        elif container.liveness_probe is not None and self._probes.liveness.get(running.id) == ProbeResult.FAILURE:
            self._kill_and_start(running, f"Init container {container.name} failed liveness probe", LIVENESS_PROBE)

    def _kill_and_start(self, running: RuntimeContainerStatus, message: str, reason: str) -> None:
        self.to_kill.append(ContainerToKill(running.id, running.name, message, reason))
        self.to_start.append(running.name)

    def _exited(self, index: int, newest: RuntimeContainerStatus) -> None:
        container = self._pod.spec.init_containers[index]
        if labels.is_sidecar(container):
            self.to_start.append(container.name)
        elif not init_container_failed(newest):
            self._completed(index)
        elif self._pod.metadata.deletion_timestamp is None and restart.restarts_on_failure(container, self._pod.spec):
            self.to_start.append(container.name)
        else:
            self._give_up()

    def _lost(self, container: Container, newest: RuntimeContainerStatus, sidecar: bool) -> None:
        if not sidecar and not restart.restarts_on_failure(container, self._pod.spec):
            self._give_up()
            return
        self.to_kill.append(_lost(newest, "Init container"))
        self.to_start.append(container.name)

    def _give_up(self) -> None:
        self.failed = True
        self.initialized = False
        self.to_start.clear()


def init_container_failed(container: RuntimeContainerStatus) -> bool:
    """Whether an init container did not complete. One that was killed for memory failed, whatever it returned."""
    if container.reason == "OOMKilled" or container.state == ContainerState.CONTAINER_UNKNOWN:
        return True
    return container.exited and container.exit_code != 0
