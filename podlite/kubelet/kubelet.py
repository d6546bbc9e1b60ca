"""The kubelet of one machine without a cluster: give it pods, and it runs them on a CRI runtime.

    async with Kubelet(runtime, images, config) as kubelet:
        pod = await kubelet.add_pod(pod)
        await kubelet.wait_terminated(pod.metadata.uid)
        await kubelet.delete_pod(pod.metadata.uid)

All of it belongs to one event loop, and to one task group: leaving the context ends every task, and leaves the
pods as they are. What a pod goes through is in `pod_workers` (when), `actions` (what) and `pod_sync` (how).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from msgspec import structs

from podlite.cri.types import ContainerState
from podlite.errors import PodliteError
from podlite.kubelet import admission, events, labels
from podlite.kubelet.backoff import CONTAINER_RESET_SECONDS, BackOff
from podlite.kubelet.clock import SystemClock
from podlite.kubelet.container_start import ContainerStarter
from podlite.kubelet.events import EventRecorder
from podlite.kubelet.gotime import NANOSECONDS, rfc3339
from podlite.kubelet.image_manager import ImageManager
from podlite.kubelet.objects import Objects
from podlite.kubelet.pleg import Pleg
from podlite.kubelet.pod_cgroup import PodCgroups
from podlite.kubelet.pod_json import PodJson
from podlite.kubelet.pod_kill import PodKiller
from podlite.kubelet.pod_parts import PodParts
from podlite.kubelet.pod_sync import PodSyncer
from podlite.kubelet.pod_workers import PodWorkers
from podlite.kubelet.status import rejected_status
from podlite.kubelet.status_manager import DELETED, PodChange, StatusManager
from podlite.kubelet.types import KubeletConfig, ProbeResult
from podlite.kubelet.worker_states import WorkerState
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from podlite.api.base import Object
    from podlite.api.container import Container, EphemeralContainer
    from podlite.api.events import Event
    from podlite.api.pod import Pod, PodSpec
    from podlite.api.probes import LifecycleHandler
    from podlite.api.status import PodCondition
    from podlite.cri.services import ImageService, RuntimeService
    from podlite.kubelet.admission import Rejection
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.image_manager import Credentials, Record
    from podlite.kubelet.pod_record import PodRecord
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.pull_records import PullCredential
    from podlite.kubelet.streams import PodStreams
    from podlite.kubelet.types import Prober
    from podlite.kubelet.watch import Subscription

# Of how many removed pods the events are kept: somebody may just be looking.
_EVENTS_OF_REMOVED = 32


class PodNotFound(PodliteError):
    """There is no such pod."""


class PodExists(PodliteError):
    """Another pod has the name, or the UID."""


class Kubelet:
    """Runs pods. An async context manager; everything else is for inside of it.

    Pods that are handed out are not to be changed: take a copy.
    """

    def __init__(
        self,
        runtime: RuntimeService,
        images: ImageService,
        config: KubeletConfig | None = None,
        *,
        clock: Clock | None = None,
        credentials: Credentials | None = None,
        cgroups: PodCgroups | None = None,
        first_version: int = 0,
    ) -> None:
        """`first_version` is what resource versions begin after: those of a predecessor must not come again."""
        self.config = config or KubeletConfig()
        self.runtime = runtime
        self.images = images
        self.clock: Clock = clock or SystemClock()
        self.objects = Objects()
        self.recorder = EventRecorder(self.clock, self.config.node_name, self._happened)
        self._statuses = StatusManager(self.clock, self._changed, first_version=first_version)
        self._cgroups = cgroups or PodCgroups(self.config)
        self._credentials = credentials
        self._adding: set[str] = set()
        self._removed: list[str] = []
        self._streams: PodStreams | None = None

    async def __aenter__(self) -> Kubelet:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            self._build()
            await self._tasks.start(self._pleg.run)
        except BaseException as error:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    def _build(self) -> None:
        config, clock = self.config, self.clock
        self._pod_json = PodJson(config, self._tasks, clock, self.recorder.events)
        self._pleg = Pleg(self.runtime, clock, config, self._woken)
        self._image_manager = ImageManager(
            self.images,
            clock,
            BackOff(clock, config.image_back_off, config.max_image_back_off),
            self._tasks,
            self._credentials or self._find_credentials,
            f"{config.state_dir}/image_manager",
        )
        self._killer = PodKiller(self.runtime, self.recorder, clock, self._run_hook)
        starter = ContainerStarter(
            runtime=self.runtime,
            images=self._image_manager,
            recorder=self.recorder,
            killer=self._killer,
            hooks=self._run_hook,
            back_off=BackOff(clock, config.container_back_off, config.max_container_back_off, CONTAINER_RESET_SECONDS),
            clock=clock,
            config=config,
            objects=self.objects,
        )
        self._parts = PodParts(
            config=config,
            objects=self.objects,
            cgroups=self._cgroups,
            recorder=self.recorder,
            clock=clock,
            pod_json=self._pod_json,
            make_prober=self._make_prober,
        )
        syncer = PodSyncer(
            runtime=self.runtime,
            images=self._image_manager,
            starter=starter,
            killer=self._killer,
            parts=self._parts,
            pleg=self._pleg,
            statuses=self._statuses,
            recorder=self.recorder,
            clock=clock,
            config=config,
        )
        self._workers = PodWorkers(self._tasks, syncer, self._statuses, clock, config, report=self.recorder.pod_event)
        self.objects.watch(self._object_changed)
        self._tasks.start_soon(self._keep_house)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(5):
                await self._pod_json.flush()
        self._tasks.cancel_scope.cancel()
        try:
            if isinstance(error, Exception):
                # The caller's own error stays what it is, and does not become part of a group.
                await self._tasks.__aexit__(None, None, None)
                return None
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            self._statuses.close()
            self.recorder.close()
            self._pod_json.close()
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._parts.close)

    async def _find_credentials(self, pod: Pod, image: str, record: Record) -> list[PullCredential]:
        from podlite.kubelet.credentials.lookup import PullCredentials

        return await PullCredentials(self.objects, self.config.docker_configs).lookup(pod, image, record)

    # --- pods ---------------------------------------------------------------------------------

    async def add_pod(self, pod: Pod, objects: Iterable[Object] = ()) -> Pod:
        """Runs a pod that has been validated and defaulted; returns it with its UID, as soon as it is known.

        `objects` are ConfigMaps and Secrets for it and for others. A pod that this machine cannot run is Failed
        at once, with a reason. Raises PodExists.
        """
        pod = self._new_pod(pod)
        meta, uid = pod.metadata, pod.metadata.uid
        known = uid in self._adding or self._workers.get(uid) is not None
        if known or self.find(meta.namespace, meta.name) is not None:
            raise PodExists(f'pods "{meta.name}" already exists')
        self._adding.add(uid)
        try:
            self.objects.update(objects)
            with step("pod.admit", pod=labels.pod_name(pod)):
                rejection = await self._admit(pod)
            self._statuses.add(pod)
            self._pleg.track(uid)
            if rejection is not None:
                self.recorder.pod_event(pod, events.WARNING, rejection.reason, rejection.message)
                status = rejected_status(pod, rejection.reason, rejection.message, rfc3339(self.clock.now_ns()))
                self._statuses.set_stopped(uid)
                self._statuses.set(pod, status)
            self._workers.add(pod, WorkerState.SYNC if rejection is None else WorkerState.FINISHED)
        finally:
            self._adding.discard(uid)
        return self._statuses.pod(uid) or pod

    async def adopt_pod(self, pod: Pod) -> Pod:
        """Goes on with a pod that another podlite began, with the status it had; see `podlite.kubelet.adopt`.

        Raises PodExists, CRIError.
        """
        from podlite.kubelet.adopt import adopted_state

        uid = pod.metadata.uid
        if self._workers.get(uid) is not None:
            raise PodExists(f'pods "{pod.metadata.name}" already exists')
        self._pleg.track(uid)
        runtime = await self._pleg.inspect(uid)
        for each in runtime.containers:
            if each.state == ContainerState.CONTAINER_CREATED:
                # The other podlite did not come to start it. It is no instance that has ended: the next is not another.
                await self.runtime.remove_container(each.id)
                runtime = await self._pleg.inspect(uid)
        self._statuses.add(pod)
        record = self._workers.add(pod, adopted_state(pod, runtime))
        record.adopted = True
        if record.deleted:
            record.grace = pod.metadata.deletion_grace_period_seconds
        return self.pod(uid)

    async def hold_pods(self, uids: Iterable[str]) -> list[str]:
        """Makes pods that another podlite has written down this one's; returns whose could not be had."""
        return await to_thread.run_sync(self._pod_json.hold, list(uids))

    async def update_pod(self, pod: Pod) -> Pod:
        """Replaces what is wanted of a pod: an image, labels, ephemeral containers, the deadline.

        Its deletion, creation and status stay. Raises PodNotFound.
        """
        record = self._record(pod.metadata.uid)
        now = record.pod
        pod = structs.replace(pod, spec=self._on_this_node(pod.spec))
        generation = now.metadata.generation + (pod.spec != now.spec)
        meta = structs.replace(
            pod.metadata,
            generation=generation,
            creation_timestamp=now.metadata.creation_timestamp,
            deletion_timestamp=now.metadata.deletion_timestamp,
            deletion_grace_period_seconds=now.metadata.deletion_grace_period_seconds,
        )
        changed = structs.replace(pod, metadata=meta, status=now.status)
        self._workers.update(record, changed)
        self._statuses.set_spec(changed)
        if changed.spec.volumes:
            self._tasks.start_soon(self._parts.update_volumes, changed)
        return self.pod(record.uid)

    async def delete_pod(self, uid: str, grace_period_seconds: int | None = None, *, keep_logs: bool = False) -> None:
        """Asks for the end of a pod and the removal of everything of it, and returns.

        The containers have `grace_period_seconds` to end, by default the pod's own; 0 kills them at once. Asked
        for again the time can only become shorter. Raises PodNotFound.
        """
        record = self._record(uid)
        grace = grace_period_seconds
        if grace is None:
            grace = record.pod.spec.termination_grace_period_seconds
        if grace is None:
            grace = 30
        meta = record.pod.metadata
        if meta.deletion_grace_period_seconds is None or grace < meta.deletion_grace_period_seconds:
            until = self.clock.now_ns() + grace * NANOSECONDS
            meta = structs.replace(meta, deletion_timestamp=rfc3339(until), deletion_grace_period_seconds=grace)
            record.pod = structs.replace(record.pod, metadata=meta)
            self._statuses.set_spec(record.pod)
        record.keep_logs = record.keep_logs or keep_logs
        self._workers.terminate(record, grace)

    async def stop_pod(self, uid: str, grace_period_seconds: int | None = None) -> None:
        """Asks for the end of a pod, and returns; what is left of it is kept: containers, logs, status.

        The grace period is as for `delete_pod`. Raises PodNotFound.
        """
        self._workers.terminate(self._record(uid), grace_period_seconds)

    async def evict_pod(self, uid: str, message: str, reason: str = "Evicted", grace_period_seconds: int = 1) -> None:
        """Ends a pod that the machine cannot bear any more; it is Failed, and kept. Raises PodNotFound."""
        record = self._record(uid)
        self.recorder.pod_event(record.pod, events.WARNING, reason, message)
        self._workers.terminate(record, grace_period_seconds, (reason, message))

    async def add_ephemeral_container(self, uid: str, container: EphemeralContainer) -> Pod:
        """Starts a container for debugging in a running pod. Raises PodNotFound, PodExists for its name."""
        pod = self._record(uid).pod
        if labels.find_container(pod, container.name) is not None:
            raise PodExists(f'the pod {labels.pod_name(pod)} has a container "{container.name}" already')
        spec = structs.replace(pod.spec, ephemeral_containers=[*pod.spec.ephemeral_containers, container])
        return await self.update_pod(structs.replace(pod, spec=spec))

    def set_pod_condition(self, uid: str, condition: PodCondition) -> None:
        """Sets a condition that is not the kubelet's own, such as that of a readiness gate.

        Raises PodNotFound, and ValueError for a condition of the kubelet's.
        """
        record = self._record(uid)
        self._statuses.set_condition(uid, condition)
        record.wake.set()

    def pods(self) -> list[Pod]:
        """All pods with their status, oldest first."""
        return list(self._statuses.pods())

    def pod(self, uid: str) -> Pod:
        """The pod with its status. Raises PodNotFound."""
        found = self._statuses.pod(uid)
        if found is None:
            raise PodNotFound(f"there is no pod with the UID {uid}")
        return found

    def has_pod(self, uid: str) -> bool:
        """Whether the pod is one of this kubelet's, however far on its way in or out."""
        return uid in self._adding or self._workers.get(uid) is not None

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod with that name."""
        record = self._workers.named(namespace, name)
        return None if record is None else self._statuses.pod(record.uid)

    def watch(self, *, initial: bool = False) -> Subscription[PodChange]:
        """Changes of pods from now on: an async iterator, and a context manager that ends it.

        `initial` has the pods there are come first, as ADDED. Nothing waits for a slow reader, which may miss
        what lay between two changes of a pod, but never the newest.
        """
        subscription = self._statuses.watch()
        for pod in self.pods() if initial else ():
            subscription.put(pod.metadata.uid, PodChange("ADDED", pod))
        return subscription

    @property
    def resource_version(self) -> int:
        """The version of the last change of any pod: a watch that begins here misses nothing."""
        return self._statuses.newest_version

    def events(self, uid: str | None = None) -> list[Event]:
        """What happened, to one pod if its UID is given; the latest comes last."""
        return self.recorder.events(uid)

    def watch_events(self) -> Subscription[Event]:
        """Events from now on, each time one happens or happens again."""
        return self.recorder.watch()

    async def wait_terminated(self, uid: str) -> Pod:
        """Waits until the pod is over and stopped: its phase is terminal, volumes and cgroup are given back.

        Raises PodNotFound.
        """
        record = self._record(uid)
        await record.finished.wait()
        return record.last or self.pod(uid)

    async def wait_removed(self, uid: str) -> None:
        """Waits until nothing is left of a pod that was deleted. An unknown pod is no error."""
        record = self._workers.get(uid)
        if record is not None:
            await record.removed.wait()

    @property
    def streams(self) -> PodStreams:
        """Logs, exec, attach and port-forward."""
        if self._streams is None:
            from podlite.kubelet.streams import PodStreams

            self._streams = PodStreams(self.runtime, self._pleg, self.config, self._tasks)
        return self._streams

    def runtime_status(self, uid: str) -> RuntimePodStatus:
        """What the runtime said of the pod last."""
        return self._pleg.get(uid)

    # --- within -------------------------------------------------------------------------------

    def _record(self, uid: str) -> PodRecord:
        record = self._workers.get(uid)
        if record is None:
            raise PodNotFound(f"there is no pod with the UID {uid}")
        return record

    def _new_pod(self, pod: Pod) -> Pod:
        meta = structs.replace(
            pod.metadata,
            namespace=pod.metadata.namespace or "default",
            uid=pod.metadata.uid or new_uid(),
            generation=pod.metadata.generation or 1,
            creation_timestamp=pod.metadata.creation_timestamp or rfc3339(self.clock.now_ns()),
        )
        return structs.replace(pod, metadata=meta, spec=self._on_this_node(pod.spec))

    def _on_this_node(self, spec: PodSpec) -> PodSpec:
        """As bound by a scheduler, unless the manifest names a node already."""
        return spec if spec.node_name else structs.replace(spec, node_name=self.config.node_name)

    async def _admit(self, pod: Pod) -> Rejection | None:
        ports = any(port.host_port for each in labels.all_containers(pod) for port in each.ports)
        nothing = _asks_for_nothing(pod)
        # Only for whom it matters: with a thousand pods it is a millisecond, for none of them is in a cache.
        others = self._workers.active_pods() if ports or not nothing else []
        if nothing:
            rejection = admission.check_admission(pod, self.config, others=others)
        else:
            rejection = await to_thread.run_sync(lambda: admission.check_admission(pod, self.config, others=others))
        if rejection is None and ports:
            from podlite.kubelet.host_ports import check_host_ports

            rejection = check_host_ports(pod, others)
        return rejection

    def _changed(self, change: PodChange) -> None:
        if change.type == DELETED:
            self._pod_json.forget(change.pod.metadata.uid)
            self._removed.append(change.pod.metadata.uid)
            if len(self._removed) > _EVENTS_OF_REMOVED:
                self.recorder.remove(self._removed.pop(0))
            if self._streams is not None:
                self._streams.pod_gone(change.pod.metadata.uid)
        else:
            self._pod_json.put(change.pod)

    def _happened(self, uid: str) -> None:
        if self._statuses.get(uid) is not None:
            self._pod_json.put_events(uid)

    def _woken(self, uid: str, started: bool) -> None:
        self._workers.wake(uid, unless_busy=started)
        if self._streams is not None:
            self._streams.look_for_ends(uid)

    def _object_changed(self, kind: str, namespace: str, name: str) -> None:
        from podlite.kubelet.objects import refers_to

        for record in self._workers:
            pod = record.pod
            if record.state is not WorkerState.SYNC or pod.metadata.namespace != namespace:
                continue
            if record.volumes is not None and refers_to(pod, kind, name):
                self._tasks.start_soon(self._parts.update_volumes, pod)
            if record.retry_at is not None:
                record.wake.set()  # it may be what the pod waits for

    async def _run_hook(self, container_id: str, pod: Pod, container: Container, handler: LifecycleHandler) -> None:
        from podlite.kubelet.lifecycle import run_handler

        def record(type: str, reason: str, message: str) -> None:
            self.recorder.pod_event(pod, type, reason, message)

        await run_handler(self.runtime, container_id, pod, container, handler, clock=self.clock, record=record)

    def _make_prober(self) -> Prober:
        from podlite.kubelet.prober.manager import ProbeManager

        return ProbeManager(self._tasks, self.runtime, self.clock, self._probed, self.recorder.container_event)

    def _probed(self, uid: str, container_id: str, kind: str, result: ProbeResult) -> None:
        """A probe has come to another result."""
        if kind == "readiness":
            self._statuses.set_container_readiness(uid, container_id, result == ProbeResult.SUCCESS)
        elif kind == "startup":
            self._statuses.set_container_startup(uid, container_id, result == ProbeResult.SUCCESS)
        elif result != ProbeResult.FAILURE:
            return
        self._workers.wake(uid)

    async def _keep_house(self) -> None:
        # Everything it does comes later than most runs last: it is imported then.
        began = self.clock.monotonic()
        await self.clock.sleep(min(self.config.container_log_monitor_interval, self.config.container_gc_period))
        from podlite.kubelet.housekeeping import Housekeeping

        await Housekeeping(self, self._workers, self._pleg, self._parts).run(began)


def new_uid() -> str:
    """A random UUID (RFC 9562, version 4)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _asks_for_nothing(pod: Pod) -> bool:
    """Whether admitting the pod needs no look at the machine, which would block, nor at other pods' requests."""
    from podlite.kubelet.resources import has_resources

    return not admission.needs_app_armor(pod) and not has_resources(pod)
