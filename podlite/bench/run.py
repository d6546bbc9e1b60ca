"""One run: everything is opened, warmed up, measured in interleaved rounds, and taken back.

    open the peers and podlite's node ─▶ warm-up ─▶ round 1 … round N ─▶ one pass for the steps ─▶ close
                                                     │ each case: its live pods, its pool, the kernel settled;
                                                     └ then operations, and the wait until the kernel has settled

Cancelled at any moment it keeps what was measured and takes everything back.
"""

from __future__ import annotations

import gc
import resource
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from podlite.bench import audit, latencies, machine, peers, plan
from podlite.bench.breakdown import Breakdown
from podlite.bench.cpu import CpuMeter
from podlite.bench.measure import Budget, Samples, closed_loop, make_live, open_loop
from podlite.bench.ours import open_ours, open_workload
from podlite.bench.peers.commands import scratch
from podlite.bench.plan import PODLITE, SAME_CNI, Case, Settings
from podlite.bench.results import CaseResult
from podlite.bench.settle import Settle
from podlite.bench.workload import PeerMissingError, Workload
from podlite.errors import PodliteError, explain

if TYPE_CHECKING:
    from podlite.agent.node import NodeOptions

Progress = Callable[[str], None]
# How many operations the pass for the steps has; a median needs no more.
_STEP_OPERATIONS = 30
# The kernel and the peers' daemons let go of things in their own time.
_AUDIT_SECONDS = 5.0


class Outcome:
    """What a run has found. `notes` are sentences for the reader; `interrupted` that it did not come to its end."""

    def __init__(self) -> None:
        self.machine: dict[str, Any] = {}
        self.results: list[CaseResult] = []
        self.leaks: dict[str, int] = {}
        self.notes: list[str] = []
        self.idle_settle_ms = 0.0
        self.interrupted = True

    @property
    def failed(self) -> bool:
        """Whether an operation failed or something was left behind."""
        return any(each.errors for each in self.results) or bool(audit.leaks(self.leaks))


