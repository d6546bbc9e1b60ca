"""Threads that are kept on one CPU, and those that are not. Expected values from sched_setaffinity(2)."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from podlite import blocking
from podlite.linux import affinity

T = TypeVar("T")
ALL = os.sched_getaffinity(0)

pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="this machine has one CPU for us")


@pytest.fixture(autouse=True)
def scattered() -> Iterator[None]:
    affinity.scatter()
    yield
    affinity.scatter()
    assert os.sched_getaffinity(0) == ALL


def on_a_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def cpus() -> set[int]:
    return os.sched_getaffinity(0)


def test_who_gathers_stays_on_one_cpu_until_it_scatters() -> None:
    affinity.gather()
    assert cpus() == {affinity.home}
    affinity.gather()
    assert cpus() == {affinity.home}
    affinity.scatter()
    assert not affinity.gathered
    assert cpus() == ALL
    affinity.scatter()


def test_another_thread_scatters_nobody() -> None:
    affinity.gather()
    on_a_thread(affinity.scatter)
    assert cpus() == {affinity.home}


def test_a_thread_begins_where_the_one_is_that_starts_it_unless_it_spreads() -> None:
    affinity.gather()

    def spread() -> set[int]:
        affinity.spread()
        return cpus()

    assert on_a_thread(cpus) == {affinity.home}
    assert on_a_thread(spread) == ALL


def test_who_follows_comes_along_and_goes_back() -> None:
    begun, gathered, scattered, done = (threading.Event() for _ in range(4))
    seen: list[set[int]] = []

    def work() -> None:
        at = affinity.follow(-1)
        seen.append(cpus())
        begun.set()
        gathered.wait()
        at = affinity.follow(at)
        seen.append(cpus())
        done.set()
        scattered.wait()
        affinity.follow(at)
        seen.append(cpus())

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    affinity.gather()
    home = affinity.home
    gathered.set()
    done.wait()
    affinity.scatter()
    scattered.set()
    thread.join()
    assert seen == [ALL, {home}, ALL]


def test_a_program_that_is_started_elsewhere_runs_everywhere() -> None:
    def started() -> set[int]:
        with affinity.elsewhere():
            process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
        try:
            return os.sched_getaffinity(process.pid)
        finally:
            process.communicate()

    affinity.gather()
    assert started() == ALL
    assert cpus() == {affinity.home}
    affinity.scatter()
    assert started() == ALL


@pytest.mark.anyio
async def test_worker_threads_come_along() -> None:
    affinity.gather()
    assert await blocking.run(cpus) == {affinity.home}
    affinity.scatter()
    assert await blocking.run(cpus) == ALL
