"""RemoveContainer: a running one is killed; then cgroup, writable layer and record go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite import blocking
from podlite.cri.errors import CRIError, UnavailableError
from podlite.errors import explain
from podlite.linux.cgroups import CgroupError
from podlite.runtime.container.ahead import discard
from podlite.runtime.container.create import remove_blocking
from podlite.runtime.container.stop import kill
from podlite.runtime.store import RUNNING, STARTING, Container
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.runtime.service import Runtime
    from podlite.runtime.store import Sandbox


async def remove_container(runtime: Runtime, container_id: str) -> None:
    """See RuntimeService.remove_container."""
    container = runtime.store.find_container(container_id)
    if container is None:
        return
    await remove(runtime, container)


async def remove(runtime: Runtime, container: Container) -> None:
    """Removes a container that the store knows; on a failure it stays known, for a later attempt."""
    async with container.busy:
        if not container.removed:
            await _remove(runtime, container)


async def _remove(runtime: Runtime, container: Container) -> None:
    container.removing = True
    with step("container.remove", **container.ids):
        try:
            if not _has_ended(container):
                await kill(container)
            await discard(container)
            await blocking.run(remove_blocking, runtime, container)
            await _forget(container)
        except (OSError, CgroupError) as error:
            container.removing = False
            raise _stays(container, error) from error
        except BaseException:
            container.removing = False
            raise
        _removed(runtime, container)


async def remove_all(runtime: Runtime, sandbox: Sandbox, finish: Callable[[], None]) -> None:
    """Removes the containers of a stopped sandbox, and then calls `finish`, all in one go on a worker thread.

    On a failure those that stay remain known. Raises CRIError, and what `finish` raises.
    """
    while True:
        each = next((each for each in sandbox.containers.values() if each.busy.locked() or not _has_ended(each)), None)
        if each is None:
            break
        await remove(runtime, each)
    containers = list(sandbox.containers.values())
    gone: list[Container] = []
    for each in containers:
        await each.busy.acquire()  # without waiting: nobody has it
        each.removing = True
    try:
        await blocking.run(_remove_all_blocking, runtime, containers, gone, finish)
    finally:
        for each in containers:
            if each in gone:
                _removed(runtime, each)
            else:
                each.removing = False
            each.busy.release()


def _remove_all_blocking(
    runtime: Runtime, containers: list[Container], gone: list[Container], finish: Callable[[], None]
) -> None:
    for container in containers:
        with step("container.remove", **container.ids):
            try:
                remove_blocking(runtime, container)
            except (OSError, CgroupError) as error:
                raise _stays(container, error) from error
        gone.append(container)
    finish()


def _has_ended(container: Container) -> bool:
    return container.state not in (RUNNING, STARTING)


def _stays(container: Container, error: Exception) -> CRIError:
    return CRIError(
        f"container {container.config.metadata.name} of pod {container.sandbox.pod} cannot be removed: {explain(error)}"
    )


def _removed(runtime: Runtime, container: Container) -> None:
    runtime.store.containers.pop(container.id, None)
    container.sandbox.containers.pop(container.id, None)
    runtime.store.release_container(container)
    container.removed = True
    runtime.events.deleted(container)


async def _forget(container: Container) -> None:
    shim = container.sandbox.shim
    if shim is not None and not shim.gone:
        try:
            await shim.forget(container.id)
        except UnavailableError:
            pass
