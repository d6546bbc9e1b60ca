"""Killing containers and pods: preStop hook, stop signal, grace period, SIGKILL, in the order that sidecars need.

Source: pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer, setTerminationGracePeriod) and
kuberuntime_manager.go (killPodWithSyncResult), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from podlite import log
from podlite.cri.errors import CRIError, NotFoundError
from podlite.errors import PodliteError
from podlite.kubelet import events, labels
from podlite.kubelet.actions import LIVENESS_PROBE, STARTUP_PROBE
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.probes import Probe
    from podlite.cri.services import RuntimeService
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.events import EventRecorder
    from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus
    from podlite.kubelet.termination_order import TerminationOrder
    from podlite.kubelet.types import HookRunner

# Every container gets at least these seconds to end, unless it is killed at once.
MINIMUM_GRACE_PERIOD = 2


def grace_period(pod: Pod, container: Container, reason: str) -> int:
    """The seconds that a container has for its preStop hook and its end, before anybody shortens them.

    A pod's deletion decides; else, for a container that failed a probe, the probe; else the pod. Pure.
    """
    if pod.metadata.deletion_grace_period_seconds is not None:
        return pod.metadata.deletion_grace_period_seconds
    of_pod = pod.spec.termination_grace_period_seconds
    if of_pod is None:
        return MINIMUM_GRACE_PERIOD
    probes: dict[str, Probe | None] = {
        STARTUP_PROBE: container.startup_probe,
        LIVENESS_PROBE: container.liveness_probe,
    }
    probe = probes.get(reason)
    if probe is not None and probe.termination_grace_period_seconds is not None:
        return probe.termination_grace_period_seconds
    return of_pod


class PodKiller:
    """Kills containers through the runtime. `hooks` runs preStop handlers."""

    def __init__(self, runtime: RuntimeService, recorder: EventRecorder, clock: Clock, hooks: HookRunner) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._clock = clock
        self._hooks = hooks

    async def kill_container(
        self,
        pod: Pod,
        name: str,
        container_id: str,
        *,
        message: str = "",
        reason: str = "",
        grace_override: int | None = None,
        order: TerminationOrder | None = None,
        hooks_done: set[str] | None = None,
    ) -> None:
        """Ends one container; returns when it has ended. A container that is gone is no error. Raises CRIError.

        `grace_override` replaces the grace period; 0 kills at once, without hook and without waiting for turns.
        `hooks_done` has the ids of containers whose hook was begun before, when killing is taken up again with a
        shorter grace period; a hook is never run twice.
        """
        container = labels.find_container(pod, name)
        if container is None:
            pod, container = await self._restored(container_id)
        left = float(grace_period(pod, container, reason) if grace_override is None else grace_override)
        whole = left
        immediate = grace_override == 0
        again = hooks_done is not None and container_id in hooks_done
        if not again:
            text = message or f"Stopping container {container.name}"
            self._recorder.container_event(pod, container, events.NORMAL, events.KILLING, text, container_id)
        if hooks_done is not None:
            hooks_done.add(container_id)
        if left > 0 and not again:
            left -= await self._pre_stop(pod, container, container_id, left)
        if order is not None and left > 0:
            left -= int(await order.wait_for_turn(name, left))
        # What a hook or the others' turns have used up leaves the minimum. A shorter period that was asked for is kept:
        # the kubelet makes two seconds of one.
        seconds = 0 if immediate else max(int(left), min(MINIMUM_GRACE_PERIOD, int(whole)))
        try:
            await self._runtime.stop_container(container_id, seconds)
        except NotFoundError:
            pass
        if order is not None:
            order.ended(name)

    async def _pre_stop(self, pod: Pod, container: Container, container_id: str, seconds: float) -> int:
        """Runs the preStop hook, for at most `seconds`; returns the whole seconds it took."""
        if container.lifecycle is None or container.lifecycle.pre_stop is None:
            return 0
        started = self._clock.monotonic()
        handler = container.lifecycle.pre_stop
        with self._clock.timeout(seconds) as scope:
            try:
                await self._hooks(container_id, pod, container, handler)
            except PodliteError as error:
                log.warning("PreStop hook failed", pod=labels.pod_name(pod), container=container.name, why=str(error))
                # The message is kept out of the event: it may have secrets in it.
                self._recorder.container_event(
                    pod, container, events.WARNING, events.FAILED_PRE_STOP_HOOK, "PreStopHook failed", container_id
                )
        if scope.cancelled_caught:
            log.info("PreStop hook not completed in grace period", pod=labels.pod_name(pod), container=container.name)
        return int(self._clock.monotonic() - started)

    async def kill_pod(
        self,
        pod: Pod,
        runtime: RuntimePodStatus,
        *,
        grace_override: int | None = None,
        hooks_done: set[str] | None = None,
    ) -> None:
        """Ends all running containers at the same time, and stops the sandboxes whatever became of that.

        Raises KubeletError with everything that did not work.
        """
        running = runtime.running_containers()
        order: TerminationOrder | None = None
        if running and labels.has_sidecar(pod):
            from podlite.kubelet.termination_order import TerminationOrder

            order = TerminationOrder(pod, [each.name for each in running], self._clock)
        problems: list[str] = []

        async def kill(each: RuntimeContainerStatus) -> None:
            try:
                await self.kill_container(
                    pod, each.name, each.id, grace_override=grace_override, order=order, hooks_done=hooks_done
                )
            except CRIError as error:
                problems.append(_problem("KillContainer", each.name, "KillContainerError", error))

        if len(running) == 1:
            await kill(running[0])
        elif running:
            async with anyio.create_task_group() as tasks:
                for each in running:
                    tasks.start_soon(kill, each)
        for sandbox in runtime.sandboxes:
            try:
                await self._runtime.stop_pod_sandbox(sandbox.id)
            except NotFoundError:
                pass
            except CRIError as error:
                problems.append(_problem("KillPodSandbox", runtime.uid, "KillPodSandboxError", error))
        if problems:
            text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
            raise KubeletError(text, reason=events.FAILED_KILL_POD)

    async def _restored(self, container_id: str) -> tuple[Pod, Container]:
        """A container that the pod's specification does not have any more, as its labels remember it."""
        status = await self._runtime.container_status(container_id)
        pod = labels.restore_pod(status.labels, status.annotations)
        return pod, pod.spec.containers[0]


def _problem(action: str, target: str, reason: str, error: CRIError) -> str:
    quoted = str(error).replace("\\", "\\\\").replace('"', '\\"')
    return f'failed to "{action}" for "{target}" with {reason}: "{quoted}"'
