"""podlite's CRI server, and a gRPC client on its socket; and runtimes for podlite to drive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import anyio
import grpc.aio
import pytest

from podlite.rpc.client import RemoteRuntime
from podlite.rpc.server import serve
from podlite.rpc.streaming.server import StreamingServer, open_streaming
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.support import containerd
from tests.support.containers import HOST_IMAGE
from tests.support.cri_server import own_server
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


@pytest.fixture(scope="session")
def containerd_socket() -> Iterator[str]:
    """Empty where it is not installed."""
    if containerd.missing():
        yield ""
        return
    with containerd.containerd() as socket:
        yield socket


@pytest.fixture(params=["podlite", "containerd"])
async def remote(
    request: pytest.FixtureRequest, runtime: Runtime, layout: Layout, containerd_socket: str
) -> AsyncIterator[RemoteRuntime]:
    """A runtime behind its socket; `image` is one that it has, with a shell."""
    if request.param == "containerd":
        if not containerd_socket:
            pytest.skip(f"not installed: {containerd.missing()}")
        async with RemoteRuntime(containerd_socket) as opened:
            opened.image = containerd.IMAGE  # type: ignore[attr-defined]
            yield opened
            # What a test that failed has left: it would hold on to the cgroups of all that follow.
            for each in await opened.list_pod_sandbox():
                await opened.stop_pod_sandbox(each.id)
                await opened.remove_pod_sandbox(each.id)
        return
    async with own_server(layout, runtime) as path, RemoteRuntime(path) as opened:
        opened.image = HOST_IMAGE  # type: ignore[attr-defined]
        yield opened