class Run:
    """One run of `podlite bench`. `keep_samples` keeps every sample, for --samples and the plots."""

    def __init__(self, settings: Settings, options: NodeOptions, progress: Progress, *, keep_samples: bool) -> None:
        self.outcome = Outcome()
        self._settings = settings
        self._options = options
        self._progress = progress
        self._keep = keep_samples
        self._directory = ""
        self._workloads: dict[tuple[str, str, str], Workload] = {}
        self._live: dict[tuple[str, str, str], list[Any]] = {}

    async def run(self, scope: anyio.CancelScope) -> None:
        """Measures; raises PodliteError if it cannot begin.

        `scope` is entered around what is measured and nothing else, and its cancellation ends that early: runtime and
        kubelet stand outside of it, for their tasks are needed to take everything back.
        """
        plan.check(self._settings)
        latencies.require()
        _raise_descriptor_limit()
        self.outcome.machine = await to_thread.run_sync(machine.describe, self._options.layout)
        async with peers.libraries(self._settings.peers):
            await self._audited(scope)

    async def _audited(self, scope: anyio.CancelScope) -> None:
        await to_thread.run_sync(audit.count, self._options.layout)  # the first one imports what it needs
        before = await to_thread.run_sync(audit.count, self._options.layout)
        self._directory = await to_thread.run_sync(scratch, "podlite-bench-")
        try:
            await self._measure(scope)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(lambda: shutil.rmtree(self._directory, ignore_errors=True))
                await self._audit(before)

    async def _audit(self, before: dict[str, int]) -> None:
        with anyio.move_on_after(_AUDIT_SECONDS):
            while True:
                after = await to_thread.run_sync(audit.count, self._options.layout)
                self.outcome.leaks = audit.difference(before, after)
                if not audit.leaks(self.outcome.leaks):
                    break
                await anyio.sleep(0.1)

    async def _measure(self, scope: anyio.CancelScope) -> None:
        async with AsyncExitStack() as stack:
            found = await self._find_peers()
            cases = plan.cases(self._settings, [peers.part(each) for each in found])
            self._settle = await stack.enter_async_context(Settle())
            self.outcome.idle_settle_ms = self._settle.idle_ms
            self._progress("opening podlite's runtime")
            self._node = await stack.enter_async_context(open_ours(self._options))
            stack.push_async_callback(self._end_live)
            cases = await self._open(stack, cases, found)
            self.outcome.results = [CaseResult(case) for case in cases]
            with scope:
                await self._rounds()
                self.outcome.interrupted = False
        if self._settle.why_not:
            self.outcome.notes.append(f"settle time is not known: {self._settle.why_not}")

    # --- before -----------------------------------------------------------------------------

    async def _find_peers(self) -> list[peers.Peer]:
        context = peers.Context(
            directory=self._directory,
            layout=self._options.layout,
            own_cni=await to_thread.run_sync(_cni_works, self._options),
            cni_conf_dir=self._options.cni_conf_dir,
            image=self._settings.peer_image,
        )
        if self._settings.network == SAME_CNI and not context.own_cni:
            raise PodliteError(
                "--network cni cannot run: there is no usable CNI configuration on this machine",
                hint="put a .conflist into /etc/cni/net.d and its plugins into /opt/cni/bin",
            )
        found = []
        for text in self._settings.peers:
            try:
                peer = await to_thread.run_sync(peers.find, text, context)
            except PeerMissingError as error:
                self._skip(f"peer {text} is skipped: {error.message}")
                continue
            if not any(scenario in self._settings.scenarios for scenario, _ in peer.work):
                names = ", ".join(sorted({scenario for scenario, _ in peer.work}))
                self._skip(f"peer {text} is skipped: it is compared in {names} only")
                continue
            found.append(peer)
        return found

    def _skip(self, why: str) -> None:
        self.outcome.notes.append(why)
        self._progress(why)

    async def _open(self, stack: AsyncExitStack, cases: list[Case], found: list[peers.Peer]) -> list[Case]:
        """Opens each workload that a case needs; returns the cases of those that could be."""
        by_name = {peer.impl: peer for peer in found}
        threads = max(self._settings.concurrency)
        for case in cases:
            key = _key(case)
            if key in self._workloads:
                continue
            opening: AbstractAsyncContextManager[Workload]
            if case.impl == PODLITE:
                opening = open_workload(self._node, case.scenario, case.variant, threads)
            else:
                opening = by_name[case.impl].open(case.scenario, case.variant)
            try:
                self._workloads[key] = await stack.enter_async_context(opening)
            except (PodliteError, OSError) as error:
                if case.impl == PODLITE and not case.variant:
                    raise
                self._skip(f"{case.impl} {case.name} is left out, it fails: {explain(error)}")
        self.outcome.notes += [peer.note for peer in found]
        return [case for case in cases if _key(case) in self._workloads]

    async def _warm_up(self, result: CaseResult) -> None:
        """Apart from what is measured. A peer that fails here is left out: it is reported, and never counted."""
        case = result.case
        if not self._settings.warm_up:
            return
        self._progress(f"warm-up: {case.impl} {case.name}")
        samples = Samples()
        budget = Budget(max(self._settings.warm_up, min(case.concurrency, 16)))
        await closed_loop(self._workloads[_key(case)], min(case.concurrency, 16), budget, samples)
        if samples.errors and not samples.operations:
            if case.impl == PODLITE and not case.variant:
                raise PodliteError(f"{case.name} does not work here: {samples.errors[0]}")
            self.outcome.results.remove(result)
            self._skip(f"{case.impl} {case.name} is left out, it fails: {samples.errors[0]}")

    # --- the rounds -------------------------------------------------------------------------

    async def _round(self, result: CaseResult, round: int) -> None:
        case, settings = result.case, self._settings
        workload = self._workloads[_key(case)]
        await self._set_live(case)
        await self._set_pool(case)
        if settings.rest:
            self._progress(f"resting: {case.impl} {case.name}")
            await anyio.sleep(settings.rest)
        await self._settle.wait()
        live = f", {case.live} live" if case.live else ""
        self._progress(f"round {round + 1} of {settings.rounds}: {case.impl} {case.name}, {case.load}{live}")
        count = plan.share(settings.count, settings.rounds, round)
        seconds = settings.duration / settings.rounds
        samples = Samples()
        cpu = await to_thread.run_sync(CpuMeter)
        self._reset_pool()
        try:
            if case.rate:
                await open_loop(workload, case.concurrency, plan.arrivals(case.rate, count, seconds), samples)
            else:
                await closed_loop(workload, case.concurrency, Budget(count, seconds), samples)
        finally:
            with anyio.CancelScope(shield=True):
                settled = await self._settle.wait()
                await self._pool_spent(result)
                spent = await to_thread.run_sync(cpu.read)
                result.add(round, samples, spent, settled, keep=self._keep)

    async def _rounds(self) -> None:
        results = self.outcome.results
        for result in list(results):
            await self._warm_up(result)
        # As a program that lives long: what was made so far is no garbage, what comes may be.
        gc.collect()
        gc.freeze()
        gc.enable()
        by_case = {each.case: each for each in results}
        for round in range(self._settings.rounds):
            for case in plan.in_round([each.case for each in results], round):
                await self._round(by_case[case], round)
        for result in results:
            if result.case.impl == PODLITE and result.case.scenario != "floor" and not result.errors:
                await self._steps(result)

    async def _set_live(self, case: Case) -> None:
        """Exactly the case's own live pods, and nobody else's."""
        key = _key(case)
        for other, handles in self._live.items():
            if other != key:
                await make_live(self._workloads[other], handles, 0)
        handles = self._live.setdefault(key, [])
        if len(handles) != case.live:
            self._progress(f"{case.live} live for {case.name}")
        await make_live(self._workloads[key], handles, case.live)

    async def _end_live(self) -> None:
        with anyio.CancelScope(shield=True):
            for key, handles in self._live.items():
                await make_live(self._workloads[key], handles, 0)

    async def _set_pool(self, case: Case) -> None:
        """A full pool of the case's size; none at all where it has none."""
        runtime = self._node.runtime
        if case.pool:
            await runtime.warm_pool(case.pool).resize(case.pool)
        elif runtime.pool is not None:
            await runtime.pool.resize(0)

    async def _pool_spent(self, result: CaseResult) -> None:
        """Takes in what the pool has done in this round, its refilling included, and sets it back."""
        pool = self._node.runtime.pool
        if not result.case.pool or pool is None:
            return
        # What was taken last is made again too: that cost is part of the round.
        await pool.resize(pool.size)
        result.hits += pool.hits
        result.misses += pool.misses
        for duration in pool.refill_ns:
            result.refill.record(duration)
        self._reset_pool()

    def _reset_pool(self) -> None:
        pool = self._node.runtime.pool
        if pool is not None:
            pool.hits = pool.misses = 0
            pool.refill_ns.clear()

    async def _steps(self, result: CaseResult) -> None:
        case = result.case
        self._progress(f"steps: {case.name}")
        await self._set_live(case)
        await self._set_pool(case)
        samples = Samples()
        with Breakdown() as breakdown:
            # With a pool no more than are ready: how one is made is what the row without a pool says.
            budget = Budget(min(_STEP_OPERATIONS, self._settings.count, case.pool or _STEP_OPERATIONS))
            await closed_loop(self._workloads[_key(case)], 1 if case.rate else case.concurrency, budget, samples)
        result.steps_ms = breakdown.p50()
        result.errors += samples.errors


def _key(case: Case) -> tuple[str, str, str]:
    return (case.scenario, case.impl, case.variant)


def _cni_works(options: NodeOptions) -> bool:
    """Whether podlite's own network can be CNI's here. Blocking."""
    from podlite.agent.node import make_networks

    networks = make_networks(options)
    try:
        return not networks.named(SAME_CNI).check()
    except (PodliteError, OSError):
        return False
    finally:
        networks.close()


def _raise_descriptor_limit() -> None:
    """A thousand live pods have several descriptors each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
