from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.bench.latencies import Latencies

MS = 1_000_000


def test_percentiles_of_a_known_distribution() -> None:
    # By definition: of 1..1000 ms, the p-th percentile is the value that p % do not exceed.
    summary = Latencies(value * MS for value in range(1, 1001)).summary()
    expected = {"p50": 500, "p90": 900, "p99": 990, "p99_9": 999, "max": 1000, "mean": 500.5}
    for name, value in expected.items():
        assert getattr(summary, name) == pytest.approx(value, rel=1e-3), name


@given(st.lists(st.integers(1_000, 10_000_000_000), min_size=1, max_size=200))
def test_three_digits_are_right(values: list[int]) -> None:
    found = Latencies(values)
    ordered = sorted(values)
    # HdrHistogram: the value at a percentile is that of rank ceil(p/100 * n), to the precision asked for.
    assert found.percentile(50) * MS == pytest.approx(ordered[(len(ordered) + 1) // 2 - 1], rel=2e-3)
    assert found.summary().max == pytest.approx(max(values) / MS, abs=1e-4)


def test_nothing_is_nothing() -> None:
    summary = Latencies().summary()
    assert (summary.p50, summary.max, summary.mean) == (0.0, 0.0, 0.0)
    # A peer with nothing to tear down.
    assert Latencies([0, 0]).summary().p99 == 0.0


@given(
    st.lists(st.integers(1_000, 1_000_000_000), max_size=50), st.lists(st.integers(1_000, 1_000_000_000), max_size=50)
)
def test_sets_can_be_merged(one: list[int], other: list[int]) -> None:
    merged = Latencies(one)
    merged.add(Latencies(other))
    assert merged.summary() == Latencies([*one, *other]).summary()
    assert merged.count == len(one) + len(other)


def test_the_curve_ends_where_the_samples_end() -> None:
    curve = Latencies([value * MS for value in range(1, 101)]).curve()
    assert [percent for percent, _ in curve] == sorted(percent for percent, _ in curve)
    # A hundred values say nothing of a 99.9th percentile.
    assert curve[-1][0] == pytest.approx(99.0)
    assert [value for _, value in curve] == sorted(value for _, value in curve)
