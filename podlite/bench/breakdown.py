"""Where each millisecond goes: the named steps of `podlite.steps`, as `--trace` shows them.

Listening is not free (the shims report their spans too), so it is done in a pass of its own whose latencies count
for nothing else.
"""

from __future__ import annotations

from podlite import steps
from podlite.bench.latencies import Latencies


class Breakdown:
    """Collects spans while it is entered; `p50` says how long each step took at the median."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, int]] = []

    def __enter__(self) -> Breakdown:
        self._stop = steps.listen(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _listen(self, span: steps.Span) -> None:
        # From whichever thread ran the step.
        self._spans.append((span.name, span.end_ns - span.start_ns))

    def p50(self) -> dict[str, float]:
        """Milliseconds at the median, in the order of a pod's life."""
        by_name: dict[str, Latencies] = {}
        for name, duration in self._spans:
            by_name.setdefault(name, Latencies()).record(duration)
        return {name: round(by_name[name].percentile(50), 4) for name in steps.STEPS if name in by_name}
