"""The API for commands: the agent's, or, where none runs, the same one made here for as long as it is needed.

Without an agent it has what the run directory has: the pods of foreground runs, which can be listed, watched, waited
for and deleted. Nothing can be created.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from podlite.agent.client import Client, NoAgentError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET = "podlite.sock"
_START_SECONDS = 20.0


def agent_socket(run_dir: str) -> str:
    """Where an agent with this run directory serves its API."""
    return f"{run_dir}/{SOCKET}"


@contextmanager
def open_client(run_dir: str) -> Iterator[Client]:
    """A client of the agent's API, or of one made here. Raises PodliteError."""
    with Client(agent_socket(run_dir)) as client:
        try:
            client.request("GET", "/healthz")
        except NoAgentError:
            client.close()
        else:
            yield client
            return
    with _local_server(run_dir) as path, Client(path) as client:
        yield client


@contextmanager
def _local_server(run_dir: str) -> Iterator[str]:
    """Serves the run directory's pods from a thread of this process; the socket's path."""
    import anyio

    with tempfile.TemporaryDirectory(prefix="podlite-") as directory:
        path = f"{directory}/{SOCKET}"
        started = threading.Event()
        stops: list[anyio.Event] = []
        portal: list[anyio.from_thread.BlockingPortal] = []
        failures: list[BaseException] = []

        async def serve() -> None:
            from podlite.agent.api.app import make_app
            from podlite.agent.api.server import listen, serve_http
            from podlite.agent.api.state import ApiState

            state = ApiState(f"{run_dir}/pods")
            stop = anyio.Event()
            async with anyio.from_thread.BlockingPortal() as door, anyio.create_task_group() as tasks:
                await tasks.start(state.follow)
                async with serve_http(make_app(state), listen(path)):
                    stops.append(stop)
                    portal.append(door)
                    started.set()
                    await stop.wait()
                    state.close()
                tasks.cancel_scope.cancel()

        def run() -> None:
            try:
                anyio.run(serve)
            except BaseException as error:
                failures.append(error)
            finally:
                started.set()

        thread = threading.Thread(target=run, name="podlite api", daemon=True)
        thread.start()
        started.wait(_START_SECONDS)
        if failures or not stops:
            raise NoAgentError(f"the pods of {run_dir} cannot be shown") from (failures[0] if failures else None)
        try:
            yield path
        finally:
            portal[0].start_task_soon(stops[0].set)
            thread.join(_START_SECONDS)


def runs_here(run_dir: str) -> bool:
    """Whether an agent answers. Blocking."""
    if not os.path.exists(agent_socket(run_dir)):
        return False
    with Client(agent_socket(run_dir), timeout=5) as client:
        try:
            client.request("GET", "/healthz")
        except NoAgentError:
            return False
    return True
