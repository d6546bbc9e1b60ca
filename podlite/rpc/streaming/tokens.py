"""The tokens in streaming URLs: each stands for one request, works once, and not for long."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from podlite.cri.errors import ResourceExhaustedError

T = TypeVar("T")

# As the streaming servers of kubelet and containerd have it (k8s.io/cri-streaming, request_cache.go).
LIFETIME_SECONDS = 60.0
MAX_WAITING = 1000


class Tokens(Generic[T]):
    """Requests that wait for their client; `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Oldest first: all live equally long.
        self._waiting: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def issue(self, request: T) -> str:
        """A token that nobody can guess. Raises ResourceExhaustedError if too many have not been used."""
        self._expire()
        if len(self._waiting) >= MAX_WAITING:
            raise ResourceExhaustedError(f"{MAX_WAITING} streams have been asked for and not been fetched")
        token = secrets.token_urlsafe(16)
        self._waiting[token] = (self._clock() + LIFETIME_SECONDS, request)
        return token

    def redeem(self, token: str) -> T | None:
        """The request, once; None for a token that is unknown, used or expired."""
        self._expire()
        found = self._waiting.pop(token, None)
        return None if found is None else found[1]

    def _expire(self) -> None:
        now = self._clock()
        while self._waiting:
            token, (until, _) = next(iter(self._waiting.items()))
            if until > now:
                return
            del self._waiting[token]
