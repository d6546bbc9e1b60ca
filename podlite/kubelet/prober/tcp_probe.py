"""tcpSocket: whether a connection can be opened.

Source: pkg/probe/tcp/tcp.go, Kubernetes 1.36.
"""

from __future__ import annotations

import anyio

from podlite.kubelet.prober.http_client import RequestFailedError, connect, dial_error, endpoint, lookup, numeric
from podlite.kubelet.prober.outcome import Outcome, Verdict

_HEALTHY = Outcome(Verdict.SUCCESS)


async def probe_tcp(host: str, port: int, timeout: float) -> Outcome:
    """Healthy if somebody accepts; the connection is closed at once."""
    with anyio.move_on_after(timeout) as scope:
        try:
            address = numeric(host) or await lookup(host)
        except RequestFailedError as error:
            return Outcome(Verdict.FAILURE, str(error))
        try:
            connection = await connect(address, port)
        except OSError as error:
            return Outcome(Verdict.FAILURE, dial_error(address, port, error))
        connection.close()
    if scope.cancelled_caught:
        return Outcome(Verdict.FAILURE, f"dial tcp {endpoint(host, port)}: i/o timeout")
    return _HEALTHY
