"""The threads that change their namespaces: nobody else's, waited for, and replaced when in doubt."""

from __future__ import annotations

import asyncio
import os
import threading

import anyio
import pytest

from podlite.cri.errors import CRIError
from podlite.linux.netns import THREAD_NETNS, PoisonedThreadError
from podlite.linux.syscalls import CLONE_NEWNET, unshare
from podlite.runtime.namespace_threads import Job, NamespaceThreads

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def where(own_netns: int) -> tuple[int, str]:
    return threading.get_native_id(), os.readlink(THREAD_NETNS)


async def test_a_poisoned_thread_is_retired_and_replaced() -> None:
    others = set(threading.enumerate())  # another runtime of this process may have such threads, too

    def ours() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "podlite-netns" and each not in others]

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
        with anyio.fail_after(60):
            while len(ours()) > 1:
                await anyio.sleep(0.01)  # the lost ones have told of it and are about to end
    finally:
        await anyio.to_thread.run_sync(threads.close)
    assert ours() == []


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


class Held:
    """A job that ends when it is let go of, and a place where its caller waits."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.done = False

    def __call__(self, own_netns: int) -> str:
        self.begun.set()
        if not self.go_on.wait(60):
            raise TimeoutError
        self.done = True
        return "made"

    async def wait_begun(self) -> None:
        await anyio.to_thread.run_sync(self.begun.wait)

    async def let_go_later(self) -> None:
        """Once the loop has had many turns: in each, anyio would deliver the cancellation again."""
        for _ in range(100):
            await anyio.lowlevel.cancel_shielded_checkpoint()
        self.go_on.set()


async def test_a_job_is_waited_for_when_its_caller_is_cancelled() -> None:
    """Half a namespace is nobody's: its result is the caller's, whom the cancellation meets afterwards."""
    threads = NamespaceThreads(1)
    held = Held()
    results = []
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            results.append((await threads.run(held), held.done))
            await anyio.lowlevel.checkpoint()
            results.append("not cancelled")

        tasks.start_soon(call)
        await held.wait_begun()
        tasks.cancel_scope.cancel()
        await held.let_go_later()
    assert results == [("made", True)]
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    await anyio.to_thread.run_sync(threads.close)


async def test_a_job_begun_by_a_cancelled_caller_is_done() -> None:
    threads = NamespaceThreads(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await threads.run(where) is not None
    assert not scope.cancelled_caught
    await anyio.to_thread.run_sync(threads.close)


async def test_a_job_is_waited_for_when_its_task_is_cancelled_by_asyncio() -> None:
    """asyncio's own cancellation comes once: it is not swallowed, nor is the job abandoned."""
    threads = NamespaceThreads(1)
    held = Held()
    task = asyncio.create_task(threads.run(held))
    await held.wait_begun()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    await held.let_go_later()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.done
    await anyio.to_thread.run_sync(threads.close)


@pytest.mark.parametrize("failing", [False, True])
async def test_a_cancelled_job_can_be_interrupted(*, failing: bool) -> None:
    """What is interrupted fails or not: the caller hears of its cancellation."""
    threads = NamespaceThreads(1)
    held = Held()

    def job(own_netns: int) -> str:
        made = held(own_netns)
        if failing:
            raise OSError("interrupted")
        return made

    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await held.wait_begun()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            await threads.run(job, interrupt=held.go_on.set)
            pytest.fail("not cancelled")
    assert scope.cancelled_caught
    assert held.done
    await anyio.to_thread.run_sync(threads.close)


async def test_what_a_job_raises_is_its_callers() -> None:
    threads = NamespaceThreads(1)

    def fail(own_netns: int) -> None:
        raise FileExistsError(17, "there is one already")

    with pytest.raises(FileExistsError, match="there is one already"):
        await threads.run(fail)
    await anyio.to_thread.run_sync(threads.close)


async def test_jobs_that_come_one_after_the_other_are_one_threads() -> None:
    """The others would have to be woken up, with cold caches."""
    threads = NamespaceThreads(4)
    await threads.run(where)
    with anyio.fail_after(60):
        while len(threads._idle) < 4:
            await anyio.sleep(0.01)  # one that is only just starting would be asked next
    assert len({(await threads.run(where))[0] for _ in range(200)}) == 1
    await anyio.to_thread.run_sync(threads.close)


async def test_each_of_many_jobs_is_answered_and_they_are_done_side_by_side() -> None:
    threads = NamespaceThreads(3)
    answers: list[int] = []
    together = threading.Barrier(3)

    async def ask(number: int) -> None:
        for each in range(20):
            answer = await threads.run(lambda own_netns, each=each: number * 100 + each)  # type: ignore[misc]
            answers.append(answer)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(threads.run, lambda own_netns: together.wait(60))
        for number in range(100):
            tasks.start_soon(ask, number)
    assert sorted(answers) == sorted(number * 100 + each for number in range(100) for each in range(20))
    await anyio.to_thread.run_sync(threads.close)


async def test_closing_waits_for_what_was_handed_over() -> None:
    threads = NamespaceThreads(1)
    before = len(os.listdir("/proc/self/fd"))
    held = Held()
    results: list[object] = []

    async def call(job: Job[object]) -> None:
        results.append(await threads.run(job))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, held)
        await held.wait_begun()
        tasks.start_soon(call, where)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(anyio.to_thread.run_sync, threads.close)
        await held.let_go_later()
    assert results[0] == "made"
    assert len(results) == 2
    with pytest.raises(RuntimeError, match="closed"):
        await threads.run(where)
    await anyio.to_thread.run_sync(threads.close)
    await anyio.lowlevel.checkpoint()
    assert len(os.listdir("/proc/self/fd")) <= before


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
