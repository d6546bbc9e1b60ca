"""podlite's own CRI server, for podlite to drive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from podlite.rpc.server import serve
from podlite.rpc.streaming.server import open_streaming
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime


@asynccontextmanager
async def own_server(layout: Layout, runtime: Runtime) -> AsyncIterator[str]:
    """Its socket."""
    async with (
        open_streaming(runtime) as streaming,
        serve(runtime, runtime.images, f"{layout.run_dir}/cri.sock", streaming) as path,
    ):
        yield path
