"""HTTP to one endpoint: TLS as configured, authentication, redirects, and every failure as a RegistryFailure.

httpx is the library: of those that were compared (httpx, aiohttp, niquests, urllib3, and oras above requests) it is the
one whose cancellation is anyio's, and the quickest to import. Retries are not its business but the client's.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import anyio
import httpx
from anyio import to_thread

from podlite.errors import explain
from podlite.runtime.image.registry.auth import Authorizer, parse_challenges
from podlite.runtime.image.registry.failure import RegistryFailure
from podlite.runtime.image.registry.hosts import is_loopback
from podlite.runtime.image.registry.retry import TRANSIENT, parse_retry_after
from podlite.version import __version__

if TYPE_CHECKING:
    from podlite.runtime.image.registry.auth import Credentials
    from podlite.runtime.image.registry.hosts import Endpoint
    from podlite.runtime.image.registry.retry import RetryPolicy

    Headers = list[tuple[str, str]]

# What a connection may end in: not all that TLS says is wrapped by httpx.
_BROKEN = (httpx.HTTPError, OSError)
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_REDIRECTS_MAX = 10
# With nothing, with a token that has run out meanwhile, and with a new one.
_AUTHORIZATIONS = 3
# A plain server may wait for the end of a line in what is the beginning of TLS.
_LOOPBACK_SECONDS = 3.0
# How many times as long as a connection may be silent a small body may take, for one that drips.
_SMALL_BODIES = 3
_MAX_ERROR = 64 << 10
_MAX_TOKEN = 1 << 20


class Transport:
    """Requests to one endpoint about one repository. Close it with `aclose`."""

    def __init__(
        self, endpoint: Endpoint, repository: str, credentials: Credentials | None, policy: RetryPolicy
    ) -> None:
        self.endpoint = endpoint
        self._repository = repository
        self._policy = policy
        self._base = endpoint.url
        self._client: httpx.AsyncClient | None = None
        secure = endpoint.scheme == "https"
        self.authorizer = Authorizer(
            endpoint.host, secure, credentials, f"repository:{repository}:pull", self._ask_for_token
        )

    @property
    def host(self) -> str:
        return self.endpoint.host

    @property
    def stall(self) -> float:
        """How many seconds a connection may say nothing."""
        return self._policy.stall

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    @asynccontextmanager
    async def request(
        self, method: str, kind: str, reference: str, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """The answer to one request for a manifest or blob, whatever its status, redirects and 401 done with.

        The body is still to be read, raw. Raises RegistryFailure.
        """
        response = await self._authorized(method, f"/{self._repository}/{kind}/{reference}", headers)
        try:
            try:
                yield response
            except _BROKEN as error:
                raise self._failed(error) from error
        finally:
            await response.aclose()

    async def failure_of(self, response: httpx.Response, what: str) -> RegistryFailure:
        """What an answer that is no success means. Reads some of its body."""
        said = await self._said(response)
        fact = f"{self.host} answered {response.status_code}{f' ({said})' if said else ''}"
        if response.status_code == 404:
            return RegistryFailure(f"{self.host} has no {what}{f' ({said})' if said else ''}", not_found=True)
        if response.status_code in (401, 403):
            return self.authorizer.denied(fact)
        if response.status_code in TRANSIENT:
            header = response.headers.get("Retry-After", "")
            retry_after = parse_retry_after(header) if header else None
            hint = "the registry limits how often images are pulled" if response.status_code == 429 else ""
            return RegistryFailure(
                f"{fact}{f', and asks to come back in {retry_after:.0f} s' if retry_after else ''}",
                transient=True,
                unavailable=response.status_code >= 500,
                retry_after=retry_after,
                hint=hint,
            )
        return RegistryFailure(fact)

    async def read(self, response: httpx.Response, limit: int, what: str) -> bytes:
        """A small body. Raises RegistryFailure if it has more than `limit` bytes, or does not come."""
        pieces = []
        size = 0
        too_large = RegistryFailure(f"{what} has more than {limit} bytes, which is the limit")
        if int(response.headers.get("Content-Length") or 0) > limit:
            raise too_large
        with anyio.move_on_after(_SMALL_BODIES * self.stall) as deadline:
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > limit:
                    raise too_large
                pieces.append(piece)
        if deadline.cancelled_caught:
            raise RegistryFailure(f"{self.host} sends {what} too slowly to wait for it", transient=True)
        return b"".join(pieces)

    async def _authorized(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        attempts = 0
        while True:
            shown = self.authorizer.header
            response = await self._follow(method, path, {**headers, **({"Authorization": shown} if shown else {})})
            attempts += 1
            if response.status_code != 401 or attempts == _AUTHORIZATIONS:
                return response
            challenges = parse_challenges(response.headers.get_list("WWW-Authenticate"))
            try:
                again = await self.authorizer.answer(challenges, shown)
            except BaseException:
                await response.aclose()
                raise
            if not again:
                return response
            await response.aclose()

    async def _follow(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        """One request and its redirects. What is meant for this host is shown to no other one."""
        query = f"?ns={self.endpoint.namespace}" if self.endpoint.namespace else ""
        own = [*self.endpoint.header, *headers.items()]
        response = await self._send(method, f"{self._base}{path}{query}", own)
        origin = _origin(self._base)
        for _ in range(_REDIRECTS_MAX):
            if response.status_code not in _REDIRECTS or not response.headers.get("Location"):
                return response
            url = urljoin(str(response.url), response.headers["Location"])
            await response.aclose()
            split = urlsplit(url)
            if split.scheme not in ("http", "https") or not split.netloc:
                raise RegistryFailure(f"{self.host} redirects to {url!r}, which is no URL")
            if split.scheme == "http" and origin[0] == "https" and not is_loopback(split.netloc):
                raise RegistryFailure(
                    f"{self.host} redirects to {split.scheme}://{split.netloc}, which is not encrypted"
                )
            if _origin(url) != origin:
                own = [(name, value) for name, value in headers.items() if name != "Authorization"]
            response = await self._send(method, url, own)
        await response.aclose()
        raise RegistryFailure(f"{self.host} redirects more than {_REDIRECTS_MAX} times")

    async def _send(self, method: str, url: str, headers: Headers, body: bytes = b"") -> httpx.Response:
        client = self._client or await self._open()
        try:
            request = client.build_request(method, url, headers=headers, content=body or None)
            return await client.send(request, stream=True)
        except (*_BROKEN, httpx.InvalidURL, ValueError) as error:
            if self.endpoint.plain_fallback and self._base.startswith("https:") and _speaks_no_tls(error):
                # As docker and containerd do, on loopback only.
                self._base = self._base.replace("https:", "http:", 1)
                return await self._send(method, url.replace("https:", "http:", 1), headers, body)
            raise self._failed(error) from error

    async def _ask_for_token(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        response = await self._send(method, url, [("Accept", "application/json"), *headers.items()], body)
        try:
            if response.status_code in TRANSIENT:
                raise await self.failure_of(response, "token")
            return response.status_code, await self.read(response, _MAX_TOKEN, "the answer to a request for a token")
        except _BROKEN as error:
            raise self._failed(error) from error
        finally:
            await response.aclose()

    async def _open(self) -> httpx.AsyncClient:
        policy = self._policy
        connect = self.endpoint.dial_timeout or policy.connect
        if self.endpoint.plain_fallback:
            connect = min(connect, _LOOPBACK_SECONDS)
        # Reading the system's certificates takes longer than an event loop may stand still.
        context = await to_thread.run_sync(self._tls) if self._base.startswith("https:") else False
        if self._client is not None:
            return self._client  # another task was quicker
        self._client = httpx.AsyncClient(
            verify=context,
            # Loopback is nobody's to proxy, as Go's programs have it.
            trust_env=not is_loopback(self.endpoint.host),
            timeout=httpx.Timeout(policy.stall, connect=connect, pool=None),
            headers={"User-Agent": f"podlite/{__version__}", "Accept-Encoding": "identity"},
            follow_redirects=False,
        )
        return self._client

    def _tls(self) -> ssl.SSLContext:
        endpoint = self.endpoint
        doing = f"the certificates for {endpoint.host}"
        # Where nothing is verified the system's authorities need not be read, which takes 20 ms.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if endpoint.skip_verify else ssl.create_default_context()
        try:
            if endpoint.skip_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            for file in endpoint.ca:
                context.load_verify_locations(file)
            for certificate, key in endpoint.client:
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise RegistryFailure(f"{doing} cannot be used: {explain(error)}") from error
        return context

    def _failed(self, error: Exception) -> RegistryFailure:
        """A failure to connect, to be understood, or to be answered."""
        if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError)):
            return RegistryFailure(f"{self.host} refers to an address that cannot be used: {error}")
        verification = _cause(error, ssl.SSLCertVerificationError)
        if isinstance(verification, ssl.SSLCertVerificationError):
            return RegistryFailure(
                f"the certificate of {self.host} is not trusted: {verification.verify_message or verification}",
                unavailable=True,
                hint=f"name its authority as `ca` in /etc/podlite/certs.d/{self.host}/hosts.toml",
            )
        if _cause(error, ssl.SSLError) is not None and _speaks_no_tls(error):
            return RegistryFailure(
                f"{self.host} does not speak TLS",
                unavailable=True,
                hint=f'for plain HTTP write `server = "http://{self.host}"` to '
                f"/etc/podlite/certs.d/{self.host}/hosts.toml",
            )
        if isinstance(error, httpx.ConnectTimeout):
            text = f"{self.host} does not answer"
        elif isinstance(error, httpx.TimeoutException):
            text = f"{self.host} has sent nothing for {self._policy.stall:.0f} s"
        elif isinstance(error, httpx.ConnectError):
            text = f"{self.host} cannot be reached: {_reason(error)}"
        elif isinstance(error, httpx.ProxyError):
            text = f"the proxy for {self.host} refuses: {error}"
        else:
            text = f"the connection to {self.host} broke: {_reason(error)}"
        return RegistryFailure(text, transient=True, unavailable=True)

    async def _said(self, response: httpx.Response) -> str:
        """The error that a registry states in a body (distribution-spec, "Error Codes"), as text for one line."""
        import msgspec

        try:
            raw = await self.read(response, _MAX_ERROR, "an error")
            errors = msgspec.json.decode(raw).get("errors") or []
            first = errors[0]
            text = str(first.get("message") or first.get("code") or "")
        except (RegistryFailure, *_BROKEN, msgspec.DecodeError, AttributeError, LookupError, TypeError):
            return ""
        except (UnicodeDecodeError, RecursionError):
            return ""
        return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:200]


def _origin(url: str) -> tuple[str, str]:
    split = urlsplit(url)
    return split.scheme, split.netloc.lower()


def _cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The exception of that kind that an exception came from."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _speaks_no_tls(error: Exception) -> bool:
    if isinstance(error, httpx.ConnectTimeout):
        return True
    text = str(_cause(error, ssl.SSLError) or "")
    return any(
        each in text for each in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
    )


def _reason(error: Exception) -> str:
    """What the machine said, from the innermost of the exceptions: those around it say only that it failed."""
    cause: OSError | None = None
    seen: BaseException | None = error
    while seen is not None:
        cause = seen if isinstance(seen, OSError) and str(seen) else cause
        seen = seen.__cause__ or seen.__context__
    if cause is None:
        return str(error) or type(error).__name__
    # asyncio puts an address in strerror's place; for TLS and names the number is none of errno's.
    if cause.errno and not isinstance(cause, (ssl.SSLError, socket.gaierror)):
        return os.strerror(cause.errno)
    return explain(cause)
