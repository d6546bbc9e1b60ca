"""`--trace`: the run's named steps as a timeline in Chrome's trace-event format, which opens in Perfetto.

Source: "Trace Event Format" (Google), JSON object format, complete events (`ph` X).
"""

from __future__ import annotations

import json
import os
from typing import Any

from podlite import steps
from podlite.errors import UsageError


class Trace:
    """Collects every step of controller, spawner, shims and containers; `write` ends it."""

    def __init__(self, path: str) -> None:
        """Raises UsageError where the file cannot be written: before anything runs, not after it."""
        try:
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise UsageError(f"the timeline cannot be written to {path}: {error.strerror}") from None
        self._path = path
        self._spans: list[steps.Span] = []
        self._stop = steps.listen(self._spans.append)

    def write(self) -> None:
        """Writes the file. Raises OSError."""
        self._stop()
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump(trace_events(self._spans, os.getpid()), file)


def trace_events(spans: list[steps.Span], pid: int) -> dict[str, Any]:
    """The file's content: one process row per pod, one thread row per container, and podlite's own. Pure."""
    rows: dict[tuple[str, str], tuple[int, int]] = {}
    pods: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    for span in spans:
        pod = span.ids.get("pod", "")
        track = span.ids.get("container_id", "")[:12] or span.where
        if pod not in pods:
            pods[pod] = pid + len(pods)
            name = pod or "podlite"
            events.append({"ph": "M", "name": "process_name", "pid": pods[pod], "tid": 0, "args": {"name": name}})
        if (pod, track) not in rows:
            rows[pod, track] = (pods[pod], len(rows) + 1)
            row = {"pid": pods[pod], "tid": rows[pod, track][1]}
            label = f"container {track}" if "container_id" in span.ids else track
            events.append({"ph": "M", "name": "thread_name", **row, "args": {"name": label}})
        process, thread = rows[pod, track]
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "cat": span.where,
                "pid": process,
                "tid": thread,
                "ts": span.start_ns / 1000,
                "dur": (span.end_ns - span.start_ns) / 1000,
                "args": {**span.ids, **({"error": span.error} if span.error else {})},
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}
