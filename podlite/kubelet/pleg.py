"""The pod lifecycle event generator: knows what the runtime says of each pod, and tells when that changes.

It lives on the runtime's own event stream, in which every event carries the state of its sandbox. Only while a
runtime has no stream, or the stream is broken, is everything listed once a second; and once in a while it is
listed anyway, should an event ever get lost. No process is ever polled.
Source: pkg/kubelet/pleg/evented.go and generic.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from podlite import blocking, log
from podlite.cri.errors import CRIError, NotFoundError, UnimplementedError
from podlite.cri.types import ContainerEventType, ContainerFilter, ContainerState, PodSandboxFilter
from podlite.kubelet import labels
from podlite.kubelet.pod_status import RuntimePodStatus, container_status, pod_status, with_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskStatus

    from podlite.cri.services import RuntimeService
    from podlite.cri.types import Container, ContainerEvent, ContainerStatus, PodSandbox
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.pod_status import RuntimeContainerStatus
    from podlite.kubelet.types import KubeletConfig

_OWN_DOING = (ContainerEventType.CONTAINER_CREATED_EVENT, ContainerEventType.CONTAINER_STARTED_EVENT)

# What the clocks of runtime and kubelet may differ by.
_SLACK_NS = 1_000_000_000
# How often in a row the event stream may break before everything is listed instead.
_MAX_STREAM_RETRIES = 5


class Pleg:
    """A cache of pod statuses by UID, for the pods that are tracked.

    `changed` is called with a UID, and whether this is only that something was made or started: most likely it
    was the kubelet itself that did it.
    """

    def __init__(
        self, runtime: RuntimeService, clock: Clock, config: KubeletConfig, changed: Callable[[str, bool], None]
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._config = config
        self._changed = changed
        self._cache: dict[str, RuntimePodStatus] = {}
        self._messages: dict[str, str] = {}
        self._reading: dict[str, anyio.Event] = {}
        self.evented = False

    def track(self, uid: str) -> None:
        """Follows a pod from now on; what the runtime knows of it already is found by `inspect`."""
        self._cache.setdefault(uid, RuntimePodStatus(uid=uid))

    def forget(self, uid: str) -> None:
        """Follows it no more. Idempotent."""
        status = self._cache.pop(uid, None)
        for each in status.containers if status else ():
            self._messages.pop(each.id, None)

    def get(self, uid: str) -> RuntimePodStatus:
        """What is known of a pod; nothing at all of one that the runtime never mentioned."""
        return self._cache.get(uid) or RuntimePodStatus(uid=uid)

    async def newer_than(self, uid: str, timestamp: int) -> RuntimePodStatus:
        """A status that is true of a time after `timestamp`: the cached one, or a new one. Raises CRIError."""
        known = self.get(uid)
        return known if self._true_at(known) > timestamp else await self.inspect(uid)

    def _true_at(self, known: RuntimePodStatus) -> int:
        """When a status was true; 0 for one of the future: somebody has set the clock back, and everything is newer."""
        return known.timestamp if known.timestamp <= self._clock.now_ns() + _SLACK_NS else 0

    async def inspect(self, uid: str) -> RuntimePodStatus:
        """Asks the runtime for the whole state of a pod, and keeps it. Raises CRIError."""
        timestamp = self._clock.now_ns()
        selector = {labels.POD_UID: uid}
        sandboxes = await self._runtime.list_pod_sandbox(PodSandboxFilter(label_selector=selector))
        containers = await self._runtime.list_containers(ContainerFilter(label_selector=selector))
        return await self._inspect(uid, sandboxes, containers, timestamp)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follows the runtime until it is cancelled. Reports as started once no event can be missed."""
        started, broken = False, 0
        while broken < _MAX_STREAM_RETRIES:
            try:
                async with self._runtime.get_container_events() as stream:
                    self.evented = True
                    if not started:
                        started = True
                        task_status.started()
                    else:
                        await self.relist()
                    async for event in stream:
                        broken = 0
                        await self._handle(event)
                broken += 1
            except UnimplementedError:
                break
            except CRIError as error:
                broken += 1
                log.warning("the runtime's event stream broke", why=str(error))
        self.evented = False
        if not started:
            task_status.started()
        log.info("the runtime gives no events; its containers are listed instead", every=self._config.relist_period)
        while True:
            await self.relist()
            await self._clock.sleep(self._config.relist_period)

    async def relist(self) -> None:
        """Lists everything, and looks closer at tracked pods of which anything has changed since the last time."""
        timestamp = self._clock.now_ns()
        try:
            sandboxes = await self._runtime.list_pod_sandbox()
            containers = await self._runtime.list_containers()
        except CRIError as error:
            log.warning("the runtime's pods cannot be listed", why=str(error))
            return
        by_pod: dict[str, tuple[list[PodSandbox], list[Container]]] = {uid: ([], []) for uid in self._cache}
        for sandbox in sandboxes:
            if sandbox.metadata.uid in by_pod:
                by_pod[sandbox.metadata.uid][0].append(sandbox)
        for container in containers:
            uid = container.labels.get(labels.POD_UID, "")
            if uid in by_pod:
                by_pod[uid][1].append(container)
        for uid, (its_sandboxes, its_containers) in by_pod.items():
            states = {each.id: int(each.state) for each in its_sandboxes}
            states |= {each.id: int(each.state) for each in its_containers}
            if states == self._states(uid):
                continue
            try:
                await self._inspect(uid, its_sandboxes, its_containers, timestamp)
            except CRIError as error:
                log.warning("a pod cannot be inspected", uid=uid, why=str(error))
                continue
            self._changed(uid, False)

    def _states(self, uid: str) -> dict[str, int]:
        known = self.get(uid)
        states = {each.id: int(each.state) for each in known.sandboxes}
        return states | {each.id: int(each.state) for each in known.containers}

    async def _inspect(
        self, uid: str, sandboxes: Iterable[PodSandbox], containers: Iterable[Container], timestamp: int
    ) -> RuntimePodStatus:
        found_sandboxes, statuses, sandbox_of = [], [], {}
        for sandbox in sandboxes:
            try:
                found_sandboxes.append(await self._runtime.pod_sandbox_status(sandbox.id))
            except NotFoundError:
                continue  # removed since it was listed
        for container in containers:
            try:
                statuses.append(await self._runtime.container_status(container.id))
            except NotFoundError:
                continue
            sandbox_of[container.id] = container.pod_sandbox_id
        known = await self._container_statuses(statuses, sandbox_of)
        status = pod_status(uid, found_sandboxes, known, timestamp=timestamp, before=self._cache.get(uid))
        return self._keep(status)

    async def _handle(self, event: ContainerEvent) -> None:
        sandbox = event.pod_sandbox_status
        if sandbox is None:
            # The sandbox is gone already; nothing tells whose it was.
            await self.relist()
            return
        uid = sandbox.metadata.uid
        if uid not in self._cache:
            return
        deleted = event.container_event_type == ContainerEventType.CONTAINER_DELETED_EVENT
        if event.created_at > self._true_at(self.get(uid)):
            sandbox_of = {each.id: sandbox.id for each in event.containers_statuses}
            found = await self._container_statuses(event.containers_statuses, sandbox_of)
            if deleted:
                self._messages.pop(event.container_id, None)
                found = [each for each in found if each.id != event.container_id]
            self._keep(
                with_sandbox(
                    self._cache.get(uid),
                    sandbox,
                    found,
                    removed=deleted and event.container_id == sandbox.id,
                    timestamp=event.created_at,
                )
            )
        self._changed(uid, event.container_event_type in _OWN_DOING)
        if event.container_event_type == ContainerEventType.CONTAINER_STARTED_EVENT:
            # Loaded while the container runs, rather than once it has ended and others wait to be told.
            import podlite.kubelet.termination_message  # noqa: F401

    def _keep(self, status: RuntimePodStatus) -> RuntimePodStatus:
        known = self._cache.get(status.uid)
        if known is None:
            return status  # forgotten meanwhile
        if self._true_at(known) > status.timestamp:
            return known
        self._cache[status.uid] = status
        return status

    async def _container_statuses(
        self, statuses: Iterable[ContainerStatus], sandbox_of: dict[str, str]
    ) -> list[RuntimeContainerStatus]:
        for each in statuses:
            if each.state == ContainerState.CONTAINER_EXITED and each.id not in self._messages:
                await self._read_message(each)
        return [container_status(each, sandbox_of[each.id], self._messages) for each in statuses]

    async def _read_message(self, status: ContainerStatus) -> None:
        """Once for all that ask: often the event of a container's end and the worker that has just started it."""
        reading = self._reading.get(status.id)
        if reading is not None:
            await reading.wait()
            if status.id in self._messages:
                return
        reading = self._reading[status.id] = anyio.Event()
        try:
            self._messages[status.id] = await _termination_message(status)
        finally:
            if self._reading.get(status.id) is reading:
                del self._reading[status.id]
            reading.set()


async def _termination_message(status: ContainerStatus) -> str:
    from podlite.kubelet.termination_message import read_termination_message

    return await blocking.run(read_termination_message, status)
