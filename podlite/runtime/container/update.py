"""UpdateContainerResources: new limits for a container that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread

from podlite import log
from podlite.cri.errors import CRIError, FailedPreconditionError
from podlite.cri.types import LinuxContainerResources
from podlite.errors import explain
from podlite.linux.cgroups import CgroupError
from podlite.runtime.container.create import as_limits
from podlite.runtime.store import CREATED, RUNNING, Container

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime

_NOT_ALONE = (
    ("cpu_quota", "cpu_period"),
    ("cpu_period", "cpu_quota"),
    ("memory_swap_limit_in_bytes", "memory_limit_in_bytes"),
)


async def update_container_resources(runtime: Runtime, container_id: str, linux: LinuxContainerResources) -> None:
    """See RuntimeService.update_container_resources. What `linux` does not specify stays as it is."""
    container = runtime.store.container(container_id)
    if container.state not in (CREATED, RUNNING):
        raise FailedPreconditionError(f"container {container.id} is {container.state}: it has no limits to change")
    if runtime.cgroups is None:
        raise FailedPreconditionError("containers run without limits here, for there are no cgroups to use")
    cgroups = runtime.cgroups
    old = container.resources or LinuxContainerResources()
    limits = as_limits(completed(old, linux))
    merged = _merged(old, linux)

    def change() -> list[str]:
        warnings = cgroups.set_resources(container.cgroup, limits)
        # After: who adopts the container is not to report limits that it has not got.
        _record(runtime, container, merged)
        return warnings

    try:
        warnings = await to_thread.run_sync(change)
    except CgroupError as error:
        raise CRIError(f"the limits of container {container.config.metadata.name}: {error}") from error
    for warning in warnings:
        log.warning(warning, **container.ids)
    container.resources = merged


def _record(runtime: Runtime, container: Container, limits: LinuxContainerResources) -> None:
    try:
        with runtime.journal(container.sandbox) as journal:
            journal.append({"limited": container.id, "resources": limits})
    except OSError as error:
        log.warning("a container's new limits cannot be written down", why=explain(error), **container.ids)


def completed(old: LinuxContainerResources, new: LinuxContainerResources) -> LinuxContainerResources:
    """The new limits, with the old one beside each that cannot be set by itself; pure.

    In cgroup v2 quota and period are one file (cpu.max), and the limit of memory and swap together is none without
    that of memory (memory.swap.max is what is left).
    """
    result = msgspec.structs.replace(new)
    for given, needed in _NOT_ALONE:
        if getattr(new, given) and not getattr(new, needed):
            setattr(result, needed, getattr(old, needed))
    return result


def _merged(old: LinuxContainerResources, new: LinuxContainerResources) -> LinuxContainerResources:
    """The new limits where they are specified, the old ones elsewhere. Pure."""
    changes = {name: value for name in new.__struct_fields__ if (value := getattr(new, name))}
    return msgspec.structs.replace(old, **changes)
