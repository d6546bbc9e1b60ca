"""grpc probes against a real server, which is grpcio's.

grpc/doc/health-checking.md; texts as in pkg/probe/grpc/grpc.go, Kubernetes 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from podlite.kubelet.prober.grpc_probe import probe_grpc
from podlite.kubelet.prober.outcome import Outcome, Verdict

pytestmark = pytest.mark.anyio

LONG = "a.name.of.more.than.127.characters." * 5


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """grpcio has one completion queue for all event loops, and does not get over the end of one of them."""
    yield


@asynccontextmanager
async def serving(answers: dict[str, Any] | None) -> AsyncIterator[int]:
    """The health service with these answers by service: bytes, or a status code to end with. None: no such service."""
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("grpc.aio")

    async def check(name: str, context: Any) -> bytes:
        answer = (answers or {})[name]
        if isinstance(answer, bytes):
            return answer
        if answer is None:
            await asyncio.sleep(3600)
        await context.abort(answer, "because")
        raise AssertionError

    def read(data: bytes) -> str:
        # Field 1, a string; its length in one or two bytes.
        if not data:
            return ""
        assert data[0] == 0x0A
        return data[2 if data[1] < 0x80 else 3 :].decode()

    server = grpc.aio.server()
    if answers is not None:
        handler = grpc.unary_unary_rpc_method_handler(check, request_deserializer=read)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
        )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_statuses() -> None:
    answers = {"": b"\x08\x01", "down": b"\x08\x02", "odd": b"", LONG: b"\x08\x01", "who": b"\x08\x03"}
    async with serving(answers) as port:
        for service, expected in (
            ("", Outcome(Verdict.SUCCESS, "service healthy")),
            (LONG, Outcome(Verdict.SUCCESS, "service healthy")),
            ("down", Outcome(Verdict.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')),
            ("odd", Outcome(Verdict.FAILURE, 'service unhealthy (responded with "UNKNOWN")')),
            ("who", Outcome(Verdict.FAILURE, 'service unhealthy (responded with "SERVICE_UNKNOWN")')),
        ):
            assert await probe_grpc("127.0.0.1", port, service, 20) == expected


async def test_failures() -> None:
    grpc = pytest.importorskip("grpc")
    async with serving({"": None, "none": grpc.StatusCode.NOT_FOUND}) as port:
        assert await probe_grpc("127.0.0.1", port, "", 0.3) == Outcome(
            Verdict.FAILURE, "timeout: health rpc did not complete within 300ms"
        )
        assert await probe_grpc("127.0.0.1", port, "none", 20) == Outcome(
            Verdict.FAILURE, "error: health rpc probe failed: rpc error: code = NotFound desc = because"
        )
    async with serving(None) as port:
        found = await probe_grpc("127.0.0.1", port, "", 20)
        assert found.verdict is Verdict.FAILURE
        assert found.output.startswith(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
        )


async def test_nobody_listens() -> None:
    async with serving({}) as port:
        pass
    # The kubelet goes on connecting until its time is over.
    assert await probe_grpc("127.0.0.1", port, "", 0.3) == Outcome(
        Verdict.FAILURE,
        f'timeout: failed to connect service "127.0.0.1:{port}" within 300ms: context deadline exceeded',
    )


async def test_a_probe_that_is_cancelled_takes_nobody_with_it() -> None:
    async with serving({"": None}) as port, anyio.create_task_group() as tasks:
        ended = anyio.Event()
        scope = anyio.CancelScope()

        async def probe() -> None:
            with scope:
                await probe_grpc("127.0.0.1", port, "", 3600)
            ended.set()

        tasks.start_soon(probe)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        with anyio.fail_after(60):
            await ended.wait()
        assert scope.cancelled_caught
        assert not tasks.cancel_scope.cancel_called


async def test_a_server_that_does_not_speak_http2() -> None:
    async def answer(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        assert await probe_grpc("127.0.0.1", port, "", 0.3) == Outcome(
            Verdict.FAILURE,
            f'timeout: failed to connect service "127.0.0.1:{port}" within 300ms: context deadline exceeded',
        )
        tasks.cancel_scope.cancel()
