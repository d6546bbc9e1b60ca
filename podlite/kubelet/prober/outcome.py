"""What one attempt of a probe comes to, before thresholds."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Verdict(IntEnum):
    """WARNING counts as success, and is told; UNKNOWN is no result at all."""

    SUCCESS = 0
    WARNING = 1
    FAILURE = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """As the kubelet's messages spell it."""
        return self.name.lower()


class Outcome(NamedTuple):
    """`output` is what an event says of it."""

    verdict: Verdict
    output: str = ""


class ProbeError(Exception):
    """The attempt could not be made, or not to its end: it is tried again at once, and then thrown away.

    `verdict` is the one that the message names.
    """

    def __init__(self, message: str, verdict: Verdict = Verdict.UNKNOWN) -> None:
        super().__init__(message)
        self.verdict = verdict
