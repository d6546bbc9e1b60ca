"""Latencies in an HDR histogram: percentiles to three digits from a microsecond to an hour, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from podlite.errors import PodliteError

_LOWEST_NS = 1_000
_HIGHEST_NS = 3_600_000_000_000
_DIGITS = 3


class Summary(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float
    mean: float


class Latencies:
    """A set of latencies in nanoseconds. Raises PodliteError, with a hint, where the library is not installed."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._histogram = _new_histogram()
        self._total = 0
        self._max = 0
        self.count = 0
        for value in values:
            self.record(value)

    def record(self, nanoseconds: int) -> None:
        """One latency; what is shorter than a microsecond counts as one in the percentiles, not in the mean."""
        self._histogram.record_value(min(max(nanoseconds, _LOWEST_NS), _HIGHEST_NS))
        self._total += nanoseconds
        self._max = max(self._max, nanoseconds)
        self.count += 1

    def add(self, other: Latencies) -> None:
        """Takes in another set."""
        self._histogram.add(other._histogram)
        self._total += other._total
        self._max = max(self._max, other._max)
        self.count += other.count

    def percentile(self, percent: float) -> float:
        """In milliseconds; 0 for an empty set, and for a set of nothing but zeros."""
        if not self._max:
            return 0.0
        return min(float(self._histogram.get_value_at_percentile(percent)), self._max) / 1e6

    def summary(self) -> Summary:
        """All zeros for an empty set."""
        return Summary(
            p50=_rounded(self.percentile(50)),
            p90=_rounded(self.percentile(90)),
            p99=_rounded(self.percentile(99)),
            p99_9=_rounded(self.percentile(99.9)),
            max=_rounded(self._max / 1e6),
            mean=_rounded(self._total / self.count / 1e6 if self.count else 0.0),
        )

    def curve(self) -> list[tuple[float, float]]:
        """(percentile, milliseconds), closer together towards 100: for a plot of the distribution."""
        points = [
            0.0,
            *range(1, 90),
            *(90 + each / 10 for each in range(90)),
            *(99 + each / 100 for each in range(100)),
        ]
        last = 100.0 * (1 - 1 / max(self.count, 1))
        return [(float(each), self.percentile(each)) for each in points if each <= last or each < 50]


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 4)


def require() -> None:
    """Raises PodliteError if the library is missing: said before anything is measured."""
    _new_histogram()


def _new_histogram() -> Any:
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        raise PodliteError(
            "podlite bench needs the library hdrhistogram", hint="pip install 'podlite[bench]' brings what it needs"
        ) from None
    # In units of a nanosecond: with the lowest value as the unit there would be no digits at that end.
    return HdrHistogram(1, _HIGHEST_NS, _DIGITS)
