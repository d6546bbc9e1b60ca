"""What changed between two reports, and whether that is more than noise. Pure.

The noise is judged between rounds, not between operations: thousands of operations that ran within the same second
say little about the next one. Each figure's round medians (p50 of create, of teardown; operations per second) of both
reports go into the two-sided Mann-Whitney U test, exact, which supposes nothing about their distribution. A change
counts as more than noise if p < 0.05 and the medians differ by more than 2 %: below that it is real, perhaps, and of
no interest. With four rounds or more on each side p can be small enough; with fewer nothing can be told, and that is
said. Two runs at different times on a machine that was differently busy differ all the same: repeat, or measure both
in one session, before believing a small change.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from podlite.bench.results import ReportFile, RoundsEntry, ScenarioEntry

SIGNIFICANT = 0.05
INTERESTING = 0.02
# Of four and four values p can be as small as 2/70, of three and three only 2/20.
ENOUGH_ROUNDS = 4

FASTER, SLOWER, NOISE, UNKNOWN = "faster", "slower", "within the noise", "too few rounds to tell"

# The figures, and whether more is better.
_FIGURES = (("create p50", "create_ms", False), ("teardown p50", "teardown_ms", False), ("ops/s", "ops_per_s", True))


class Change(NamedTuple):
    """One figure of one case. `old` and `new` are medians over the rounds; `p` is 1 where nothing can be told."""

    case: str
    figure: str
    old: float
    new: float
    p: float
    verdict: str


class Comparison(NamedTuple):
    """`only_old` and `only_new` are cases that the other report does not have; `machines` how they differ."""

    changes: list[Change]
    only_old: list[str]
    only_new: list[str]
    machines: list[str]


def compare(old: ReportFile, new: ReportFile) -> Comparison:
    """Case by case, where both have it."""
    before, after = _by_name(old), _by_name(new)
    changes = []
    for name, (entry, rounds) in before.items():
        if name not in after:
            continue
        entry_after, rounds_after = after[name]
        for figure, field, more_is_better in _FIGURES:
            a = list(getattr(rounds, field)) or [_single(entry, field)]
            b = list(getattr(rounds_after, field)) or [_single(entry_after, field)]
            if any(a) or any(b):
                changes.append(_change(name, figure, a, b, more_is_better=more_is_better))
    keys = ("kernel", "cpu", "cores", "memory_bytes", "python", "sysctls", "run_dir", "state_dir")
    machines = [key for key in keys if old.machine.get(key) != new.machine.get(key)]
    return Comparison(
        changes,
        [name for name in before if name not in after],
        [name for name in after if name not in before],
        machines,
    )


def _change(case: str, figure: str, old: Sequence[float], new: Sequence[float], *, more_is_better: bool) -> Change:
    before, after = statistics.median(old), statistics.median(new)
    if min(len(old), len(new)) < ENOUGH_ROUNDS:
        return Change(case, figure, before, after, 1.0, UNKNOWN)
    p = mann_whitney(old, new)
    if p >= SIGNIFICANT or abs(after - before) <= INTERESTING * before:
        return Change(case, figure, before, after, p, NOISE)
    return Change(case, figure, before, after, p, FASTER if (after > before) == more_is_better else SLOWER)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p value of the Mann-Whitney U test, by its exact distribution; ties count half.

    Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other",
    Annals of Mathematical Statistics 18 (1947). With ties, exact for the nearest values without.
    """
    m, n = len(a), len(b)
    u = sum(1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b)
    smaller = min(u, m * n - u)
    ways = [_orders(m, n, each) for each in range(m * n + 1)]
    tail = sum(ways[: int(smaller + 0.5) + 1])
    return min(1.0, 2.0 * tail / sum(ways))


@cache
def _orders(m: int, n: int, u: int) -> int:
    """In how many orders of m and n different values u pairs have the first one larger (the paper's recurrence)."""
    if u < 0 or u > m * n:
        return 0
    if m == 0 or n == 0:
        return int(u == 0)
    return _orders(m - 1, n, u - n) + _orders(m, n - 1, u)


def report(comparison: Comparison) -> str:
    """The table: what is more than noise first."""
    from podlite.bench.table import aligned, wrapped

    text = ""
    if comparison.machines:
        text += wrapped(f"The machines differ in {', '.join(comparison.machines)}: what changed may be that.")
    rank = {SLOWER: 0, FASTER: 1, UNKNOWN: 2, NOISE: 3}
    rows = [["case", "figure", "old", "new", "change", "p", "verdict"]]
    for each in sorted(comparison.changes, key=lambda change: rank[change.verdict]):
        relative = f"{100 * (each.new / each.old - 1):+.1f} %" if each.old else "-"
        p = "-" if each.verdict == UNKNOWN else f"{each.p:.3f}"
        rows.append([each.case, each.figure, f"{each.old:.3f}", f"{each.new:.3f}", relative, p, each.verdict])
    text += aligned(rows, left=(0, 1, 6)) if comparison.changes else "The two reports have no case in common.\n"
    for names, where in ((comparison.only_old, "old"), (comparison.only_new, "new")):
        if names:
            text += wrapped(f"only in the {where} report: {', '.join(names)}")
    rule = f"p < {SIGNIFICANT} and more than {100 * INTERESTING:.0f} %"
    return text + wrapped(
        f"Medians over the rounds. Faster or slower: {rule}, by the Mann-Whitney U test over the rounds."
    )


def _single(entry: ScenarioEntry, field: str) -> float:
    return entry.ops_per_s if field == "ops_per_s" else float(getattr(entry, field).p50)


def _by_name(report: ReportFile) -> dict[str, tuple[ScenarioEntry, RoundsEntry]]:
    found = {}
    for index, entry in enumerate(report.scenarios):
        load = f"{entry.rate:g}/s" if entry.rate else f"c{entry.concurrency}"
        live = f" live {entry.live}" if entry.live else ""
        pool = " pool" if entry.pool is not None else ""
        rounds = report.rounds[index] if index < len(report.rounds) else RoundsEntry([], [], [])
        found[f"{entry.name} {entry.impl} {load}{live}{pool}"] = (entry, rounds)
    return found
