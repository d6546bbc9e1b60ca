"""Values of options, read from the command line: each function is an argparse `type` and complains in a sentence."""

from __future__ import annotations

import argparse

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """A time of more than nothing: a number of seconds, or a duration such as `90s` or `1h30m`."""
    value = duration(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is too little: it must be more than 0 seconds")
    return value


def whole(text: str) -> int:
    """Any whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = whole(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is too small: it must be more than 0")
    return value


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it: `90s`, `1h30m`, `1.5h`; a bare number is seconds, `d` is a day."""
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    rest, total = text, 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((each for each in _UNITS if rest[digits:].startswith(each)), "")
        if not rest[:digits].replace(".", "", 1).isdecimal() or not unit:
            raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
        total += float(rest[:digits]) * _UNITS[unit]
        rest = rest[digits + len(unit) :]
    if not text:
        raise argparse.ArgumentTypeError("it is empty, and not a duration such as 30s, 5m or 1h30m")
    return total


def instant(text: str) -> int:
    """Nanoseconds since the epoch of a time in RFC 3339, in UTC or with an offset."""
    from podlite.kubelet.log_lines import time_ns

    try:
        return time_ns(text.encode())
    except (ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-23T20:00:00Z") from None


def truth(text: str) -> bool:
    """As kubectl's flags: true or false."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"it is true or false, not {text!r}")
    return text == "true"
