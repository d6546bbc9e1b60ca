"""podlite's own log, by structlog, on standard error.

Importing structlog takes as long as running a small pod, so it is imported when the first event is
really written: with the default level a run that has nothing to say never pays for it. Events are short
CamelCase-free phrases with facts as keywords; the steps of the flow (`podlite.steps`) are events of level
info, with `ms` and whichever of `pod`, `sandbox_id` and `container_id` is known.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from podlite import steps

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_threshold = LEVELS["warning"]
_format = "console"
_logger: Any = None


def configure(*, level: str = "warning", format: str = "console") -> None:
    """Sets the level (a key of LEVELS) and the format (`console` or `json`) for the whole process."""
    global _threshold, _format, _logger
    _threshold = LEVELS[level]
    _format = format
    _logger = None
    if _threshold <= LEVELS["info"]:
        steps.listen(_log_step)


def enabled(level: str) -> bool:
    """Whether events of this level are written."""
    return LEVELS[level] >= _threshold


def debug(event: str, **facts: Any) -> None:
    _emit("debug", event, facts)


def info(event: str, **facts: Any) -> None:
    _emit("info", event, facts)


def warning(event: str, **facts: Any) -> None:
    _emit("warning", event, facts)


def error(event: str, **facts: Any) -> None:
    _emit("error", event, facts)


def _emit(level: str, event: str, facts: dict[str, Any]) -> None:
    if LEVELS[level] < _threshold:
        return
    getattr(_structlog(), level)(event, **facts)


def _log_step(span: steps.Span) -> None:
    facts: dict[str, Any] = {**span.ids, "where": span.where, "ms": round((span.end_ns - span.start_ns) / 1e6, 3)}
    if span.error:
        facts["error"] = span.error
    _emit("info", span.name, facts)


class _StandardError:
    """What `sys.stderr` is at the moment: a test runner puts another file there for every test, and closes it.

    What cannot be written is lost: no pod is to end because nobody reads the log (EPIPE), or the disk is full.
    """

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()


def _structlog() -> Any:
    global _logger
    if _logger is None:
        import structlog

        renderer: Any
        if _format == "json":
            renderer = structlog.processors.JSONRenderer()
        else:
            renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                renderer,
            ],
            logger_factory=structlog.WriteLoggerFactory(file=_StandardError()),
            cache_logger_on_first_use=True,
        )
        _logger = structlog.get_logger()
    return _logger
