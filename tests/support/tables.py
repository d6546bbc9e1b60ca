"""Tables of cases: the first column of each row says what the case is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def table(cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The rows as parameters of a test, each under its first column's name."""
    return [pytest.param(*case[1:], id=case[0]) for case in cases]
