"""The plots: the distribution of latencies, throughput against concurrency, cost against live sandboxes.

One picture with as many panels as the run has something to say for; `.html` has the same picture in a page that needs
nothing else. By matplotlib, without a display. Blocking, for a second or so.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from podlite.bench.plan import Case
from podlite.bench.results import CaseResult
from podlite.errors import PodliteError

# What the distribution's axis is marked with: one more nine takes as much room as the one before.
_MARKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)


def require() -> None:
    """Raises PodliteError if the library is missing: said before anything is measured."""
    _pyplot()


def write(path: str, results: Sequence[CaseResult], machine: Mapping[str, Any]) -> None:
    """Writes the picture; by its name a PNG or a page. Raises OSError, PodliteError."""
    if path.endswith(".png"):
        with open(path, "wb") as file:
            file.write(_draw(results, machine, "png"))
        return
    picture = base64.b64encode(_draw(results, machine, "svg")).decode()
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f'<!doctype html>\n<meta charset="utf-8">\n<title>podlite bench</title>\n<h1>podlite bench</h1>\n'
            f"<p>{html.escape(_machine_line(machine))}</p>\n"
            f'<img alt="latency distribution, throughput and growth" src="data:image/svg+xml;base64,{picture}">\n'
        )


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise PodliteError(
            "--plot needs the library matplotlib", hint="pip install 'podlite[bench]' brings what it needs"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _draw(results: Sequence[CaseResult], machine: Mapping[str, Any], format: str) -> bytes:
    pyplot = _pyplot()
    measured = [each for each in results if each.count]
    panels: list[Callable[[Any], None]] = [
        lambda axes: _distribution(axes, "create", [(_label(each.case), each.create.curve()) for each in measured])
    ]
    torn = [each for each in measured if each.teardown.summary().max > 0]
    if torn:
        panels.append(
            lambda axes: _distribution(axes, "teardown", [(_label(each.case), each.teardown.curve()) for each in torn])
        )
    if len({each.case.concurrency for each in measured if not each.case.rate}) > 1:
        panels.append(lambda axes: _throughput(axes, measured))
    if len({each.case.live for each in measured}) > 1:
        panels.append(lambda axes: _growth(axes, measured))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(8 * columns, 5.5 * rows), squeeze=False)
    for panel, axes in zip(panels, grid.flat, strict=False):
        panel(axes)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    figure.suptitle(_machine_line(machine), fontsize=9)
    figure.tight_layout()
    written = io.BytesIO()
    figure.savefig(written, format=format, dpi=110)
    pyplot.close(figure)
    return written.getvalue()


def _distribution(axes: Any, what: str, curves: Sequence[tuple[str, list[tuple[float, float]]]]) -> None:
    for label, curve in curves:
        points = [(1 / (1 - percent / 100), value) for percent, value in curve if percent < 100 and value > 0]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1 / (1 - mark / 100) for mark in _MARKS], [f"p{mark:g}" for mark in _MARKS])
    axes.minorticks_off()
    axes.set_title(f"{what}: latency distribution")
    axes.set_xlabel("percentile: so many of a hundred operations are faster")
    axes.set_ylabel("milliseconds")
    _finish(axes)


def _throughput(axes: Any, results: Sequence[CaseResult]) -> None:
    for label, group in _groups(results, lambda case: (case.name, case.impl, case.live)):
        points = sorted((each.case.concurrency, each.ops_per_s) for each in group if not each.case.rate)
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title("throughput against concurrency")
    axes.set_xlabel("operations at a time")
    axes.set_ylabel("created and torn down per second")
    _finish(axes)


def _growth(axes: Any, results: Sequence[CaseResult]) -> None:
    for label, group in _groups(results, lambda case: (case.name, case.impl, case.concurrency)):
        points = sorted((each.case.live, each.create.summary().p50) for each in group)
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_xscale("symlog")
    axes.set_ylim(bottom=0)
    axes.set_title("cost against what is alive meanwhile")
    axes.set_xlabel("live sandboxes or pods")
    axes.set_ylabel("create p50, milliseconds")
    _finish(axes)


def _groups(
    results: Sequence[CaseResult], key: Callable[[Case], tuple[object, ...]]
) -> list[tuple[str, list[CaseResult]]]:
    groups: dict[tuple[object, ...], list[CaseResult]] = {}
    for each in results:
        groups.setdefault(key(each.case), []).append(each)
    return [(f"{group[0].case.name}, {group[0].case.impl}", group) for group in groups.values()]


def _finish(axes: Any) -> None:
    axes.grid(visible=True, which="major", alpha=0.3)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(fontsize=8)


def _label(case: Case) -> str:
    live = f", {case.live} live" if case.live else ""
    pool = f", pool of {case.pool}" if case.pool else ""
    return f"{case.name}, {case.impl}, {case.load}{live}{pool}"


def _machine_line(machine: Mapping[str, Any]) -> str:
    memory = float(machine.get("memory_bytes", 0)) / 2**30
    return (
        f"podlite {machine.get('podlite')} · Linux {machine.get('kernel')} · {machine.get('cores')} cores, "
        f"{machine.get('cpu')} · {memory:.0f} GiB · Python {machine.get('python')}"
    )
