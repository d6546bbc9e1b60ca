"""httpGet: a request, and whether its answer counts as healthy.

Source: pkg/probe/http/http.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from podlite.api.gotext import quote
from podlite.kubelet.prober.http_client import BodyFailedError, RequestFailedError, exchange
from podlite.kubelet.prober.http_request import BadProbeError, build, request_target
from podlite.kubelet.prober.http_response import Response
from podlite.kubelet.prober.outcome import Outcome, ProbeError, Verdict

if TYPE_CHECKING:
    from podlite.kubelet.prober.http_request import Request

_MAX_REDIRECTS = 10
_FOLLOWED = frozenset((301, 302, 303, 307, 308))
_TIMED_OUT = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
_BODY_TIMED_OUT = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"

_HEALTHY = Outcome(Verdict.SUCCESS)


async def probe_http(request: Request, timeout: float) -> Outcome:
    """200 to 399 is healthy. Redirects are followed on the same host; one that leads elsewhere is a warning.

    No certificate is verified. Raises ProbeError if the answer's body does not come to its end.
    """
    exchanges = _Exchanges(request)
    with anyio.move_on_after(timeout) as scope:
        try:
            response = await exchanges.run(same_host=True)
        except RequestFailedError as error:
            return Outcome(Verdict.FAILURE, str(error))
        except BodyFailedError as error:
            raise ProbeError(str(error), Verdict.FAILURE) from error
    if scope.cancelled_caught:
        if exchanges.response.status:
            raise ProbeError(_BODY_TIMED_OUT, Verdict.FAILURE)
        return Outcome(Verdict.FAILURE, f"Get {quote(exchanges.request.url)}: {_TIMED_OUT}")
    if 200 <= response.status < 300:
        return _HEALTHY
    if 300 <= response.status < 400:
        body = response.body.decode("utf-8", "replace")
        return Outcome(Verdict.WARNING, f"Probe terminated redirects, Response body: {body}")
    return Outcome(Verdict.FAILURE, f"HTTP probe failed with statuscode: {response.status}")


async def get(request: Request) -> Response:
    """An answer of whatever status, redirects to anywhere followed: what a lifecycle hook asks for.

    Raises RequestFailedError; a body that does not come to its end is no failure.
    """
    exchanges = _Exchanges(request)
    try:
        return await exchanges.run(same_host=False)
    except BodyFailedError:
        return exchanges.response


class _Exchanges:
    """A request, and those that it is redirected to."""

    __slots__ = ("first", "request", "response")

    def __init__(self, request: Request) -> None:
        self.first = self.request = request
        self.response = Response()

    async def run(self, *, same_host: bool) -> Response:
        for _ in range(_MAX_REDIRECTS):
            self.response = Response()
            try:
                await exchange(self.request, self.response)
                redirected = self._redirected()
            except (RequestFailedError, BadProbeError) as error:
                raise RequestFailedError(f"Get {quote(self.request.url)}: {error}") from error
            if redirected is None or (same_host and redirected.host != self.first.host):
                return self.response
            self.request = redirected
        raise RequestFailedError(f"Get {quote(self.request.url)}: stopped after 10 redirects")

    def _redirected(self) -> Request | None:
        location = self.response.headers.get(b"location", b"")
        if self.response.status not in _FOLLOWED or not location:
            return None
        from urllib.parse import urljoin, urlsplit

        text = location.decode("latin-1")
        before = self.request
        try:
            url = urlsplit(urljoin(before.url, text))
            port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError as error:
            raise RequestFailedError(f"failed to parse Location header {quote(text)}: {error}") from error
        if url.scheme not in ("http", "https"):
            raise RequestFailedError(f'unsupported protocol scheme "{url.scheme}"')
        relative = not urlsplit(text).netloc
        return build(
            tls=url.scheme == "https",
            host=url.hostname or before.host,
            port=port,
            target=request_target(url.path + (f"?{url.query}" if url.query else "")),
            headers=before.headers,
            own_host_header=before.own_host_header if relative else "",
        )
