"""The threads that change their namespaces: nobody else's, waited for, and replaced when in doubt."""

from __future__ import annotations

import os
import threading
import time

import anyio
import pytest

from podlite.cri.errors import CRIError
from podlite.linux.netns import THREAD_NETNS, PoisonedThreadError
from podlite.linux.syscalls import CLONE_NEWNET, unshare
from podlite.runtime.namespace_threads import NamespaceThreads

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def where(own_netns: int) -> tuple[int, str]:
    return threading.get_native_id(), os.readlink(THREAD_NETNS)


async def test_a_poisoned_thread_is_retired_and_replaced() -> None:
    threads = NamespaceThreads(1)
    home = os.readlink(THREAD_NETNS)

    def lost(own_netns: int) -> None:
        unshare(CLONE_NEWNET)
        raise PoisonedThreadError("a thread could not leave another network namespace")

    try:
        first, at = await threads.run(where)
        assert at == home
        for _ in range(3):
            with pytest.raises(CRIError, match="could not leave another network namespace"):
                await threads.run(lost)
            second, at = await threads.run(where)
            assert (second != first, at) == (True, home)
            first = second
        with anyio.fail_after(10):
            while len([each for each in threading.enumerate() if each.name == "podlite-netns"]) > 1:
                await anyio.sleep(0.01)  # the lost ones have told of it and are about to end
    finally:
        await anyio.to_thread.run_sync(threads.close)
    assert not [each for each in threading.enumerate() if each.name == "podlite-netns"]


async def test_a_poisoned_thread_takes_no_other_job_with_it() -> None:
    threads = NamespaceThreads(2)
    found: list[str] = []

    def lost(own_netns: int) -> None:
        unshare(CLONE_NEWNET)
        raise PoisonedThreadError("lost")

    async def lose() -> None:
        with pytest.raises(CRIError, match="lost"):
            await threads.run(lost)

    async def look() -> None:
        found.append((await threads.run(where))[1])

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(lose)
            tasks.start_soon(look)
    assert set(found) == {os.readlink(THREAD_NETNS)}
    await anyio.to_thread.run_sync(threads.close)


async def test_a_job_is_waited_for_when_its_caller_is_cancelled() -> None:
    """Half a namespace is nobody's."""
    threads = NamespaceThreads(1)
    done = []

    def slowly(own_netns: int) -> None:
        time.sleep(0.2)
        done.append(True)

    with anyio.CancelScope() as scope:
        scope.cancel()
        await threads.run(slowly)
    assert done == [True]
    await anyio.to_thread.run_sync(threads.close)


async def test_the_shared_pool_never_leaves_home() -> None:
    """anyio's own worker threads serve everybody."""
    threads = NamespaceThreads(1)
    await threads.run(lambda own_netns: None)
    own = {thread.native_id for thread in threading.enumerate() if thread.name == "podlite-netns"}
    used = set()

    def look() -> None:
        used.add(threading.get_native_id())

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(anyio.to_thread.run_sync, look)
    assert not own & used
    await anyio.to_thread.run_sync(threads.close)
