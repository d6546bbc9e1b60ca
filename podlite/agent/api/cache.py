"""The objects of one resource as list and watch see them: the same versions for both, so that nothing falls between.

Every change gets the next version. The last changes are kept: a watch may begin at any version of those, and one that
asks for an older one, or reads too slowly, is told that it is too old and lists again, as with an API server.
For the event loop's thread; nothing here waits for a reader.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import anyio
import msgspec
from msgspec import structs

from podlite.agent.api.errors import expired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator

T = TypeVar("T", bound=Any)
_encode = msgspec.json.Encoder().encode

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
# A busy pod changes some ten times until it runs.
KEPT_CHANGES = 2048


class Change(NamedTuple, Generic[T]):
    """`key` is the object's own for all of its life."""

    version: int
    type: str
    key: str
    value: T


class WatchCache(Generic[T]):
    """`first_version` is what versions begin after."""

    def __init__(self, first_version: int, kept: int = KEPT_CHANGES) -> None:
        self.version = first_version
        self._items: dict[str, T] = {}
        self._texts: dict[str, bytes] = {}  # of what has been asked for since it changed last
        self._changes: deque[Change[T]] = deque(maxlen=kept)
        self._floor = first_version  # a watch may begin here or later
        self._news = anyio.Event()
        self._closed = False

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    def forget_but(self, keys: Container[str]) -> None:
        """Drops objects that nobody is to be told of."""
        self._items = {key: value for key, value in self._items.items() if key in keys}
        self._texts = {key: text for key, text in self._texts.items() if key in keys}

    def items(self) -> list[tuple[str, T]]:
        return list(self._items.items())

    def get(self, key: str) -> T | None:
        return self._items.get(key)

    def text(self, key: str) -> bytes:
        """An object as JSON, made once for all who list. Raises KeyError."""
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = _encode(self._items[key])
        return found

    def put(self, key: str, value: T) -> T:
        """Adds or replaces an object; one that has not changed makes no change. Returns it with its version."""
        before = self._items.get(key)
        if before is not None and _same(before, value):
            return before
        self.version += 1
        value = _with_version(value, self.version)
        self._items[key] = value
        self._texts.pop(key, None)
        self._tell(Change(self.version, MODIFIED if before is not None else ADDED, key, value))
        return value

    def remove(self, key: str, last: T | None = None) -> None:
        """Idempotent. `last` is the object as it was in the end, if more is known than before."""
        before = self._items.pop(key, None)
        self._texts.pop(key, None)
        if before is None:
            return
        self.version += 1
        value = _with_version(last if last is not None else before, self.version)
        self._tell(Change(self.version, DELETED, key, value))

    def _tell(self, change: Change[T]) -> None:
        if len(self._changes) == self._changes.maxlen:
            self._floor = self._changes[0].version
        self._changes.append(change)
        news, self._news = self._news, anyio.Event()
        news.set()

    def close(self) -> None:
        """Ends every watch."""
        self._closed = True
        self._news.set()

    def check(self, since: int) -> None:
        """Raises ApiError (Expired) for a version that no watch can begin at any more."""
        if since < self._floor:
            raise expired(f"too old resource version: {since} ({self._floor})")

    async def watch(self, since: int) -> AsyncIterator[Change[T]]:
        """The changes after a version. Raises ApiError (Expired) when they are not all there any more."""
        while not self._closed:
            self.check(since)
            news = self._news
            for change in reversed(self._newer(since)):
                since = change.version
                yield change
                self.check(since)
            if news is self._news:
                await news.wait()

    def _newer(self, since: int) -> list[Change[T]]:
        """Newest first; stops looking where it is older."""
        found = []
        for change in reversed(self._changes):
            if change.version <= since:
                break
            found.append(change)
        return found


def _with_version(value: T, version: int) -> T:
    meta = structs.replace(value.metadata, resource_version=str(version))
    return structs.replace(value, metadata=meta)


def _same(one: T, other: T) -> bool:
    """Whether two objects differ in nothing but their version."""
    if one.metadata.resource_version == other.metadata.resource_version:
        return bool(one == other)
    return bool(one == _with_version(other, int(one.metadata.resource_version)))
