"""The report for a person: at most 100 columns, milliseconds throughout. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from podlite.bench import audit
from podlite.bench.latencies import Summary
from podlite.bench.results import CaseResult, RatioEntry

WIDTH = 100
_STEPS_SHOWN = 24


def report(
    results: Sequence[CaseResult],
    ratios: Sequence[RatioEntry],
    leaks: Mapping[str, int],
    *,
    idle_settle_ms: float = 0.0,
    notes: Sequence[str] = (),
) -> str:
    """The whole text."""
    parts = [latencies(results), resources(results, idle_settle_ms)]
    parts += [text for text in (pools(results), steps(results), comparison(ratios), failures(results)) if text]
    parts += ["".join(map(wrapped, notes))] if notes else []
    parts.append(leak_line(leaks))
    return "\n".join(parts)


def latencies(results: Sequence[CaseResult]) -> str:
    rows = [["scenario", "impl", "load", "live", "", "p50", "p90", "p99", "p99.9", "max", "mean", "n"]]
    for each in results:
        case = each.case
        live = str(case.live) if case.live else "-"
        count = f"{each.count}" + (f" ({len(each.errors)} failed)" if each.errors else "")
        rows.append([case.name, case.impl, case.load, live, "create", *_figures(each.create.summary()), count])
        rows.append(["", "", "", "", "teardown", *_figures(each.teardown.summary()), ""])
    return "milliseconds\n" + aligned(rows, left=(0, 1, 2, 4))


def resources(results: Sequence[CaseResult], idle_settle_ms: float) -> str:
    """Throughput, processor time, settle time."""
    rows = [["scenario", "impl", "load", "live", "ops/s", "cpu/op", "user", "system", "kernel", "settle"]]
    for each in results:
        case, cpu = each.case, each.cpu_per_op
        rows.append(
            [
                case.name,
                case.impl,
                case.load,
                str(case.live) if case.live else "-",
                f"{each.ops_per_s:.1f}",
                *(f"{value:.2f}" for value in (cpu.total, cpu.user, cpu.system, cpu.kernel)),
                "?" if each.settle is None else f"{each.settle:.0f}",
            ]
        )
    text = aligned(rows, left=(0, 1, 2))
    idle = f"; {idle_settle_ms:.0f} ms for one empty namespace on the idle machine" if idle_settle_ms else ""
    return (
        text
        + wrapped("cpu/op: ms of processor, of the whole machine; kernel: its own threads, which free namespaces")
        + wrapped(f"settle: ms from the last teardown until the kernel has freed every namespace{idle}")
    )


def pools(results: Sequence[CaseResult]) -> str:
    """What the warm pool did, and what its refill cost."""
    rows = [["warm pool of", "scenario", "load", "hit rate", "refill p50", "p99"]]
    for each in results:
        pool = each.pool
        if pool is not None:
            refill = each.refill
            rows.append(
                [
                    str(each.case.pool),
                    each.case.name,
                    each.case.load,
                    f"{100 * pool.hit_rate:.2f} %",
                    _ms(pool.refill_ms),
                    _ms(refill.percentile(99)),
                ]
            )
    return aligned(rows, left=(1, 2)) if len(rows) > 1 else ""


def steps(results: Sequence[CaseResult]) -> str:
    """Where the time goes: a column for each case of podlite's that has steps, at the lowest concurrency."""
    chosen: dict[str, CaseResult] = {}
    for each in results:
        if each.steps_ms and each.case.name not in chosen:
            chosen[each.case.name] = each
    if not chosen:
        return ""
    names = list(dict.fromkeys(name for each in chosen.values() for name in each.steps_ms))
    order = sorted(names, key=lambda name: -max(each.steps_ms.get(name, 0.0) for each in chosen.values()))
    shown = [name for name in names if name in order[:_STEPS_SHOWN]]
    columns = list(chosen.items())[:6]
    rows = [["step, p50 of each (they overlap)", *(name for name, _ in columns)]]
    rows += [
        [name, *(_ms(each.steps_ms[name]) if name in each.steps_ms else "" for _, each in columns)] for name in shown
    ]
    return aligned(rows, left=(0,))


def comparison(ratios: Sequence[RatioEntry]) -> str:
    """The ratios."""
    if not ratios:
        return ""
    rows = [["create p50, median of the rounds' ratios", "of", "to", "ratio"]]
    rows += [[each.name, each.of, each.to, f"{each.p50:.2f}"] for each in ratios]
    return aligned(rows, left=(0, 1, 2))


def failures(results: Sequence[CaseResult]) -> str:
    """What failed, and why: each reason once."""
    lines = []
    for each in results:
        for why, times in Counter(each.errors).most_common(3):
            lines.append(wrapped(f"{each.case.impl} {each.case.name}: {times} times: {why}"[: 4 * WIDTH]))
    return "failed operations:\n" + "".join(lines) if lines else ""


def leak_line(leaks: Mapping[str, int]) -> str:
    """The audit, in a line."""
    found = audit.leaks(leaks)
    if not found:
        return f"leaks: none ({', '.join(leaks)})\n"
    return "LEAKS: " + ", ".join(f"{number} {audit.KINDS.get(kind, kind)}" for kind, number in found.items()) + "\n"


def wrapped(text: str) -> str:
    """Prose, indented by two, in lines that fit."""
    import textwrap

    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ") + "\n"


def _figures(summary: Summary) -> list[str]:
    return [_ms(each) for each in (summary.p50, summary.p90, summary.p99, summary.p99_9, summary.max, summary.mean)]


def _ms(value: float) -> str:
    """Three digits or so."""
    digits = 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0
    return f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> str:
    """Columns two spaces apart; those that are not `left` are right-aligned. What is too wide is cut, with a mark."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    spare = WIDTH - sum(widths) - 2 * (len(widths) - 1)
    if spare < 0:
        widths[0] = max(8, widths[0] + spare)
    lines = []
    for row in rows:
        cells = [
            cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(row, widths, strict=True)
        ]
        line = "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append(line.rstrip()[:WIDTH])
    return "\n".join(lines) + "\n"
