"""RESULTS.md, made of the JSON of `podlite bench`; see reproduce.py. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from podlite.bench.results import ReportFile, ScenarioEntry

Results = Mapping[str, ReportFile]

_HEAD = """# What was measured

Written by `python benchmarks/reproduce.py`, which measures all of it anew; do not edit. Times are milliseconds. Each
section is one run of `podlite bench`, whose cases are interleaved in rounds; [docs/bench.md](../docs/bench.md) says how
each figure comes about. Compare figures within a section only. The JSON beside the plots has everything.

"""


def report(series: Iterable[tuple[str, str, str]], results: Results) -> str:
    """The whole text; `series` are (name, title, arguments)."""
    parts = [_HEAD]
    first = next(iter(results.values()), None)
    if first is not None:
        parts.append(_machine(first))
    parts.append("## The bars\n\n| | wanted | measured | |\n|---|---|---:|---|\n")
    parts += [bar.row() for bar in bars(results)]
    parts += [_section(*each, results[each[0]]) for each in series if each[0] in results]
    return "".join(parts)


def _machine(report: ReportFile) -> str:
    facts = report.machine
    memory = float(facts["memory_bytes"]) / 2**30
    rows = [
        ("kernel", f"Linux {facts['kernel']}, {facts['architecture']}"),
        ("processor", f"{facts['cores']} cores, {facts['cpu']}"),
        ("memory", f"{memory:.0f} GiB"),
        ("file systems", f"run directory on {facts['run_dir']}, state directory on {facts['state_dir']}"),
        ("cgroups", facts["cgroups"]),
        ("Python, podlite", f"{facts['python']}, {facts['podlite']}"),
        ("load when it began", facts["load"]),
    ]
    return "| machine | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows) + "\n"


def _section(name: str, title: str, arguments: str, report: ReportFile) -> str:
    parts = [f"\n## {title}\n\n`podlite bench {arguments}`\n\n"]
    parts.append("| | impl | load | live | create p50 | p99 | teardown p50 | p99 | ops/s | CPU/op | settle |\n")
    parts.append("|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
    parts += [_row(each) for each in report.scenarios]
    parts += [
        f"\nThe pool: hit rate {each.pool.hit_rate:.2%}; a refill takes {each.pool.refill_ms:.2f} at the median.\n"
        for each in report.scenarios
        if each.pool is not None
    ]
    if report.ratios:
        parts.append("\n| create p50, median of the rounds' ratios | of | to | ratio |\n|---|---|---|---:|\n")
        parts += [f"| {each.name} | {each.of} | {each.to} | {each.p50:.2f} |\n" for each in report.ratios]
    pod = next((each for each in report.scenarios if (each.name, each.impl) == ("pod", "podlite")), None)
    if name == "ladder" and pod is not None:
        parts.append("\nWhere the time of a pod goes (p50 of each step; they overlap):\n\n| step | ms |\n|---|---:|\n")
        parts += [f"| {step} | {value:.3f} |\n" for step, value in pod.steps_ms.items()]
    leaks = [f"{number} {kind}" for kind, number in report.leaks.items() if number > 0]
    parts.append(f"\nLeaks: {', '.join(leaks) or 'none'}.\n\n![{title}](results/{name}.png)\n")
    return "".join(parts)


def _row(each: ScenarioEntry) -> str:
    cells = [
        each.name,
        each.impl,
        f"{each.rate:g}/s" if each.rate else f"{each.concurrency}",
        f"{each.live or ''}",
        f"{each.create_ms.p50:.3f}",
        f"{each.create_ms.p99:.2f}",
        f"{each.teardown_ms.p50:.3f}",
        f"{each.teardown_ms.p99:.2f}",
        f"{each.ops_per_s:.0f}",
        f"{each.cpu_ms_per_op:.2f}",
        "?" if each.settle_ms is None else f"{each.settle_ms:.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"


class Bar(NamedTuple):
    """What a figure has to be: at most `limit`, or at least. `value` is None where it was not measured."""

    what: str
    wanted: str
    value: float | None
    limit: float
    text: str
    at_least: bool = False

    @property
    def holds(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> str:
        mark = {True: "holds", False: "**does not hold**", None: "not measured"}[self.holds]
        measured = "" if self.value is None else self.text.format(self.value)
        return f"| {self.what} | {self.wanted} | {measured} | {mark} |\n"


def bars(results: Results) -> list[Bar]:
    """The figures that podlite is held to; medians over the rounds."""
    floor, netns = _median(results, "ladder", "floor"), _median(results, "ladder", "netns")
    sustained = _over(
        _median(results, "sustained", "netns", "ops_per_s", concurrency=4),
        _median(results, "sustained", "floor", "ops_per_s", concurrency=4),
    )
    sandbox = _median(results, "ladder", "sandbox")
    pod, removed = _median(results, "ladder", "pod"), _median(results, "ladder", "pod", "teardown_ms")
    pool = _entry(results, "pool", "sandbox")
    found = [
        Bar("netns, more than floor", "at most 0.15 ms", _minus(netns, floor), 0.15, "{:.3f} ms"),
        Bar("netns/s at 4, of floor's", "at least 0.85", sustained, 0.85, "{:.2f}", at_least=True),
        Bar("sandbox p50", "at most 3 ms, or 7 × floor", sandbox, max(3.0, 7 * (floor or 0.0)), "{:.2f} ms"),
        Bar("containerd to sandbox", "at least 30", _containerd(results), 30.0, "{:.1f}", at_least=True),
        Bar("warm pool at 100/s, p50", "at most 0.5 ms", pool and pool.create_ms.p50, 0.5, "{:.3f} ms"),
        Bar("warm pool at 100/s, p99", "at most 3 ms", pool and pool.create_ms.p99, 3.0, "{:.2f} ms"),
        Bar("its hit rate", "at least 99 %", pool and pool.pool and pool.pool.hit_rate, 0.99, "{:.2%}", at_least=True),
        Bar("pods/s, best concurrency", "at least 100", _best(results, "pods", "pod"), 100.0, "{:.0f}", at_least=True),
        Bar("pod p50 with teardown", "at most 15 ms", _plus(pod, removed), 15.0, "{:.2f} ms"),
    ]
    for name in ("sandbox", "pod"):
        many, few = (_median(results, f"live-{name}", name, live=live) for live in (1000, 10))
        found.append(Bar(f"{name} with 1,000 live, of 10 live", "at most 1.3", _over(many, few), 1.3, "{:.2f}"))
    return found


def _median(
    results: Results, series: str, name: str, field: str = "create_ms", *, concurrency: int = 1, live: int = 0
) -> float | None:
    """Of podlite's; None if it was not measured."""
    found = results.get(series)
    for each, rounds in zip(found.scenarios, found.rounds, strict=False) if found is not None else ():
        if (each.name, each.impl, each.concurrency, each.live) == (name, "podlite", concurrency, live):
            values = getattr(rounds, field)
            return statistics.median(values) if values else None
    return None


def _entry(results: Results, series: str, name: str) -> ScenarioEntry | None:
    found = results.get(series)
    entries = found.scenarios if found is not None else []
    return next((each for each in entries if (each.name, each.impl) == (name, "podlite")), None)


def _best(results: Results, series: str, name: str) -> float | None:
    found = results.get(series)
    entries = found.scenarios if found is not None else []
    return max((each.ops_per_s for each in entries if (each.name, each.impl) == (name, "podlite")), default=None)


def _containerd(results: Results) -> float | None:
    """How many times longer its RunPodSandbox takes, each with its own network."""
    found = results.get("containerd")
    ratios = found.ratios if found is not None else []
    return next((each.p50 for each in ratios if each.name == "sandbox c1: each with its own network"), None)


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _plus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _over(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other
