"""A manifest behind a URL, asked for again and again. A failure leaves the pods as they are.

Source: pkg/kubelet/config/http.go (one request every `httpCheckFrequency`, 20 seconds; ten seconds for each; an empty
answer is a failure; the first failures are logged, then only changes), Kubernetes 1.36.
"""

from __future__ import annotations

import http.client
import urllib.request
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite import log
from podlite.agent.sources.manifests import ManifestSource
from podlite.agent.sources.static_pods import HTTP
from podlite.errors import UsageError, explain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHECK_SECONDS = 20.0
_REQUEST_SECONDS = 10.0
_LARGEST = 10 << 20


class UrlSource:
    """Follows one URL (http, https); `changed` and `problem` are as for `DirectorySource`. Raises UsageError."""

    def __init__(
        self,
        url: str,
        node_name: str,
        *,
        changed: Callable[[], Awaitable[None]],
        problem: Callable[[str, str], None],
        now: Callable[[], str],
        check_seconds: float = CHECK_SECONDS,
        header: tuple[tuple[str, str], ...] = (),
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no URL of a manifest: it has to begin with http:// or https://")
        self.url = url
        self.manifests = ManifestSource(HTTP, node_name)
        self._changed = changed
        self._problem = problem
        self._now = now
        self._check_seconds = check_seconds
        self._header = dict(header)
        self._failed = ""
        self._reload = anyio.Event()

    async def read(self) -> bool:
        """Asks now; whether anything has changed."""
        try:
            text = await to_thread.run_sync(self._fetch, abandon_on_cancel=True)
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = f"{self.url} cannot be read: {_why(error)}"
            if said != self._failed:
                self._failed = said
                self._problem(self.url, said)
            return False
        self._failed = ""
        said_of_it = self.manifests.read(self.url, text, self._now())
        if said_of_it:
            self._problem(self.url, said_of_it)
        return said_of_it == ""

    def reload(self) -> None:
        """Has it asked for again at once."""
        self._reload.set()

    async def run(self) -> None:
        """Follows the URL until it is cancelled."""
        while True:
            try:
                if await self.read():
                    await self._changed()
            except Exception as error:
                log.error("a manifest cannot be taken in", url=self.url, why=explain(error), exc_info=True)
            self._reload = anyio.Event()
            with anyio.move_on_after(self._check_seconds):
                await self._reload.wait()

    def _fetch(self) -> bytes:
        """Blocking. Raises OSError (HTTPError is one), HTTPException, ValueError."""
        request = urllib.request.Request(self.url, headers=self._header)  # noqa: S310 - http(s) only, see above
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:  # noqa: S310
            data: bytes = answer.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST >> 20} MiB")
        if not data.strip():
            raise ValueError("it is empty")
        return data


def _why(error: Exception) -> str:
    code = getattr(error, "code", None)  # of an HTTPError
    reason = str(getattr(error, "reason", "") or error)
    return f"HTTP {code}: {reason}" if code else reason
