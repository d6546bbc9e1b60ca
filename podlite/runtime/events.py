"""What happens to sandboxes and containers, as it happens: CRI's GetContainerEvents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from podlite.cri.types import ContainerEvent, ContainerEventType
from podlite.runtime.status import container_status, pod_sandbox_status

if TYPE_CHECKING:
    from podlite.runtime.store import Container, Sandbox

# What a subscriber may lag behind; one that does not read is cut off and has to list, as CRI clients do anyway.
BACKLOG = 1000


class _Subscriber:
    """Reads what is published for as long as it keeps up; then what is there already, and no more."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()

    def put(self, event: ContainerEvent) -> bool:
        """Whether there was room for it."""
        if self._events.qsize() >= BACKLOG:
            return False
        self._events.put_nowait(event)
        return True

    def close(self) -> None:
        """Nothing more comes."""
        self._events.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[ContainerEvent]:
        return self

    async def __anext__(self) -> ContainerEvent:
        event = await self._events.get()
        if event is None:
            self.close()
            raise StopAsyncIteration
        return event


class Events:
    """Fans events out to subscribers, none of which can hold up the runtime. Event loop only."""

    def __init__(self) -> None:
        self._subscribers: set[_Subscriber] = set()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[ContainerEvent]]:
        """Entering subscribes; the iterator ends when this subscriber lagged too far behind."""
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            subscriber.close()

    def created(self, container: Container) -> None:
        self._publish(container.sandbox, container.id, ContainerEventType.CONTAINER_CREATED_EVENT)

    def started(self, container: Container) -> None:
        self._publish(container.sandbox, container.id, ContainerEventType.CONTAINER_STARTED_EVENT)

    def stopped(self, container: Container) -> None:
        self._publish(container.sandbox, container.id, ContainerEventType.CONTAINER_STOPPED_EVENT)

    def deleted(self, container: Container) -> None:
        self._publish(container.sandbox, container.id, ContainerEventType.CONTAINER_DELETED_EVENT)

    # A sandbox's own events are reported under its id, as containerd does it.

    def sandbox_ready(self, sandbox: Sandbox) -> None:
        self._publish(sandbox, sandbox.id, ContainerEventType.CONTAINER_STARTED_EVENT)

    def sandbox_stopped(self, sandbox: Sandbox) -> None:
        self._publish(sandbox, sandbox.id, ContainerEventType.CONTAINER_STOPPED_EVENT)

    def sandbox_deleted(self, sandbox: Sandbox) -> None:
        self._publish(sandbox, sandbox.id, ContainerEventType.CONTAINER_DELETED_EVENT)

    def _publish(self, sandbox: Sandbox, id: str, kind: ContainerEventType) -> None:
        if not self._subscribers:
            return
        event = ContainerEvent(
            container_id=id,
            container_event_type=kind,
            created_at=time.time_ns(),
            pod_sandbox_status=pod_sandbox_status(sandbox),
            containers_statuses=[container_status(each) for each in sandbox.containers.values()],
        )
        for subscriber in list(self._subscribers):
            if not subscriber.put(event):
                self._subscribers.discard(subscriber)
                subscriber.close()
