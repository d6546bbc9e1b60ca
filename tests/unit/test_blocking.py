"""Blocking work on worker threads: results, failures, cancellation, and what becomes of the threads."""

import asyncio
import threading
from collections.abc import Iterator

import anyio
import pytest

from podlite import blocking

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_returns_and_raises_what_the_function_does() -> None:
    assert await blocking.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await blocking.run(divmod, 7, 0)


async def test_runs_on_another_thread() -> None:
    assert await blocking.run(threading.get_ident) != threading.get_ident()
    assert (await blocking.run(threading.current_thread)).name == blocking.NAME


async def test_stop_iteration_becomes_what_a_future_can_carry() -> None:
    nothing: Iterator[int] = iter(())
    with pytest.raises(RuntimeError):
        await blocking.run(next, nothing)


async def test_a_cancelled_caller_does_not_begin() -> None:
    begun = threading.Event()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await blocking.run(begun.set)
    assert scope.cancelled_caught
    assert not begun.is_set()


async def test_what_has_begun_is_waited_for_and_then_the_cancellation_is_delivered() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        go_on.wait()
        done.append("worked")

    async def run() -> None:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel, scope)
            await blocking.run(work)
            done.append("returned")
            await anyio.lowlevel.checkpoint()
            done.append("not cancelled")

    async def cancel(scope: anyio.CancelScope) -> None:
        while not begun.is_set():
            await anyio.lowlevel.checkpoint()
        scope.cancel()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        assert not done
        go_on.set()

    async with anyio.create_task_group() as tasks:
        await run()
    assert done == ["worked", "returned"]


async def test_a_task_that_asyncio_cancels_does_not_disturb_the_thread() -> None:
    go_on = threading.Event()
    task = asyncio.create_task(blocking.run(go_on.wait))
    await anyio.lowlevel.checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await blocking.run(divmod, 7, 2) == (3, 1)


async def test_many_at_once_use_many_threads_and_the_rest_wait() -> None:
    workers = blocking._Workers()
    loop = asyncio.get_running_loop()
    all_there = threading.Barrier(blocking._MOST)
    futures: list[asyncio.Future[int]] = []
    for function in [all_there.wait] * blocking._MOST + [lambda: -1] * 5:
        futures.append(loop.create_future())
        workers.put((function, (), loop, futures[-1]))
    results = [await each for each in futures]
    assert sorted(results[: blocking._MOST]) == list(range(blocking._MOST))
    assert results[blocking._MOST :] == [-1] * 5
    with workers._lock:
        assert (workers._threads, workers._waiting) == (blocking._MOST, 0)


async def test_threads_that_are_not_needed_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "_IDLE_SECONDS", 0.0)
    workers = blocking._Workers()
    loop = asyncio.get_running_loop()

    async def run(function: object) -> threading.Thread:
        future: asyncio.Future[threading.Thread] = loop.create_future()
        workers.put((function, (), loop, future))  # type: ignore[arg-type]
        return await future

    together = threading.Barrier(3)

    def meet() -> threading.Thread:
        together.wait()
        return threading.current_thread()

    async with anyio.create_task_group() as tasks:
        used: list[threading.Thread] = []

        async def one() -> None:
            used.append(await run(meet))

        for _ in range(3):
            tasks.start_soon(one)
    assert len(set(used)) == 3
    while workers._threads > 1:
        used.append(await run(threading.current_thread))
    while sum(each.is_alive() for each in set(used)) > 1:
        await anyio.lowlevel.checkpoint()
