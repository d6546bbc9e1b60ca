"""Telling any number of readers what has changed, without ever waiting for one of them.

Each reader has at most one pending change per key: a slow one skips what is outdated, never what is newest, and
its memory is bounded by the number of keys. All of it belongs to the event loop's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from podlite.kubelet.clock import Wake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")


class Subscription(Generic[T]):
    """What one reader has not seen yet: an async iterator that ends when it, or what it reads from, is closed."""

    __slots__ = ("_closed", "_from", "_pending", "_wake")

    def __init__(self, source: Broadcast[T]) -> None:
        self._from = source
        self._pending: dict[str, T] = {}
        self._wake = Wake()
        self._closed = False

    def put(self, key: str, value: T) -> None:
        # A key keeps its place: a change that is told late may carry news that came after others'.
        if key in self._pending and self._from.merge is not None:
            value = self._from.merge(self._pending[key], value)
        self._pending[key] = value
        self._wake.set()

    def close(self) -> None:
        """Ends the iteration after what is pending. Idempotent."""
        self._closed = True
        self._from.readers.discard(self)
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            await self._wake.wait()
        return self._pending.pop(next(iter(self._pending)))

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Broadcast(Generic[T]):
    """Hands each change to every reader. `merge` makes one of a change that was not read and its successor."""

    __slots__ = ("closed", "merge", "readers")

    def __init__(self, merge: Callable[[T, T], T] | None = None) -> None:
        self.merge = merge
        self.readers: set[Subscription[T]] = set()
        self.closed = False

    def subscribe(self) -> Subscription[T]:
        """From now on no change is missed; close the subscription, or leave it as a context manager."""
        subscription = Subscription(self)
        if self.closed:
            subscription.close()
        else:
            self.readers.add(subscription)
        return subscription

    def send(self, key: str, value: T) -> None:
        for reader in self.readers:
            reader.put(key, value)

    def close(self) -> None:
        """Ends every reader's iteration. Idempotent."""
        self.closed = True
        for reader in list(self.readers):
            reader.close()
