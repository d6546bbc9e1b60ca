"""One turn of a pod: publish its status, decide, act; and its end: stop, release, remove.

The decisions are `compute_pod_actions`'s; here they are carried out. Every step may be repeated after a failure
or a cancellation at any point.
Source: pkg/kubelet/kubelet.go (SyncPod, SyncTerminatingPod, SyncTerminatedPod) and
kuberuntime/kuberuntime_manager.go (SyncPod), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from podlite import blocking
from podlite.cri.errors import CRIError, NotFoundError
from podlite.errors import PodliteError, explain
from podlite.kubelet import events, labels
from podlite.kubelet.actions import PodActions, compute_pod_actions
from podlite.kubelet.container_start import CREATE_CONTAINER_ERROR, SandboxContext
from podlite.kubelet.gotime import NANOSECONDS, rfc3339
from podlite.kubelet.phase import TERMINAL
from podlite.kubelet.pod_parts import has_probes
from podlite.kubelet.pod_record import Published
from podlite.kubelet.pod_status import dead_beyond_kept, sandbox_ips, with_sandbox
from podlite.kubelet.sandbox_config import make_sandbox_config
from podlite.kubelet.status import (
    DEADLINE_MESSAGE,
    DEADLINE_REASON,
    generate_api_pod_status,
    past_active_deadline,
)
from podlite.kubelet.types import BackOffError, KubeletError, Waiting
from podlite.kubelet.worker_states import WorkerState
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.status import PodStatus
    from podlite.cri.services import RuntimeService
    from podlite.cri.types import ImageSpec, PodSandboxConfig
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.container_start import ContainerStarter
    from podlite.kubelet.events import EventRecorder
    from podlite.kubelet.image_manager import ImageManager
    from podlite.kubelet.pleg import Pleg
    from podlite.kubelet.pod_kill import PodKiller
    from podlite.kubelet.pod_parts import PodParts
    from podlite.kubelet.pod_record import PodRecord
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.status_manager import StatusManager
    from podlite.kubelet.types import KubeletConfig

# A plan that is carried out leads to the next one at once; a pod that needs more than this many is up to something.
_MAX_ROUNDS = 32
# What the generic PLEG's period is to a kubelet: a sandbox that dies at once is not made again at once.
_SANDBOX_SPACING = 1.0

SANDBOX_LOST_REASON = "PodSandboxLost"
SANDBOX_LOST_MESSAGE = "The pod's sandbox is gone, and its restart policy does not let it begin again"


class PodSyncer:
    """Carries out what a pod's worker asks for. One for all pods; what belongs to one pod is in its record."""

    def __init__(
        self,
        *,
        runtime: RuntimeService,
        images: ImageManager,
        starter: ContainerStarter,
        killer: PodKiller,
        parts: PodParts,
        pleg: Pleg,
        statuses: StatusManager,
        recorder: EventRecorder,
        clock: Clock,
        config: KubeletConfig,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._starter = starter
        self._killer = killer
        self._parts = parts
        self._pleg = pleg
        self._statuses = statuses
        self._recorder = recorder
        self._clock = clock
        self._config = config
        self._sandbox_turns = anyio.CapacityLimiter(config.parallel_sandboxes)

    # --- the three phases of a pod ----------------------------------------------------------

    async def sync(self, record: PodRecord) -> bool:
        """Brings the pod to where it should be; True once it has reached a terminal phase.

        Raises CRIError or KubeletError for what did not work; as a BackOffError it says when to try again.
        """
        runtime = await self._pleg.newer_than(record.uid, record.stale_before)
        for _ in range(_MAX_ROUNDS):
            self._parts.tend(record)
            if self.publish(record, runtime).phase in TERMINAL:
                return True
            plan = compute_pod_actions(record.pod, runtime, self._parts.results)
            if plan.idle:
                return False
            if plan.kill_pod and not plan.create_sandbox and runtime.stopped:
                # Nothing runs, and nothing may be started in place of what was lost: the kubelet would wait for ever.
                record.evicted = (SANDBOX_LOST_REASON, SANDBOX_LOST_MESSAGE)
                self._recorder.pod_event(record.pod, events.WARNING, SANDBOX_LOST_REASON, SANDBOX_LOST_MESSAGE)
                continue
            failures = await self._execute(record, plan, runtime)
            runtime = await self._pleg.inspect(record.uid)
            if failures:
                if self.publish(record, runtime).phase in TERMINAL:
                    return True
                raise _first_to_retry(failures)
        raise KubeletError(f"pod {labels.pod_name(record.pod)} does not settle")

    async def terminate(self, record: PodRecord) -> None:
        """Stops everything that runs in the pod. Raises CRIError or KubeletError."""
        pod = record.pod
        runtime = await self._pleg.newer_than(record.uid, record.stale_before)
        self.publish(record, runtime)
        self._parts.stop_liveness_and_startup(record)
        try:
            await self._killer.kill_pod(pod, runtime, grace_override=record.grace, hooks_done=record.hooks_done)
        except KubeletError as error:
            self._recorder.pod_event(pod, events.WARNING, events.FAILED_KILL_POD, f"error killing pod: {error}")
            raise
        self._parts.stop_probes(record)
        runtime = await self._pleg.inspect(record.uid)
        running = runtime.running_containers()
        if running:
            ids = " ".join([each.id for each in running])
            raise KubeletError(f"detected running containers after a successful KillPod, CRI violation: [{ids}]")
        self.publish(record, runtime, terminal=True)
        self._statuses.set_stopped(record.uid)

    async def release(self, record: PodRecord) -> None:
        """Gives back what a stopped pod does not need any more: its volumes and its cgroup. Raises KubeletError."""
        runtime = self._pleg.get(record.uid)
        self.publish(record, runtime, terminal=True)
        await self._parts.release(record, tuple(each.id for each in runtime.containers))
        self._statuses.terminate(record.uid)

    async def remove(self, record: PodRecord) -> None:
        """Removes what is left of the pod: sandboxes, containers, directories, logs. Raises CRIError, KubeletError."""
        with step("pod.cleanup", pod=labels.pod_name(record.pod)):
            runtime = self._pleg.get(record.uid)
            for sandbox in runtime.sandboxes:
                try:
                    await self._runtime.remove_pod_sandbox(sandbox.id)
                except NotFoundError:
                    pass
            await self._parts.remove_files(record)
            # Last: as long as anything is left, others see the pod, and whoever finds it orphaned removes the rest.
        record.last = self._statuses.pod(record.uid)
        self._images.forget(record.uid)
        self._starter.forget(record.uid)
        self._statuses.remove(record.uid)
        self._pleg.forget(record.uid)

    # --- status -----------------------------------------------------------------------------

    def publish(self, record: PodRecord, runtime: RuntimePodStatus, *, terminal: bool = False) -> PodStatus:
        """Makes the pod's status from what is known now, and hands it to the status manager."""
        pod = record.pod
        self._parts.observe(record, runtime)
        before = self._statuses.get(record.uid) or pod.status
        now = self._clock.now_ns()
        if record.evicted is None and record.state is WorkerState.SYNC and past_active_deadline(pod, before, now):
            record.evicted = (DEADLINE_REASON, DEADLINE_MESSAGE)
            self._recorder.pod_event(pod, events.NORMAL, DEADLINE_REASON, DEADLINE_MESSAGE)
        known = record.published
        if known is not None and known.status is before and known.same(record, runtime, terminal=terminal):
            return before
        status = generate_api_pod_status(
            pod,
            runtime,
            before,
            config=self._config,
            probes=self._parts.results,
            waiting=record.waiting,
            now=rfc3339(now),
            terminal=terminal,
            evicted=record.evicted,
        )
        self._statuses.set(pod, status)
        record.published = None if has_probes(pod) else Published(record, runtime, status, terminal=terminal)
        return status

    # --- carrying out a plan ----------------------------------------------------------------

    async def _execute(self, record: PodRecord, plan: PodActions, runtime: RuntimePodStatus) -> list[KubeletError]:
        """Does what the plan says, as far as that works; returns what did not."""
        pod = record.pod
        if plan.create_sandbox and plan.sandbox_id:
            text = "Pod sandbox changed, it will be killed and re-created."
            self._recorder.pod_event(pod, events.NORMAL, events.SANDBOX_CHANGED, text)
        try:
            if plan.kill_pod:
                await self._killer.kill_pod(pod, runtime)
                if not plan.create_sandbox:
                    return []
                for container in pod.spec.init_containers:
                    await self._prune(runtime, container.name, keep=0)
            else:
                for each in plan.containers_to_kill:
                    await self._killer.kill_container(pod, each.name, each.id, message=each.message, reason=each.reason)
                for container in (*pod.spec.init_containers, *pod.spec.containers):
                    await self._prune(runtime, container.name, keep=self._config.max_dead_containers_per_container)
            if not (
                plan.create_sandbox
                or plan.init_containers_to_start
                or plan.containers_to_start
                or plan.ephemeral_containers_to_start
            ):
                return []
            drafts = _Drafts(pod, self._config, plan.attempt)
            await self._parts.prepare(record, drafts.make if plan.create_sandbox else None)
            context = await self._sandbox(record, plan, runtime, drafts)
        except KubeletError as error:
            return [error]
        except CRIError as error:
            return [KubeletError(str(error))]
        except OSError as error:
            text = f"Error syncing pod, skipping: {explain(error)}"
            self._recorder.pod_event(pod, events.WARNING, events.FAILED_SYNC, text)
            return [KubeletError(explain(error))]
        return await self._start_containers(record, plan, runtime, context)

    async def _start_containers(
        self, record: PodRecord, plan: PodActions, runtime: RuntimePodStatus, context: SandboxContext
    ) -> list[KubeletError]:
        failures: list[KubeletError] = []
        spec = record.pod.spec
        for name in plan.ephemeral_containers_to_start:
            await self._start(record, _named(spec.ephemeral_containers, name), runtime, context, failures)
        for name in plan.init_containers_to_start:
            container = _named(spec.init_containers, name)
            started = await self._start(record, container, runtime, context, failures)
            if not started and not labels.is_sidecar(container):
                return failures
        for name in plan.containers_to_start:
            await self._start(record, _named(spec.containers, name), runtime, context, failures)
        return failures

    async def _start(
        self,
        record: PodRecord,
        container: Container,
        runtime: RuntimePodStatus,
        context: SandboxContext,
        failures: list[KubeletError],
    ) -> bool:
        try:
            await self._starter.start(record.pod, container, runtime, context)
        except (KubeletError, OSError) as error:
            # An OSError is the machine's: a full disk, too many files. The container's status says it.
            failure = (
                error
                if isinstance(error, KubeletError)
                else KubeletError(explain(error), reason=CREATE_CONTAINER_ERROR)
            )
            record.waiting[container.name] = Waiting(failure.reason, str(failure))
            failures.append(failure)
            return False
        record.waiting.pop(container.name, None)
        return True

    async def _prune(self, runtime: RuntimePodStatus, name: str, keep: int) -> None:
        """Removes the dead instances of a container beyond the newest `keep`, with their logs."""
        instances = [each for each in runtime.containers if each.name == name]
        if len(instances) <= keep or keep < 0:
            return
        for each in dead_beyond_kept(instances, keep):
            await self._parts.remove_container_logs(each)
            await self._runtime.remove_container(each.id)

    async def _sandbox(
        self, record: PodRecord, plan: PodActions, runtime: RuntimePodStatus, drafts: _Drafts
    ) -> SandboxContext:
        """The sandbox to start containers in, made if the plan says so. Raises KubeletError."""
        if plan.create_sandbox:
            context = await self._create_sandbox(record, plan.attempt, runtime, drafts)
        else:
            config = record.sandbox_config
            if config is None or config.metadata.attempt != plan.attempt:
                config = await self._sandbox_config(record, drafts)
            context = SandboxContext(sandbox_id=plan.sandbox_id, config=config, pod_ips=runtime.ips)
        if record.pod.spec.host_network:
            context.pod_ips = self._config.host_ips
        context.volumes = record.volumes or {}
        context.image_volumes = await self._image_volumes(record, context.config)
        return context

    async def _create_sandbox(
        self, record: PodRecord, attempt: int, runtime: RuntimePodStatus, drafts: _Drafts
    ) -> SandboxContext:
        pod = record.pod
        self._space_sandboxes(record, attempt)
        try:
            config = await self._sandbox_config(record, drafts)
            handler = self._runtime_handler(record)
            async with self._sandbox_turns:
                sandbox_id = await self._runtime.run_pod_sandbox(config, handler)
        except (CRIError, KubeletError) as error:
            text = f"Failed to create pod sandbox: {error}"
            self._recorder.pod_event(pod, events.WARNING, events.FAILED_CREATE_POD_SANDBOX, text)
            raise KubeletError(str(error), reason="CreatePodSandboxError") from error
        record.sandbox_made_at = self._clock.monotonic()
        try:
            status = await self._runtime.pod_sandbox_status(sandbox_id)
        except CRIError as error:
            text = f"Unable to get pod sandbox status: {error}"
            self._recorder.pod_event(pod, events.WARNING, events.FAILED_POD_SANDBOX_STATUS, text)
            raise
        # Images may take long to pull: that the pod is ready to start containers is shown before.
        self.publish(record, with_sandbox(runtime, status, (), removed=False, timestamp=runtime.timestamp))
        return SandboxContext(sandbox_id=sandbox_id, config=config, pod_ips=sandbox_ips(status))

    def _space_sandboxes(self, record: PodRecord, attempt: int) -> None:
        if not attempt or record.sandbox_made_at is None:
            return
        left = record.sandbox_made_at + _SANDBOX_SPACING - self._clock.monotonic()
        if left > 0:
            until = self._clock.now_ns() + int(left * NANOSECONDS)
            raise BackOffError("the pod's sandbox does not last", reason="CreatePodSandboxError", until=until)

    async def _sandbox_config(self, record: PodRecord, drafts: _Drafts) -> PodSandboxConfig:
        draft = drafts.made
        if draft is None:
            draft = await blocking.run(drafts.draft, record.cgroup_parent or "")
        record.sandbox_config = draft.config
        for type, reason, message in draft.said:
            self._recorder.pod_event(record.pod, type, reason, message)
        return draft.config

    def _runtime_handler(self, record: PodRecord) -> str:
        name = record.pod.spec.runtime_class_name
        if not name:
            return ""
        if name not in self._config.runtime_handlers:
            raise KubeletError(f'RuntimeClass "{name}" not found', reason="CreatePodSandboxError")
        return self._config.runtime_handlers[name]

    async def _image_volumes(
        self, record: PodRecord, sandbox_config: PodSandboxConfig
    ) -> dict[str, ImageSpec | KubeletError]:
        """The images of the pod's volumes; a failure is reported by the containers that mount it."""
        result: dict[str, ImageSpec | KubeletError] = {}
        pod = record.pod
        for volume in pod.spec.volumes:
            if volume.image is None:
                continue
            from podlite.cri.types import ImageSpec

            def record_event(type: str, reason: str, message: str) -> None:
                self._recorder.pod_event(pod, type, reason, message)

            source = volume.image
            try:
                image = await self._images.ensure(
                    pod, source.reference, source.pull_policy, record_event, sandbox_config
                )
            except KubeletError as error:
                result[volume.name] = error
                continue
            result[volume.name] = ImageSpec(
                image=image.ref, user_specified_image=source.reference, annotations=dict(pod.metadata.annotations)
            )
        return result


class _Draft(msgspec.Struct):
    """A sandbox's configuration, and the events to be recorded with it."""

    config: PodSandboxConfig
    said: list[tuple[str, str, str]]


class _Drafts:
    """Makes the configuration of one sandbox, on a worker thread that has something to do for the pod anyway."""

    def __init__(self, pod: Pod, config: KubeletConfig, attempt: int) -> None:
        self._pod = pod
        self._config = config
        self._attempt = attempt
        self.made: _Draft | None = None

    def make(self, cgroup_parent: str) -> None:
        """Blocking. What does not work is tried again, and said, where the sandbox is made."""
        try:
            self.made = self.draft(cgroup_parent)
        except (PodliteError, OSError):
            pass

    def draft(self, cgroup_parent: str) -> _Draft:
        """Blocking. Raises KubeletError, CRIError, OSError."""
        said: list[tuple[str, str, str]] = []

        def note(type: str, reason: str, message: str) -> None:
            said.append((type, reason, message))

        config = make_sandbox_config(
            self._pod, self._config, attempt=self._attempt, cgroup_parent=cgroup_parent, record=note
        )
        return _Draft(config, said)


def _named(containers: list[Container] | list, name: str) -> Container:  # type: ignore[type-arg]
    found: Container = next(each for each in containers if each.name == name)
    return found


def _first_to_retry(failures: list[KubeletError]) -> KubeletError:
    """The failure by which the pod is tried again: the one whose back-off ends first, else any."""
    waits = [each for each in failures if isinstance(each, BackOffError)]
    if waits:
        return min(waits, key=lambda each: each.until)
    return failures[0]
