"""The two loops: closed (a fixed number of workers, each with one operation at a time) and open (a fixed schedule).

In the open loop an operation's latency counts from its scheduled arrival, whenever it really began: a stall delays
everybody who arrived meanwhile, and is counted for each of them (no coordinated omission).
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import anyio

from podlite.bench.timer import Timer
from podlite.bench.workload import OperationFailedError, Workload
from podlite.errors import PodliteError, explain

# After so many failures in a row without a success, nothing is to be expected of the rest.
GIVE_UP = 10
# Nothing that is compared takes nearly so long: it hangs, and is given up.
_OPERATION_SECONDS = 60.0


class Budget:
    """How many operations there are to be, or until when; safe between threads."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        """With `seconds` it is time that is limited, and `count` is not looked at."""
        self._numbers = itertools.count()
        self._count = count
        self._deadline = time.monotonic() + seconds if seconds else 0.0
        self.stopped = False

    def take(self) -> bool:
        """Whether there is to be one more."""
        if self.stopped:
            return False
        if self._deadline:
            return time.monotonic() < self._deadline
        return next(self._numbers) < self._count


class Samples:
    """What a loop has measured, in nanoseconds: one (begin, create, teardown) for each operation that worked.

    `begin` is CLOCK_MONOTONIC, or the scheduled arrival. Appending is all that happens while it is measured.
    """

    def __init__(self) -> None:
        self.operations: list[tuple[int, int, int]] = []
        self.errors: list[str] = []
        self.wall_ns = 0
        self._failures_in_a_row = 0

    def worked(self, begin: int, create: int, teardown: int) -> None:
        self.operations.append((begin, create, teardown))
        self._failures_in_a_row = 0

    def failed(self, error: BaseException) -> None:
        self.errors.append(str(error) if isinstance(error, PodliteError) else explain(error))
        self._failures_in_a_row += 1

    @property
    def hopeless(self) -> bool:
        return self._failures_in_a_row >= GIVE_UP


@runtime_checkable
class OwnLoop(Protocol):
    """A workload that has a closed loop of its own: threads without an event loop."""

    async def closed_loop(self, concurrency: int, budget: Budget, samples: Samples) -> None: ...


async def closed_loop(workload: Workload, concurrency: int, budget: Budget, samples: Samples) -> None:
    """Runs operations until the budget is used up. Cancelled, it takes back what it has made."""
    begin = time.monotonic_ns()
    try:
        if isinstance(workload, OwnLoop):
            await workload.closed_loop(concurrency, budget, samples)
            return
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(_work, workload, _at_once(budget, samples), samples)
    finally:
        samples.wall_ns += time.monotonic_ns() - begin


def _at_once(budget: Budget, samples: Samples) -> Iterator[int]:
    while not samples.hopeless and budget.take():
        yield time.monotonic_ns()


async def _work(workload: Workload, arrivals: Iterator[int], samples: Samples) -> None:
    """One worker: an operation for each of the arrivals, one after the other.

    In one cancel scope for all of them, which lasts until one hangs: to enter one for each would take a twentieth of
    what a namespace takes, and the floor has nothing like it.
    """
    hung = True
    while hung:
        with anyio.CancelScope(deadline=_deadline()) as scope:
            for arrival in arrivals:
                # Setting it costs two timers of the event loop, so a second more or less is not looked at.
                if (deadline := _deadline()) > scope.deadline + 1:
                    scope.deadline = deadline
                await _operation(scope, workload, arrival, samples)
        hung = scope.cancelled_caught
        if hung:
            samples.failed(OperationFailedError(f"it had not ended after {_OPERATION_SECONDS:g} s"))


def _deadline() -> float:
    return anyio.current_time() + _OPERATION_SECONDS


async def _operation(scope: anyio.CancelScope, workload: Workload, arrival_ns: int, samples: Samples) -> None:
    try:
        handle = await workload.create()
    except Exception as error:
        samples.failed(error)
        return
    created = time.monotonic_ns()
    # Also when it is cancelled: what there is has to go.
    scope.shield = True
    try:
        await workload.teardown(handle)
    except Exception as error:
        samples.failed(error)
        return
    finally:
        scope.shield = False
    samples.worked(arrival_ns, created - arrival_ns, time.monotonic_ns() - created)


async def open_loop(workload: Workload, workers: int, schedule: Sequence[float], samples: Samples) -> None:
    """Operations at the given seconds from now; cancelled, as `closed_loop`.

    At most `workers` are under way at once, so that an overload ends neither the machine nor the measurement: more
    arrivals wait for one of them, and that time is in their latency.
    """
    begin = time.monotonic_ns()
    waiting: deque[int] = deque()
    idle = workers
    try:
        with Timer() as timer:
            async with anyio.create_task_group() as tasks:

                def late() -> Iterator[int]:
                    while waiting and not samples.hopeless:
                        yield waiting.popleft()

                async def work() -> None:
                    nonlocal idle
                    await _work(workload, late(), samples)
                    idle += 1

                for offset in schedule:
                    arrival = begin + int(offset * 1e9)
                    await timer.wait_until(arrival)
                    if samples.hopeless:
                        break
                    waiting.append(arrival)
                    if idle:
                        idle -= 1
                        tasks.start_soon(work)
    finally:
        samples.wall_ns += time.monotonic_ns() - begin


async def make_live(workload: Any, handles: list[Any], wanted: int, *, concurrency: int = 4) -> None:
    """Makes or takes back until `wanted` handles are there. Raises what an operation raises."""
    make = getattr(workload, "create_live", workload.create)
    async with anyio.create_task_group() as tasks:
        missing = itertools.count(len(handles))

        async def grow() -> None:
            while next(missing) < wanted:
                handles.append(await make())

        async def shrink() -> None:
            while len(handles) > wanted:
                with anyio.CancelScope(shield=True):
                    await workload.teardown(handles.pop())

        for _ in range(concurrency):
            tasks.start_soon(grow if len(handles) < wanted else shrink)
