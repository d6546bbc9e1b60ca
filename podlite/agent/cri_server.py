"""`podlite cri`, put together: the runtime, what an earlier server left, the streaming server and the gRPC server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread

from podlite import log
from podlite.agent.node import NodeOptions, has_records, make_networks, namespace_threads
from podlite.errors import UsageError, explain
from podlite.rpc.server import serve
from podlite.rpc.streaming.server import open_streaming
from podlite.runtime.service import Runtime

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched

KEEPER = "cri"


class ServerOptions(msgspec.Struct, kw_only=True):
    """Where to listen. Port 0 is one that is free; with a certificate the streams are encrypted."""

    listen: str
    streaming_address: str = "127.0.0.1"
    streaming_port: int = 0
    certificate: str = ""
    key: str = ""


@asynccontextmanager
async def open_cri(
    options: NodeOptions, server: ServerOptions, launched: Launched | None = None
) -> AsyncIterator[Runtime]:
    """Serves until the block is left; its pods live on, and the next server takes them over. Raises PodliteError."""
    tls = _tls(server)
    networks = make_networks(options)
    runtime = Runtime(
        options.layout,
        network=networks,
        namespace_threads=namespace_threads(options),
        many=True,
        warm_pool=options.warm_pool,
        launched=launched,
        adoptable=True,
        keeper=KEEPER,
        foreign_cgroups=True,
    )
    async with runtime:
        adoption = await runtime.adopt()
        if adoption.taken:
            log.info("sandboxes of an earlier server are taken over", count=len(adoption.taken))
        if has_records(options.layout):
            from podlite.agent.orphans import reap_orphans

            await to_thread.run_sync(reap_orphans, options, networks, runtime.cgroups)
        try:
            streams = open_streaming(runtime, host=server.streaming_address, port=server.streaming_port, tls=tls)
            async with streams as streaming, serve(runtime, runtime.images, server.listen, streaming):
                yield runtime
        except OSError as error:
            address = f"{server.streaming_address}:{server.streaming_port}"
            raise UsageError(f"streams cannot be served at {address}: {explain(error)}") from error


def _tls(server: ServerOptions) -> ssl.SSLContext | None:
    if not server.certificate and not server.key:
        return None
    if not (server.certificate and server.key):
        raise UsageError("a certificate needs its key, and a key its certificate")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(server.certificate, server.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificate {server.certificate} cannot be used: {explain(error)}") from error
    return context
