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

from podlite import log
from podlite.agent.api.app import make_app
from podlite.agent.api.metrics import Metrics
from podlite.agent.api.state import ApiState
from podlite.errors import PodliteError, explain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

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


class HttpServer:
    """Serves an application on a listening socket, as a context manager; leaving it answers what is under way."""

    def __init__(self, app: Starlette, sock: socket.socket) -> None:
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
        self._server = _Server(config)
        self._sock = sock

    async def __aenter__(self) -> HttpServer:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._serve)
        return self

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._sock])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._server.should_exit = True
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GOODBYE_SECONDS + 2) as deadline:
            return await self._tasks.__aexit__(kind, error, traceback)
        if deadline.cancelled_caught:
            log.warning("the API's server does not end")
        return None


class ApiServer:
    """The agent's API, served while the context is open. Raises PodliteError if the socket cannot be made."""

    def __init__(self, node: Node, controller: PodController, path: str) -> None:
        self._path = path
        self.metrics = Metrics(node)
        self.state = ApiState(node.options.layout.pods_dir, node, controller)
        self._app = make_app(self.state, self.metrics)

    async def __aenter__(self) -> ApiServer:
        sock = await to_thread.run_sync(listen, self._path)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self.state.follow)
        self.metrics.listen()
        self._http = HttpServer(self._app, sock)
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Nobody new: a client that finds no socket knows that no agent runs.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self.state.close()
        await self._http.__aexit__(None, None, None)
        self.metrics.close()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)


def listen(path: str) -> socket.socket:
    """A listening Unix socket, 0600; one that a killed agent left is replaced. Blocking. Raises PodliteError.

    The caller holds the agent's lock: nobody else serves there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory = -1
    try:
        # By descriptor: a socket's path may have only 107 bytes.
        directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        address = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
        # Nobody may connect between bind and chmod.
        old = os.umask(0o177)
        try:
            sock.bind(address)
        finally:
            os.umask(old)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        return sock
    except OSError as error:
        sock.close()
        raise PodliteError(f"the API's socket {path} cannot be made: {explain(error)}") from error
    finally:
        if directory >= 0:
            os.close(directory)
