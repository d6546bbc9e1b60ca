"""podlite's CRI server, and a gRPC client on its socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import grpc.aio
import pytest

from podlite.rpc.server import serve
from podlite.rpc.streaming.server import StreamingServer, open_streaming
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.support.cri_wire import Client


@pytest.fixture(scope="session", autouse=True)
def grpc_aio() -> None:
    """grpc.aio starts a thread with its first object, which then stays: not one of a test.

    In a loop, for it takes the thread's, of which there is none after any asyncio.run().
    """

    async def initialize() -> None:
        grpc.aio.init_grpc_aio()

    asyncio.run(initialize())


@pytest.fixture
async def streaming(runtime: Runtime) -> AsyncIterator[StreamingServer]:
    async with open_streaming(runtime) as server:
        yield server


@pytest.fixture
async def socket_path(
    runtime: Runtime, streaming: StreamingServer, layout: Layout, anyio_backend: str
) -> AsyncIterator[str]:
    """The socket of a server in front of the test's runtime."""
    async with serve(runtime, runtime.images, f"unix://{layout.run_dir}/cri.sock", streaming) as path:
        yield path


@pytest.fixture
async def client(socket_path: str) -> AsyncIterator[Client]:
    made = Client(socket_path)
    yield made
    with anyio.CancelScope(shield=True):
        await made.close()
