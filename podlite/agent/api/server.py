"""The API's HTTP server: Starlette's application on uvicorn, on a Unix socket that only its owner may use.

Of the kept servers uvicorn with h11 and wsproto is the cheapest to have (50 ms of import and 7 MB, of which Starlette
has 30 ms and 5 MB; hypercorn costs 60 ms alone), and both parsers are used elsewhere in podlite.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import anyio
import uvicorn
from anyio import to_thread

from podlite.agent.api.app import make_app
from podlite.agent.api.metrics import Metrics
from podlite.agent.api.state import ApiState
from podlite.errors import PodliteError, explain
from podlite.linux import unix_sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.applications import Starlette

    from podlite.agent.controller import PodController
    from podlite.agent.node import Node

# Whoever still has a request under way when the agent ends has this long.
_GOODBYE_SECONDS = 2
_BACKLOG = 512


class _Server(uvicorn.Server):
    """Leaves signals to the agent."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_http(app: Starlette, sock: socket.socket) -> AsyncIterator[None]:
    """Serves an application on a listening socket; leaving answers what is under way, for a short time."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="wsproto",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
        # Idle connections of clients that keep them.
        timeout_keep_alive=75,
        ws_max_size=4 << 20,
    )
    server = _Server(config)

    async def serve() -> None:
        await server.serve(sockets=[sock])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            yield
        finally:
            server.should_exit = True
            tasks.cancel_scope.deadline = anyio.current_time() + _GOODBYE_SECONDS + 2


@contextlib.asynccontextmanager
async def serve_api(node: Node, controller: PodController, path: str) -> AsyncIterator[ApiState]:
    """Serves the agent's API while the context is open. Raises PodliteError if the socket cannot be made."""
    metrics = Metrics(node)
    state = ApiState(node.options.layout.pods_dir, node, controller)
    sock = await to_thread.run_sync(listen, path)
    async with anyio.create_task_group() as tasks:
        await tasks.start(state.follow)
        metrics.listen()
        try:
            async with serve_http(make_app(state, metrics), sock):
                try:
                    yield state
                finally:
                    # Nobody new: a client that finds no socket knows that no agent runs.
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
                    state.close()
        finally:
            metrics.close()
            tasks.cancel_scope.cancel()


def listen(path: str) -> socket.socket:
    """A listening Unix socket, 0600; one that a killed agent left is replaced. Blocking. Raises PodliteError.

    The caller holds the agent's lock: nobody else serves there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        unix_sockets.listen(sock, path, _BACKLOG)
        sock.setblocking(False)
        return sock
    except OSError as error:
        sock.close()
        raise PodliteError(f"the API's socket {path} cannot be made: {explain(error)}") from error
