from __future__ import annotations

from typing import Any

import anyio
import pytest

from podlite.bench import measure
from podlite.bench.measure import GIVE_UP, Budget, Samples, closed_loop, make_live, open_loop

pytestmark = pytest.mark.anyio


class Things:
    """A workload that counts what it has made and taken back, and how many were there at once."""

    def __init__(self) -> None:
        self.made = 0
        self.there = 0
        self.most = 0

    async def create(self) -> int:
        self.made += 1
        self.there += 1
        self.most = max(self.most, self.there)
        number = self.made
        try:
            await anyio.sleep(0)
        except BaseException:
            self.there -= 1
            raise
        return number

    async def teardown(self, handle: Any) -> None:
        await anyio.sleep(0)
        self.there -= 1


async def test_the_closed_loop_has_its_number_of_operations_at_a_time() -> None:
    things, samples = Things(), Samples()
    await closed_loop(things, 4, Budget(100), samples)
    assert (things.made, things.there, things.most) == (100, 0, 4)
    assert len(samples.operations) == 100
    assert samples.wall_ns >= max(create + teardown for _, create, teardown in samples.operations)


async def test_a_failed_operation_is_counted_and_not_measured() -> None:
    class Failing(Things):
        async def create(self) -> int:
            number = await super().create()
            if number % 5 == 0:
                self.there -= 1
                raise OSError(28, "No space left on device")
            return number

    things, samples = Failing(), Samples()
    await closed_loop(things, 1, Budget(20), samples)
    assert len(samples.operations) == 16
    assert samples.errors == ["No space left on device"] * 4


async def test_what_never_works_is_given_up() -> None:
    class Broken(Things):
        async def create(self) -> int:
            raise OSError(1, "Operation not permitted")

    samples = Samples()
    await closed_loop(Broken(), 1, Budget(1000), samples)
    assert len(samples.errors) == GIVE_UP


async def test_cancelled_it_takes_back_what_it_has_made_and_keeps_what_it_has_measured() -> None:
    things, samples = Things(), Samples()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(closed_loop, things, 3, Budget(1_000_000), samples)
            while len(samples.operations) < 10:
                await anyio.sleep(0)
            scope.cancel()
    assert things.there == 0
    assert 10 <= len(samples.operations) < 1_000_000
    assert samples.wall_ns > 0


async def test_the_open_loop_counts_from_the_scheduled_arrival() -> None:
    """Coordinated omission: while one operation stalls, those that arrive meanwhile are late by as much."""
    begun: list[int] = []

    class Stalled(Things):
        async def create(self) -> int:
            begun.append(len(begun))
            if len(begun) == 1:
                await anyio.sleep(0.05)
            return await super().create()

    samples = Samples()
    schedule = [0.0, 0.01, 0.02, 0.03]
    await open_loop(Stalled(), 1, schedule, samples)
    arrivals = [begin for begin, _, _ in samples.operations]
    assert [round((each - arrivals[0]) / 1e6) for each in arrivals] == [0, 10, 20, 30]
    # With the one worker busy until 50 ms, the second cannot have taken less than 40, and so on.
    for (_, create, _), least in zip(samples.operations, (50, 40, 30, 20), strict=True):
        assert create >= least * 1_000_000


async def test_the_open_loop_does_not_wait_for_those_before() -> None:
    started, all_started = 0, anyio.Event()

    class Waiting(Things):
        async def create(self) -> int:
            nonlocal started
            started += 1
            if started == 5:
                all_started.set()
            await all_started.wait()
            return await super().create()

    samples = Samples()
    await open_loop(Waiting(), 8, [0.0, 0.001, 0.002, 0.003, 0.004], samples)
    assert len(samples.operations) == 5


async def test_live_ones_are_made_and_taken_back_to_the_number() -> None:
    things, handles = Things(), list[Any]()
    await make_live(things, handles, 10)
    assert (len(handles), things.there) == (10, 10)
    await make_live(things, handles, 3)
    assert (len(handles), things.there) == (3, 3)
    await make_live(things, handles, 0)
    assert things.there == 0


def test_a_budget_of_time_ends() -> None:
    budget = Budget(1, seconds=0.001)
    while budget.take():
        pass
    assert not budget.take()


@pytest.mark.parametrize("hangs_in", ["create", "teardown"])
async def test_an_operation_that_hangs_is_given_up_and_its_worker_goes_on(
    hangs_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_OPERATION_SECONDS", 0.01)

    class Hanging(Things):
        async def create(self) -> int:
            number = await super().create()
            if hangs_in == "create" and number == 2:
                self.there -= 1
                await anyio.sleep_forever()
            return number

        async def teardown(self, handle: Any) -> None:
            if hangs_in == "teardown" and handle == 2:
                self.there -= 1
                await anyio.sleep_forever()
            await super().teardown(handle)

    things, samples = Hanging(), Samples()
    await closed_loop(things, 1, Budget(4), samples)
    assert (things.made, things.there, len(samples.operations)) == (4, 0, 3)
    assert samples.errors == ["it had not ended after 0.01 s"]


async def test_the_time_of_an_operation_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with the first one, however many a worker has."""
    monkeypatch.setattr(measure, "_OPERATION_SECONDS", 1.02)

    class Slow(Things):
        async def teardown(self, handle: Any) -> None:
            await anyio.sleep(0.1)
            await super().teardown(handle)

    things, samples = Slow(), Samples()
    await closed_loop(things, 1, Budget(12), samples)
    assert (len(samples.operations), samples.errors) == (12, [])
