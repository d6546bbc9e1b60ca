"""A container's first process is forked as soon as it is created: see `podlite.runtime.shim.ahead`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite import steps
from podlite.cri.errors import UnavailableError
from podlite.cri.types import NamespaceMode
from podlite.runtime.container import mounts
from podlite.runtime.container.process import security_context
from podlite.runtime.sandbox.user_namespace import host_root

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime
    from podlite.runtime.store import Container

Message = dict[str, Any]


def place(container: Container) -> Message:
    """Where the container's first process belongs: what a preparation and a start have to say alike."""
    prepared = container.prepared
    assert prepared is not None
    resources = container.resources
    privileged = security_context(container.config).privileged
    return {
        "container": container.id,
        "ids": container.ids,
        "trace": steps.listening(),
        "cgroup": prepared.cgroup,
        "cgroups": prepared.cgroups,
        "oom_score_adj": resources.oom_score_adj if resources is not None else None,
        "new_cgroup_namespace": bool(prepared.cgroup or prepared.cgroups) and not privileged,
        "join": _namespaces(container),
        "pid_namespace": _pid_namespace(container),
    }


def kernel_view(runtime: Runtime, container: Container) -> dict[str, Any]:
    """What podlite.runtime.container.mounts.Machine has, but for the devices."""
    prepared, sandbox = container.prepared, container.sandbox
    assert prepared is not None
    context = security_context(container.config)
    added = context.capabilities is not None and bool(context.capabilities.add_capabilities)
    own_root = host_root(sandbox) is not None
    return {
        # With CAP_SYS_ADMIN it could make what it shares writable.
        "scratch": "" if context.privileged or added or own_root else runtime.scratch_path,
        "shm": "" if sandbox.namespaces.ipc == NamespaceMode.NODE else runtime.shm_path,
        "cgroups": runtime.cgroup_view(container, prepared),
        # The root of a user namespace makes no device nodes: it has the host's.
        "device_nodes": prepared.devices_limited and not own_root,
        "privileged": context.privileged,
        "terminal": container.config.tty,
    }


def prepare(runtime: Runtime, container: Container) -> None:
    """Has the pod's shim fork the container's first process, where it can; does not wait, never fails.

    The container is recorded, and its cgroups are there. Callable from any thread.
    """
    shim = container.sandbox.shim
    if shim is None or not shim.prepares or _pid_namespace(container) != "container":
        return
    config = container.config
    view = mounts.Machine(**kernel_view(runtime, container), devices=[])
    # A terminal is the shim's to make, and what devices there are is looked up at the start.
    left = (
        {"fs", "path", "names"}
        | (set() if config.tty else {"pts"})
        | (set() if config.devices or view.privileged else {"dev"})
    )
    operations = [each for each in mounts.kernel_mounts(view, mounts.taken_paths(config.mounts)) if each["op"] in left]
    container.ahead = shim.prepare({**place(container), "mounts": operations})


async def discard(container: Container) -> None:
    """Ends the process that waits for a start that will not come. Idempotent; never fails."""
    shim = container.sandbox.shim
    if not container.ahead or shim is None or shim.gone:
        return
    try:
        await shim.discard(container.id)
    except UnavailableError:
        pass
    container.ahead = False


def _namespaces(container: Container) -> list[str]:
    """Which of the pod's namespaces the container joins; those of the host it is in already."""
    options = security_context(container.config).namespace_options or container.sandbox.namespaces
    joined = ["user"]
    if options.network != NamespaceMode.NODE:
        joined += ["net", "uts"]
    if options.ipc != NamespaceMode.NODE:
        joined.append("ipc")
    return joined


def _pid_namespace(container: Container) -> str:
    options = security_context(container.config).namespace_options or container.sandbox.namespaces
    if options.pid == NamespaceMode.TARGET:
        return options.target_id
    return {NamespaceMode.POD: "pod", NamespaceMode.NODE: "host"}.get(options.pid, "container")
