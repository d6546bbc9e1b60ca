"""What was measured, and the JSON that says so (schema 1)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from podlite.bench.cpu import CpuTime
from podlite.bench.latencies import Latencies, Summary
from podlite.bench.measure import Samples
from podlite.bench.plan import PODLITE, SAME_CNI, Case

SCHEMA = 1


class Pool(msgspec.Struct, frozen=True):
    """`hit_rate` is a fraction; `refill_ms` what it took to make one sandbox for the pool, at the median."""

    hit_rate: float
    refill_ms: float


class ScenarioEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `scenarios`. `rate` is 0 in a closed loop; `pool` is null without one, `settle_ms` if unknown."""

    name: str
    impl: str
    mode: str
    concurrency: int
    rate: float
    live: int
    count: int
    errors: int
    create_ms: Summary
    teardown_ms: Summary
    ops_per_s: float
    cpu_ms_per_op: float
    settle_ms: float | None
    pool: Pool | None
    steps_ms: dict[str, float]


class RatioEntry(msgspec.Struct, frozen=True):
    """`p50`: how many times longer `of` takes than `to`, the median over the rounds."""

    name: str
    of: str
    to: str
    p50: float


class RoundsEntry(msgspec.Struct, frozen=True):
    """What `--compare` judges the noise by: each round's figures, for the entry of `scenarios` at the same place."""

    create_ms: list[float]
    teardown_ms: list[float]
    ops_per_s: list[float]


class ReportFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file that `--json` writes."""

    schema: int = SCHEMA
    machine: dict[str, Any]
    command: list[str]
    scenarios: list[ScenarioEntry]
    ratios: list[RatioEntry]
    leaks: dict[str, int]
    rounds: list[RoundsEntry] = []


class CaseResult:
    """Everything about one case; grows round by round."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.create = Latencies()
        self.teardown = Latencies()
        self.errors: list[str] = []
        self.cpu = CpuTime()
        self.settle_ms: list[float] = []
        self.create_rounds: list[float] = []
        self.teardown_rounds: list[float] = []
        self.rate_rounds: list[float] = []
        self.steps_ms: dict[str, float] = {}
        self.hits = 0
        self.misses = 0
        self.refill = Latencies()
        self.samples: list[tuple[int, int, int, int]] = []
        self._wall_ns = 0

    def add(self, round: int, samples: Samples, cpu: CpuTime, settle_ms: float | None, *, keep: bool) -> None:
        """Takes in one round, also one that was cut short. With `keep` every sample stays."""
        self.errors += samples.errors
        self.cpu.add(cpu)
        self._wall_ns += samples.wall_ns
        if settle_ms is not None:
            self.settle_ms.append(settle_ms)
        if not samples.operations:
            return
        create = Latencies(each[1] for each in samples.operations)
        teardown = Latencies(each[2] for each in samples.operations)
        self.create.add(create)
        self.teardown.add(teardown)
        self.create_rounds.append(round_ms(create.percentile(50)))
        self.teardown_rounds.append(round_ms(teardown.percentile(50)))
        self.rate_rounds.append(round_ms(len(samples.operations) / samples.wall_ns * 1e9))
        if keep:
            self.samples += [(round, *each) for each in samples.operations]

    @property
    def count(self) -> int:
        return self.create.count

    @property
    def ops_per_s(self) -> float:
        return self.count / self._wall_ns * 1e9 if self._wall_ns else 0.0

    @property
    def cpu_per_op(self) -> CpuTime:
        """In milliseconds."""
        scale = 1e3 / self.count if self.count else 0.0
        return CpuTime(self.cpu.user * scale, self.cpu.system * scale, self.cpu.kernel * scale)

    @property
    def settle(self) -> float | None:
        """The median over the rounds."""
        return round_ms(statistics.median(self.settle_ms)) if self.settle_ms else None

    @property
    def pool(self) -> Pool | None:
        if not self.case.pool:
            return None
        asked = self.hits + self.misses
        return Pool(
            hit_rate=round(self.hits / asked, 5) if asked else 0.0, refill_ms=round_ms(self.refill.percentile(50))
        )

    def entry(self) -> ScenarioEntry:
        case = self.case
        return ScenarioEntry(
            name=case.name,
            impl=case.impl,
            mode=case.mode,
            concurrency=case.concurrency,
            rate=case.rate,
            live=case.live,
            count=self.count,
            errors=len(self.errors),
            create_ms=self.create.summary(),
            teardown_ms=self.teardown.summary(),
            ops_per_s=round(self.ops_per_s, 2),
            cpu_ms_per_op=round_ms(self.cpu_per_op.total),
            settle_ms=self.settle,
            pool=self.pool,
            steps_ms=self.steps_ms,
        )

    def rounds_entry(self) -> RoundsEntry:
        return RoundsEntry(self.create_rounds, self.teardown_rounds, self.rate_rounds)


def ratios(results: Sequence[CaseResult]) -> list[RatioEntry]:
    """The ladder's rungs to its floor, peers to podlite on the same work, and like with like. Pure.

    Only of the same concurrency, mode and number of live pods (a peer has none of podlite's, and stands beside each),
    and only where both sides have worked in the same rounds: paired by round, so that what disturbed the machine for
    a while disturbed both.
    """
    found = []
    for result in results:
        case = result.case
        if case.impl == PODLITE:
            below = _find(results, case, scenario="floor", variant="", live=case.live)
            if case.scenario != "floor" and not case.variant:
                found += _ratio(f"{_label(case)}: floor", result, below, case.name, "floor")
            continue
        ours = _find(results, case, scenario=case.scenario, variant=case.variant, live=None)
        found += _ratio(f"{_label(case)}: {_likeness(case)}", result, ours, case.impl, PODLITE)
    return found


def _find(
    results: Sequence[CaseResult], case: Case, *, scenario: str, variant: str, live: int | None
) -> CaseResult | None:
    for each in results:
        other = each.case
        same = (other.concurrency, other.rate) == (case.concurrency, case.rate)
        ours = (other.impl, other.scenario, other.variant) == (PODLITE, scenario, variant)
        if ours and same and live in (None, other.live):
            return each
    return None


def _label(case: Case) -> str:
    return f"{case.scenario} {case.load}" + (f" live {case.live}" if case.live else "")


def _likeness(case: Case) -> str:
    if case.variant == SAME_CNI:
        return "same CNI conflist on both"
    return f"{case.variant} on both" if case.variant else "each with its own network"


def _ratio(name: str, one: CaseResult, other: CaseResult | None, of: str, to: str) -> list[RatioEntry]:
    if other is None or one.errors or other.errors:
        return []
    pairs = [(a, b) for a, b in zip(one.create_rounds, other.create_rounds, strict=False) if b > 0]
    if not pairs:
        return []
    return [RatioEntry(name, of, to, round(statistics.median(a / b for a, b in pairs), 3))]


def report_file(
    results: Sequence[CaseResult], machine: Mapping[str, Any], command: Sequence[str], leaks: Mapping[str, int]
) -> ReportFile:
    """The whole report. Pure."""
    return ReportFile(
        machine=dict(machine),
        command=list(command),
        scenarios=[each.entry() for each in results],
        ratios=ratios(results),
        leaks=dict(leaks),
        rounds=[each.rounds_entry() for each in results],
    )


def round_ms(value: float) -> float:
    """To a tenth of a microsecond: more digits than were measured say nothing."""
    return round(value, 4)
