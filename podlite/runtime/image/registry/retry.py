"""When a request is tried again, and after how long. Pure.

Sources: RFC 9110 section 10.2.3 (Retry-After), RFC 6585 (429).
"""

from __future__ import annotations

import random
import time

import msgspec

# What a server means by these may be over the next time; 401 is the business of podlite.runtime.image.registry.auth.
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`attempts` in all, without progress between them; delays double from `first` to `longest` seconds.

    A server that wants more than `patience` seconds is not waited for: whoever asked for the image has a back-off of
    their own. `connect` and `stall` bound how long a connection may take, and how long one may say nothing.
    """

    attempts: int = 4
    first: float = 0.4
    longest: float = 15.0
    patience: float = 60.0
    connect: float = 30.0
    stall: float = 60.0

    def delay(self, failures: int, retry_after: float | None = None) -> float | None:
        """Seconds until the next attempt after that many failures; None when there is to be none.

        Between half and all of what is due, so that many that failed together do not come back together.
        """
        if failures >= self.attempts:
            return None
        if retry_after is not None:
            return retry_after if retry_after <= self.patience else None
        due: float = min(self.first * 2 ** (failures - 1), self.longest)
        return due * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def parse_retry_after(value: str, now: float | None = None) -> float | None:
    """Seconds to wait by a Retry-After header, a number of seconds or a date; None for what is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, when.timestamp() - (time.time() if now is None else now))
