"""List and watch, the same for every resource.

Source: "Efficient detection of changes" of the Kubernetes documentation (API concepts), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from podlite.agent.api.cache import ADDED, DELETED, MODIFIED
from podlite.agent.api.errors import ApiError
from podlite.agent.api.http import StreamedLines, answer, answer_texts, encode, flag, number
from podlite.agent.api.representation import representation
from podlite.agent.api.selectors import field_selector, label_selector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from podlite.agent.api.cache import WatchCache
    from podlite.agent.api.representation import Representation

# A quiet watch says where it is this often, if it is asked to.
_BOOKMARK_SECONDS = 60.0


def matcher(request: Request, resource: str) -> Callable[[Any], bool]:
    """What decides whether an object is asked for: namespace, labels, fields. Raises ApiError."""
    namespace = request.path_params.get("namespace", "")
    labels = request.query_params.get("labelSelector", "")
    fields = request.query_params.get("fieldSelector", "")
    by_labels = label_selector(labels) if labels.strip() else None
    by_fields = field_selector(resource, fields) if fields.strip() else None

    def matches(value: Any) -> bool:
        meta = value.metadata
        if namespace and meta.namespace != namespace:
            return False
        if by_labels is not None and not by_labels(meta.labels):
            return False
        return by_fields is None or by_fields(value)

    return matches


async def list_or_watch(request: Request, resource: str, kind: str, cache: WatchCache[Any]) -> Response:
    """GET of a collection. Raises ApiError."""
    matches = matcher(request, resource)
    shown = representation(request, kind)
    if not flag(request, "watch"):
        found = [(value.metadata.namespace, value.metadata.name, key) for key, value in cache.items() if matches(value)]
        keys = [key for _, _, key in sorted(found)]
        if shown.is_plain:
            return answer_texts(f"{kind}List", [cache.text(key) for key in keys], cache.version)
        return answer(shown.many([cache.get(key) for key in keys], str(cache.version)))
    since = number(request, "resourceVersion")
    if since:
        cache.check(since)
    seconds = number(request, "timeoutSeconds")
    shown.check_watched()
    bookmarks = flag(request, "allowWatchBookmarks")
    lines = _watch(cache, matches, shown, since or 0, seconds or None, bookmarks=bookmarks)
    return StreamedLines(lines, "application/json")


async def _watch(
    cache: WatchCache[Any],
    matches: Callable[[Any], bool],
    form: Representation,
    since: int,
    seconds: float | None,
    *,
    bookmarks: bool,
) -> AsyncIterator[bytes]:
    """The lines of a watch; from version 0 what there is comes first."""
    send, receive = anyio.create_memory_object_stream[bytes](1)
    shown: set[str] = set()

    async def follow() -> None:
        nonlocal since
        async with send:
            if not since:
                since = cache.version
                for key, value in cache.items():
                    if matches(value):
                        shown.add(key)
                        await send.send(_line(ADDED, form.one(value)))
            else:
                shown.update(key for key, value in cache.items() if matches(value))
            try:
                async for change in cache.watch(since):
                    since = change.version
                    type = _seen_as(change.type, change.key, matches(change.value), shown)
                    if type:
                        await send.send(_line(type, form.one(change.value)))
            except ApiError as error:
                await send.send(_line("ERROR", error.status))

    async def bookmark() -> None:
        while True:
            await anyio.sleep(_BOOKMARK_SECONDS)
            await send.send(_line("BOOKMARK", form.bookmark(str(since))))

    async with anyio.create_task_group() as tasks, receive:
        with anyio.move_on_after(seconds):
            tasks.start_soon(follow)
            if bookmarks:
                tasks.start_soon(bookmark)
            async for line in receive:
                yield line
        tasks.cancel_scope.cancel()


def _seen_as(type: str, key: str, matches: bool, shown: set[str]) -> str:
    """What a change is to who sees only what matches: an object may come into his sight, or leave it."""
    if type == DELETED:
        was = key in shown
        shown.discard(key)
        return DELETED if was or matches else ""
    if matches:
        before = key in shown
        shown.add(key)
        return MODIFIED if before else ADDED
    if key in shown:
        shown.discard(key)
        return DELETED
    return ""


def _line(type: str, value: Any) -> bytes:
    return encode({"type": type, "object": value}) + b"\n"
