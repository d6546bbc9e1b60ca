"""Times and durations as statuses and messages spell them."""

from __future__ import annotations

import time

NANOSECONDS = 1_000_000_000


def rfc3339(ns: int) -> str:
    """Nanoseconds since the epoch as metav1.Time prints them: `2026-11-23T20:00:00Z`, cut to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns // NANOSECONDS))


def parse_rfc3339(text: str) -> int:
    """The nanoseconds since the epoch of what `rfc3339` prints, also with a fraction. Raises ValueError."""
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not a time in UTC")
    whole, _, fraction = text[:-1].partition(".")
    days, _, clock = whole.partition("T")
    year, month, day = map(int, days.split("-"))
    hour, minute, second = map(int, clock.split(":"))
    in_range = 1 <= month <= 12 and 1 <= day <= 31 and 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 60
    if not in_range or (fraction and not fraction.isdecimal()):
        raise ValueError(f"{text!r} is not a time")
    return (_epoch_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) * NANOSECONDS + int(
        f"{fraction:0<9}"[:9]
    )


def _epoch_days(year: int, month: int, day: int) -> int:
    # The civil calendar's days since 1970-01-01; importing `calendar` or `datetime` for this costs more than a pod.
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


def duration(seconds: float) -> str:
    """A duration as Go prints it: `0s`, `250ms`, `1.5s`, `2m40s`, `1h0m0s`; to the nanosecond."""
    ns = round(seconds * NANOSECONDS)
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns < NANOSECONDS:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if ns >= size:
                return f"{sign}{_decimal(ns, size)}{unit}"
        return "0s"
    minutes, rest = divmod(ns, 60 * NANOSECONDS)
    text = f"{_decimal(rest, NANOSECONDS)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
