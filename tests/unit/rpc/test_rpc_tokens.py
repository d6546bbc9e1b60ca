"""A streaming URL's token works once, for a minute, and only so many wait."""

from __future__ import annotations

import pytest

from podlite.cri.errors import ResourceExhaustedError
from podlite.rpc.streaming.tokens import LIFETIME_SECONDS, MAX_WAITING, Tokens


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_token_works_once() -> None:
    tokens: Tokens[str] = Tokens(Clock())
    token = tokens.issue("request")
    assert tokens.redeem("another") is None
    assert tokens.redeem(token) == "request"
    assert tokens.redeem(token) is None


def test_a_token_expires() -> None:
    clock = Clock()
    tokens: Tokens[str] = Tokens(clock)
    early = tokens.issue("early")
    clock.now += LIFETIME_SECONDS - 1
    late = tokens.issue("late")
    clock.now += 1
    assert tokens.redeem(early) is None
    assert tokens.redeem(late) == "late"


def test_only_so_many_wait_and_expired_ones_do_not_count() -> None:
    clock = Clock()
    tokens: Tokens[int] = Tokens(clock)
    issued = {tokens.issue(number) for number in range(MAX_WAITING)}
    assert len(issued) == MAX_WAITING
    with pytest.raises(ResourceExhaustedError):
        tokens.issue(0)
    clock.now += LIFETIME_SECONDS
    assert tokens.issue(0)
