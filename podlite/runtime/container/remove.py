"""RemoveContainer: a running one is killed; then cgroup, writable layer and record go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite import blocking
from podlite.cri.errors import CRIError, UnavailableError
from podlite.errors import explain
from podlite.linux.cgroups import CgroupError
from podlite.runtime.container.create import remove_blocking
from podlite.runtime.container.stop import kill
from podlite.runtime.store import RUNNING, STARTING, Container
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime


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
            if container.state in (RUNNING, STARTING):
                await kill(container)
            await blocking.run(remove_blocking, runtime, container)
            await _forget(container)
        except (OSError, CgroupError) as error:
            container.removing = False
            raise CRIError(
                f"container {container.config.metadata.name} of pod {container.sandbox.pod} cannot be removed: "
                f"{explain(error)}"
            ) from error
        except BaseException:
            container.removing = False
            raise
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
