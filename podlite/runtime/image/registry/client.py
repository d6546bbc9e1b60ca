"""A registry, however many hosts stand for it: requests that go to the next host, and are tried again where it helps.

Source: OCI distribution-spec, "Pulling manifests" and "Pulling blobs".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import anyio
import httpx

from podlite import log
from podlite.runtime.image.manifest import INDEX_TYPES, MANIFEST_TYPES
from podlite.runtime.image.plan import sha256
from podlite.runtime.image.registry.auth import credentials_of
from podlite.runtime.image.registry.failure import RegistryFailure, pull_error
from podlite.runtime.image.registry.transport import Transport

if TYPE_CHECKING:
    from podlite.cri.types import AuthConfig
    from podlite.runtime.image.reference import ImageReference
    from podlite.runtime.image.registry.hosts import Endpoint
    from podlite.runtime.image.registry.retry import RetryPolicy

# What containerd and registries take for a manifest at most.
MAX_MANIFEST = 4 << 20

# What is understood, the preferred first; `*/*` as some registries answer 404 to whoever does not take what they have.
_ACCEPT = ", ".join((*sorted(INDEX_TYPES, reverse=True), *sorted(MANIFEST_TYPES, reverse=True), "*/*;q=0.1"))

_T = TypeVar("_T")


class RawManifest(NamedTuple):
    """A manifest or index as it came; `media_type` is what the server says it is."""

    raw: bytes
    digest: str
    media_type: str


class RegistryClient:
    """The repository of one image. A context manager. Methods raise ImageError, after all hosts and attempts."""

    def __init__(
        self, image: ImageReference, endpoints: list[Endpoint], auth: AuthConfig | None, policy: RetryPolicy
    ) -> None:
        self._doing = f"image {image} cannot be pulled"
        self._path = image.path
        self._policy = policy
        try:
            credentials = credentials_of(auth, image.domain)
        except RegistryFailure as failure:
            raise pull_error(self._doing, [failure]) from failure
        self._transports = [Transport(each, image.path, credentials, policy) for each in endpoints]

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            for transport in self._transports:
                await transport.aclose()

    async def head_manifest(self, reference: str) -> str:
        """The digest that a tag or digest stands for now; empty where the registry does not say, or does not know it.

        One try at each host.
        """
        known = reference if reference.startswith("sha256:") else ""

        async def head(transport: Transport) -> str:
            async with transport.request("HEAD", "manifests", reference, {"Accept": _ACCEPT}) as response:
                if response.status_code != 200:
                    return ""
                return known or response.headers.get("Docker-Content-Digest", "")

        for transport in self._hosts(resolving=not known):
            try:
                found = await head(transport)
            except RegistryFailure:
                continue
            if found:
                return found
        return ""

    async def manifest(self, reference: str, *, size: int = 0) -> RawManifest:
        """The manifest or index that a tag or digest stands for, verified if it is a digest."""
        by_digest = reference.startswith("sha256:")
        what = f"manifest {reference}" if by_digest else f"tag {reference} of {self._path}"

        async def get(transport: Transport) -> RawManifest:
            async with transport.request("GET", "manifests", reference, {"Accept": _ACCEPT}) as response:
                if response.status_code != 200:
                    raise await transport.failure_of(response, what)
                raw = await transport.read(response, MAX_MANIFEST, f"{what} at {transport.host}")
                found = sha256(raw)
                stated = reference if by_digest else response.headers.get("Docker-Content-Digest", found)
                if stated.startswith("sha256:") and found != stated:
                    raise RegistryFailure(f"{what} at {transport.host} is damaged: its digest is {found}")
                if size and size != len(raw):
                    raise RegistryFailure(f"{what} at {transport.host} has {len(raw)} bytes, and should have {size}")
                media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
                return RawManifest(raw, found, media_type)

        return await self.attempt(get, resolving=not by_digest)

    async def small_blob(self, digest: str, size: int, limit: int) -> bytes:
        """A blob that is kept in memory, such as a configuration, verified."""
        what = f"blob {digest}"
        if size > limit:
            raise pull_error(self._doing, [RegistryFailure(f"{what} has {size} bytes; the limit is {limit}")])

        async def get(transport: Transport) -> bytes:
            async with transport.request("GET", "blobs", digest, {}) as response:
                if response.status_code != 200:
                    raise await transport.failure_of(response, what)
                raw = await transport.read(response, size, f"{what} at {transport.host}")
            if sha256(raw) != digest or len(raw) != size:
                raise RegistryFailure(f"{what} at {transport.host} is damaged: it has not the size and digest stated")
            return raw

        return await self.attempt(get)

    @asynccontextmanager
    async def blob(self, transport: Transport, digest: str, offset: int) -> AsyncIterator[httpx.Response]:
        """A blob from `offset` on, if the host can do that: its answer is 200 or 206. Raises RegistryFailure."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with transport.request("GET", "blobs", digest, headers) as response:
            if response.status_code not in (200, 206, 416):
                raise await transport.failure_of(response, f"blob {digest}")
            yield response

    async def attempt(
        self,
        call: Callable[[Transport], Awaitable[_T]],
        *,
        resolving: bool = False,
        progressed: Callable[[], bool] = lambda: False,
    ) -> _T:
        """What `call` returns for the first host where it succeeds.

        It raises RegistryFailure. When all hosts have failed, and one of them in a way that may pass, all are asked
        again after a pause; whenever `progressed` says that a round has brought something, counting starts over.
        """
        rounds = 0
        while True:
            failures: list[RegistryFailure] = []
            for transport in self._hosts(resolving=resolving):
                try:
                    return await call(transport)
                except RegistryFailure as failure:
                    failures.append(failure)
            if not failures:
                what = "resolve tags" if resolving else "be pulled from"
                failures.append(RegistryFailure(f"none of the hosts that hosts.toml names may {what}"))
            rounds = 1 if progressed() else rounds + 1
            again = [failure for failure in failures if failure.transient]
            asked = [failure.retry_after for failure in again if failure.retry_after is not None]
            delay = self._policy.delay(rounds, min(asked, default=None)) if again else None
            if delay is None:
                raise pull_error(self._doing, failures) from failures[-1]
            log.info("a registry is asked again", why=again[-1].message, seconds=round(delay, 1))
            await anyio.sleep(delay)

    def _hosts(self, *, resolving: bool) -> list[Transport]:
        return [each for each in self._transports if (each.endpoint.resolves if resolving else each.endpoint.pulls)]
