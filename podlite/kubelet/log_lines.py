"""The CRI's log format: `2026-11-23T20:00:00.123456789Z stdout F the text`, one line for each piece of output.

A piece tagged P is part of a line that the next piece of the same stream continues; one tagged F ends it. What
a container wrote comes back byte for byte: the text of F with its newline, the text of P without.
Source: k8s.io/cri-client/pkg/logs/logs.go and kubernetes/design-proposals-archive, node/kubelet-cri-logging.md.
"""

from __future__ import annotations

from typing import NamedTuple

STDOUT = "stdout"
STDERR = "stderr"

_PARTIAL = b"P"
_TAG_DELIMITER = b":"


class LogLine(NamedTuple):
    """`time` is RFC 3339 with nanoseconds, as written; `content` has its newline unless it is `partial`."""

    time: bytes
    stream: str
    content: bytes
    partial: bool


def parse_line(line: bytes) -> LogLine | None:
    """One line of a log file, with or without its newline; None for what is no such line."""
    time, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tags, space, content = rest.partition(b" ")
    if not space or stream not in (b"stdout", b"stderr") or not _is_time(time):
        return None
    partial = tags.partition(_TAG_DELIMITER)[0] == _PARTIAL
    if partial and content.endswith(b"\n"):
        content = content[:-1]
    return LogLine(time, stream.decode(), content, partial)


def time_ns(time: bytes) -> int:
    """Nanoseconds since the epoch of a line's time. Raises ValueError."""
    from podlite.kubelet.gotime import parse_rfc3339

    text = time.decode("ascii")
    if text.endswith("Z"):
        return parse_rfc3339(text)
    # A runtime may write local time with its offset.
    body, sign, offset = text[:-6], text[-6], text[-5:]
    hours, _, minutes = offset.partition(":")
    shift = (int(hours) * 60 + int(minutes)) * 60_000_000_000
    return parse_rfc3339(f"{body}Z") + (shift if sign == "-" else -shift)


def _is_time(time: bytes) -> bool:
    return len(time) >= 20 and time[4:5] == b"-" and time[10:11] == b"T" and time[13:14] == b":"
