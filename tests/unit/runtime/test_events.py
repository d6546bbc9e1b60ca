"""Container events: every subscriber gets all of them, and one that does not read is cut off, not waited for."""

from __future__ import annotations

import anyio
import pytest

from podlite.cri.types import ContainerEventType, PodSandboxConfig, PodSandboxMetadata
from podlite.runtime.events import BACKLOG, Events
from podlite.runtime.store import Sandbox

pytestmark = pytest.mark.anyio


def sandbox() -> Sandbox:
    config = PodSandboxConfig(metadata=PodSandboxMetadata(name="pod", uid="uid", namespace="default"))
    return Sandbox("0123456789abcdef", config, 1, "/nowhere")


async def test_every_subscriber_gets_every_event() -> None:
    events = Events()
    async with events.subscribe() as first, events.subscribe() as second:
        events.sandbox_ready(sandbox())
        events.sandbox_stopped(sandbox())
        for subscriber in (first, second):
            kinds = [(await anext(subscriber)).container_event_type for _ in range(2)]
            assert kinds == [
                ContainerEventType.CONTAINER_STARTED_EVENT,
                ContainerEventType.CONTAINER_STOPPED_EVENT,
            ]


async def test_a_reader_is_woken() -> None:
    events = Events()
    async with events.subscribe() as subscriber, anyio.create_task_group() as tasks:
        got: list[str] = []

        async def read() -> None:
            got.append((await anext(subscriber)).container_id)

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert not got
        events.sandbox_ready(sandbox())
    assert got == ["0123456789abcdef"]


async def test_who_lags_gets_what_there_was_and_the_end() -> None:
    events = Events()
    async with events.subscribe() as slow, events.subscribe() as quick:
        for _ in range(BACKLOG):
            events.sandbox_ready(sandbox())
            await anext(quick)
        events.sandbox_stopped(sandbox())
        events.sandbox_deleted(sandbox())
        assert [each.container_event_type async for each in slow] == [
            ContainerEventType.CONTAINER_STARTED_EVENT
        ] * BACKLOG
        # And again: whoever asks once more is told so once more.
        assert [each async for each in slow] == []
        assert (await anext(quick)).container_event_type == ContainerEventType.CONTAINER_STOPPED_EVENT


async def test_leaving_ends_the_iteration() -> None:
    events = Events()
    async with events.subscribe() as subscriber:
        pass
    events.sandbox_ready(sandbox())
    assert [each async for each in subscriber] == []
