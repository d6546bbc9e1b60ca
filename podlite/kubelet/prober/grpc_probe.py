"""grpc: the gRPC health checking protocol, through grpcio where that is installed.

It is not one of podlite's dependencies: few pods need it, and it is larger than podlite.

Sources: pkg/probe/grpc/grpc.go, Kubernetes 1.36; grpc/health/v1/health.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from podlite.kubelet.gotime import duration
from podlite.kubelet.prober.http_client import endpoint
from podlite.kubelet.prober.http_request import USER_AGENT_VERSION
from podlite.kubelet.prober.outcome import Outcome, ProbeError, Verdict

if TYPE_CHECKING:
    from types import ModuleType

_METHOD = "/grpc.health.v1.Health/Check"
# HealthCheckResponse.ServingStatus
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


async def probe_grpc(host: str, port: int, service: str, timeout: float) -> Outcome:
    """Healthy if the server says SERVING. Unencrypted, as the kubelet's. Raises ProbeError without grpcio."""
    grpc = _grpcio()
    address = endpoint(host, port)
    options = [("grpc.primary_user_agent", f"kube-probe/{USER_AGENT_VERSION}"), ("grpc.enable_http_proxy", 0)]
    connected = False
    status = ""
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        check = channel.unary_unary(_METHOD, request_serializer=_request, response_deserializer=_status)
        with anyio.move_on_after(timeout) as scope:
            try:
                # As the kubelet, which goes on connecting until its time is over.
                await channel.channel_ready()
                connected = True
                status = await check(service)
            except grpc.aio.AioRpcError as error:
                return Outcome(Verdict.FAILURE, _failure(grpc, error))
            except anyio.get_cancelled_exc_class():
                # grpcio raises one of its own, which the scope that was cancelled would not know again.
                await anyio.lowlevel.checkpoint_if_cancelled()
                raise
    if scope.cancelled_caught:
        text = f'timeout: failed to connect service "{address}" within {duration(timeout)}: context deadline exceeded'
        if connected:
            text = f"timeout: health rpc did not complete within {duration(timeout)}"
        return Outcome(Verdict.FAILURE, text)
    if status == "SERVING":
        return Outcome(Verdict.SUCCESS, "service healthy")
    return Outcome(Verdict.FAILURE, f'service unhealthy (responded with "{status}")')


def _grpcio() -> ModuleType:
    try:
        import grpc  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import grpc.aio  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        text = "a grpc probe needs the Python package grpcio, which is not installed here: pip install 'podlite[cri]'"
        raise ProbeError(text) from None
    module: ModuleType = grpc
    return module


def _failure(grpc: Any, error: Any) -> str:
    code = error.code()
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return (
            f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {error.details()}"
        )
    name = "".join(part.capitalize() for part in code.name.split("_"))
    return f"error: health rpc probe failed: rpc error: code = {name} desc = {error.details()}"


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1 is the name of the service."""
    name = service.encode()
    if not name:
        return b""
    length, size = bytearray(), len(name)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x0a" + bytes(length) + name


def _status(data: bytes) -> str:
    """HealthCheckResponse: field 1 is the status, as a number below 128; left out it is the first."""
    number = data[1] if len(data) >= 2 and data[0] == 0x08 else 0
    return _STATUSES[number] if number < len(_STATUSES) else str(number)
