"""What shims report, and what comes of it: containers that have ended, shims that have, and what guests ask for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from podlite import log
from podlite.linux.cgroups import CgroupError
from podlite.runtime.shim_client import ShimClient
from podlite.runtime.store import EXITED, RUNNING, STARTING, UNKNOWN
from podlite.steps import elapsed

if TYPE_CHECKING:
    import socket

    from podlite.runtime.service import Runtime
    from podlite.runtime.store import Container, Sandbox


def new_shim(runtime: Runtime, sandbox: Sandbox, sock: socket.socket) -> ShimClient:
    """The handle of a sandbox's shim, whose reports come here; it owns the connection."""
    return ShimClient(
        sock,
        ids=sandbox.ids,
        on_exited=lambda message: shim_reported_exit(runtime, message),
        # Somebody else (`podlite rm`, `debug`) wants something of the pod; whoever runs it decides how.
        on_delete=lambda grace: runtime.on_deletion_requested(sandbox, grace),
        on_debug=lambda container: runtime.on_debug_requested(sandbox, container),
        on_lost=lambda: shim_lost(runtime, sandbox),
    )


def shim_reported_exit(runtime: Runtime, message: dict[str, Any]) -> None:
    """A container's first process has ended."""
    container = runtime.store.containers.get(message["container"])
    if container is None:
        return
    if container.state == STARTING:
        container.early_exit = message
    elif container.state == RUNNING:
        container_exited(runtime, container, message)


def container_exited(runtime: Runtime, container: Container, message: dict[str, Any]) -> None:
    """Takes a running container's exit into its status."""
    if container.state != RUNNING:
        return
    container.exit_code = message["code"]
    container.finished_at = message["finished_at"]
    container.reason = "OOMKilled" if message["oom"] else "Completed" if message["code"] == 0 else "Error"
    elapsed("container.run", container.exec_ns, time.monotonic_ns(), **container.ids)
    container.transition(EXITED)
    runtime.events.stopped(container)


def shim_lost(runtime: Runtime, sandbox: Sandbox) -> None:
    """The shim has ended: as asked, or it was killed, and its containers and namespaces are gone with it."""
    if runtime.leaving:
        return  # it is only that we do not talk to it any more
    was_ready, sandbox.ready = sandbox.ready, False
    for container in sandbox.containers.values():
        if container.state in (STARTING, RUNNING):
            container.exit_code = 137
            container.finished_at = time.time_ns()
            container.reason = "Error" if sandbox.stopping else "ContainerStatusUnknown"
            if not sandbox.stopping:
                container.message = "the pod's shim was killed, and its containers with it"
            container.transition(EXITED if container.state == RUNNING else UNKNOWN)
            runtime.events.stopped(container)
    if not sandbox.stopping:
        # The kernel has ended the first processes with it, and with those all that had a pid namespace of its own.
        runtime.tasks.start_soon(_kill_orphans, runtime, [each.cgroup for each in sandbox.containers.values()])
    if was_ready and not sandbox.stopping:
        log.warning("the pod's shim has ended; the sandbox is not ready any more", **sandbox.ids)
        runtime.events.sandbox_stopped(sandbox)


async def _kill_orphans(runtime: Runtime, paths: list[str]) -> None:
    if runtime.cgroups is None:
        return
    for path in filter(None, paths):
        try:
            await to_thread.run_sync(runtime.cgroups.kill, path)
        except CgroupError as error:
            log.warning("processes of a container whose shim was killed may still run", why=str(error))
