"""How long ago something was, in the few letters that a table has for it. Pure.

Source: k8s.io/apimachinery/pkg/util/duration and pkg/printers/internalversion/printers.go, Kubernetes 1.36.
"""

from __future__ import annotations

from podlite.kubelet.gotime import NANOSECONDS, parse_rfc3339

UNKNOWN = "<unknown>"


def age(since: str | None, now_ns: int) -> str:
    """How long ago a time was, as RFC 3339: `12s`, `3m20s`, `5d`."""
    if not since:
        return UNKNOWN
    return human_duration((now_ns - parse_rfc3339(since)) // NANOSECONDS)


def human_duration(seconds: int) -> str:
    """A duration in two or three digits: `119s`, `9m59s`, `179m`, `7h59m`, `47h`, `7d23h`, `729d`, `2y5d`."""
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes = seconds // 60
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")
