"""List and watch, by the rules of the Kubernetes documentation: "Efficient detection of changes"."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import anyio
import pytest
from msgspec import structs

from podlite.agent.api.cache import Change, WatchCache
from podlite.agent.api.errors import ApiError
from podlite.api.config import ConfigMap
from podlite.api.meta import ObjectMeta

pytestmark = pytest.mark.anyio


def config_map(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data)


async def take(cache: WatchCache[Any], since: int, count: int) -> list[Change[Any]]:
    found: list[Change[Any]] = []
    with anyio.fail_after(60):
        async with aclosing(cache.watch(since)) as changes:  # type: ignore[type-var]
            async for change in changes:
                found.append(change)
                if len(found) == count:
                    break
    return found


async def test_a_watch_begins_where_the_list_ended() -> None:
    cache: WatchCache[ConfigMap] = WatchCache(100)
    cache.put("a", config_map("a"))
    listed = cache.version
    cache.put("b", config_map("b"))
    cache.put("a", config_map("a", key="value"))
    cache.remove("b")
    found = await take(cache, listed, 3)
    assert [(each.type, each.key, each.version) for each in found] == [
        ("ADDED", "b", 102),
        ("MODIFIED", "a", 103),
        ("DELETED", "b", 104),
    ]
    assert [each.value.metadata.resource_version for each in found] == ["102", "103", "104"]


async def test_what_does_not_change_is_no_change() -> None:
    cache: WatchCache[ConfigMap] = WatchCache(0)
    first = cache.put("a", config_map("a"))
    assert cache.put("a", structs.replace(first)) is first
    assert cache.put("a", config_map("a")) is first
    assert cache.version == 1


async def test_what_is_too_old_is_expired() -> None:
    cache: WatchCache[ConfigMap] = WatchCache(0, kept=3)
    for number in range(5):
        cache.put("a", config_map("a", key=str(number)))
    assert [each.version for each in await take(cache, 2, 3)] == [3, 4, 5]
    with pytest.raises(ApiError) as caught:
        cache.check(1)
    assert (caught.value.code, caught.value.status.reason) == (410, "Expired")


async def test_a_reader_that_lags_is_told() -> None:
    cache: WatchCache[ConfigMap] = WatchCache(0, kept=3)
    with pytest.raises(ApiError):
        async with aclosing(cache.watch(0)) as changes:  # type: ignore[type-var]
            cache.put("a", config_map("a"))
            async for _ in changes:
                for number in range(5):
                    cache.put("a", config_map("a", key=str(number)))


async def test_a_waiting_reader_is_woken_and_ended() -> None:
    cache: WatchCache[ConfigMap] = WatchCache(0)
    seen: list[str] = []

    async def read() -> None:
        async for change in cache.watch(0):
            seen.append(change.key)  # noqa: PERF401 - others look at it meanwhile

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(0)
            cache.put("a", config_map("a"))
            while not seen:
                await anyio.sleep(0)
            cache.close()
    assert seen == ["a"]
