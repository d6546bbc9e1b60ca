from __future__ import annotations

import itertools
import json

import pytest

from podlite.bench import compare
from podlite.bench.files import read_json
from podlite.bench.latencies import Summary
from podlite.bench.results import ReportFile, RoundsEntry, ScenarioEntry
from podlite.errors import PodliteError


def report(create: list[float], *, name: str = "netns", kernel: str = "6.1") -> ReportFile:
    summary = Summary(p50=create[0], p90=0.0, p99=0.0, p99_9=0.0, max=0.0, mean=0.0)
    entry = ScenarioEntry(
        name=name,
        impl="podlite",
        mode="closed",
        concurrency=1,
        rate=0.0,
        live=0,
        count=100,
        errors=0,
        create_ms=summary,
        teardown_ms=Summary(p50=0.0, p90=0.0, p99=0.0, p99_9=0.0, max=0.0, mean=0.0),
        ops_per_s=0.0,
        cpu_ms_per_op=0.0,
        settle_ms=None,
        pool=None,
        steps_ms={},
    )
    rounds = [RoundsEntry(create, [0.0] * len(create), [0.0] * len(create))]
    return ReportFile(machine={"kernel": kernel}, command=[], scenarios=[entry], ratios=[], leaks={}, rounds=rounds)


def exact(a: list[float], b: list[float]) -> float:
    """The p value by its definition: every way to call m of the values the first sample's."""
    together = [*a, *b]

    def u(chosen: tuple[int, ...]) -> float:
        others = [index for index in range(len(together)) if index not in chosen]
        return sum(together[x] > together[y] for x in chosen for y in others)

    middle = len(a) * len(b) / 2
    seen = abs(u(tuple(range(len(a)))) - middle)
    every = [abs(u(chosen) - middle) for chosen in itertools.combinations(range(len(together)), len(a))]
    return sum(each >= seen for each in every) / len(every)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2, 3, 4], [5, 6, 7, 8]),
        ([1, 3, 5, 7], [2, 4, 6, 8]),
        ([1, 2, 3, 9, 10], [4, 5, 6, 7, 8]),
        ([1, 2, 3], [4, 5, 6, 7, 8]),
        ([7, 8, 9, 10, 11], [1, 2, 3, 4, 12]),
    ],
)
def test_the_u_test_is_exact(a: list[float], b: list[float]) -> None:
    assert compare.mann_whitney(a, b) == pytest.approx(exact(a, b))
    assert compare.mann_whitney(b, a) == pytest.approx(exact(a, b))


def verdict(old: list[float], new: list[float]) -> str:
    (change,) = compare.compare(report(old), report(new)).changes
    return change.verdict


def test_a_change_beyond_the_noise_is_said() -> None:
    assert verdict([1.0, 1.1, 1.05, 1.02], [2.0, 2.1, 2.05, 2.2]) == compare.SLOWER
    assert verdict([2.0, 2.1, 2.05, 2.2], [1.0, 1.1, 1.05, 1.02]) == compare.FASTER


def test_what_overlaps_is_noise() -> None:
    assert verdict([1.0, 1.4, 1.1, 1.3, 1.2], [1.35, 1.05, 1.45, 1.15, 1.25]) == compare.NOISE


def test_a_difference_of_no_interest_is_not_called_a_change() -> None:
    assert verdict([1.000, 1.001, 1.002, 1.003], [1.004, 1.005, 1.006, 1.007]) == compare.NOISE


def test_too_few_rounds_tell_nothing() -> None:
    assert verdict([1.0, 1.0, 1.0], [9.0, 9.0, 9.0]) == compare.UNKNOWN


def test_more_operations_per_second_are_faster() -> None:
    old, new = report([1.0]), report([1.0])
    old.rounds[0].ops_per_s[:] = [100.0, 101.0, 102.0, 103.0]
    new.rounds[0].ops_per_s[:] = [200.0, 201.0, 202.0, 203.0]
    (change,) = [each for each in compare.compare(old, new).changes if each.figure == "ops/s"]
    assert change.verdict == compare.FASTER


def test_what_only_one_has_and_another_machine_are_named() -> None:
    found = compare.compare(report([1.0]), report([1.0], name="pod", kernel="6.2"))
    text = compare.report(found)
    assert "only in the old report: netns podlite c1" in text
    assert "only in the new report: pod podlite c1" in text
    assert "The machines differ in kernel" in text


def test_the_comparison_fits_a_hundred_columns() -> None:
    found = compare.compare(
        report([1.0] * 5, name="sandbox (hostNetwork)"), report([12345.678] * 5, name="sandbox (hostNetwork)")
    )
    assert max(map(len, compare.report(found).splitlines())) <= 100


def test_a_file_that_is_no_report_is_refused(tmp_path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"schema": 1}))
    (tmp_path / "b.json").write_text("no JSON")
    for path in (tmp_path / "a.json", tmp_path / "b.json", tmp_path / "missing.json"):
        with pytest.raises(PodliteError):
            read_json(str(path))
