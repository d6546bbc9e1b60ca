"""RunPodSandbox: record, then network namespace, network and shim; ready only when all of it is there."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio

from podlite import blocking
from podlite.cri.errors import CRIError, InvalidArgumentError
from podlite.cri.types import NamespaceMode, PodSandboxConfig
from podlite.errors import first_error
from podlite.linux import netns, sysctl
from podlite.linux.fs import make_directory
from podlite.linux.netlink import NetlinkSocket
from podlite.runtime.journal import Journal
from podlite.runtime.layout import netns_name
from podlite.runtime.locks import FileLock
from podlite.runtime.names import new_id
from podlite.runtime.network.interface import PodNetwork, PodNetworkRequest, PodNetworkStatus
from podlite.runtime.network.none import HostNetwork
from podlite.runtime.sandbox.files import write_files, write_spare_files
from podlite.runtime.sandbox.remove import remove_directory
from podlite.runtime.sandbox.rules import check_sandbox, is_network
from podlite.runtime.sandbox.user_namespace import host_root, id_maps
from podlite.runtime.shim_reports import new_shim
from podlite.runtime.store import Sandbox
from podlite.runtime.undo import Undo
from podlite.steps import listening, step

if TYPE_CHECKING:
    from concurrent.futures import Future

    from podlite.runtime.service import Runtime
    from podlite.runtime.spawner import ForkRequest

LOCK = "lock"
SHM_SIZE = 64 << 20
# The runtime handlers that there are: podlite's own is the default one, and has a name.
HANDLERS = ("", "podlite")


async def run_pod_sandbox(runtime: Runtime, config: PodSandboxConfig, runtime_handler: str) -> str:
    """See RuntimeService.run_pod_sandbox."""
    check_sandbox(config)
    if runtime_handler not in HANDLERS:
        raise InvalidArgumentError(
            f'no runtime for "{runtime_handler}" is configured', hint=f"the only other one is {HANDLERS[-1]}"
        )
    sandbox = await runtime.pool.claim(config, runtime_handler) if runtime.pool is not None else None
    if sandbox is None:
        sandbox = await make_sandbox(runtime, config, runtime_handler)
    sandbox.ready = True
    runtime.store.sandboxes[sandbox.id] = sandbox
    runtime.events.sandbox_ready(sandbox)
    return sandbox.id


async def make_sandbox(
    runtime: Runtime, config: PodSandboxConfig, runtime_handler: str, *, spare: bool = False
) -> Sandbox:
    """A whole sandbox, not yet ready and not in the store but for its name.

    Where pods are adoptable its shim serves on without us, but not that of a `spare` one, which is nobody's yet.
    Failed or cancelled, nothing is left. Raises CRIError, OSError.
    """
    sandbox = _new_sandbox(runtime, config)
    sandbox.runtime_handler = runtime_handler
    sandbox.spare = spare
    stay = runtime.adoptable and not spare
    network = runtime.network_for(sandbox)
    if network.name == HostNetwork.name:
        sandbox.netns_path = ""
    with step("sandbox.run", **sandbox.ids):
        async with Undo(f"running the sandbox of pod {sandbox.pod}") as undo:
            runtime.store.reserve_sandbox(config, sandbox.id)
            undo.push("name", lambda: _release(runtime, sandbox))
            fork = await runtime.spawner.prepare(_shim_config(runtime, sandbox))
            # Each pushed before its step, for a step that failed may still have made something. In reverse: the
            # shim, then what the thread made, and the record last, unless something could not be taken back.
            undo.push("directory", lambda: _remove_directory(runtime, sandbox, undo))
            undo.push("network", lambda: runtime.threads.run(lambda own: remove_network(network, sandbox)))
            undo.push("shim", lambda: _end_shim(sandbox, fork))
            status = await _make(runtime, sandbox, network, fork, stay=stay)
            await _hand_over_network(sandbox, stay=stay)
            undo.commit()
        sandbox.ips = status.ips
    return sandbox


def _sysctls(sandbox: Sandbox) -> dict[str, str]:
    linux = sandbox.config.linux
    return linux.sysctls if linux is not None else {}


def _new_sandbox(runtime: Runtime, config: PodSandboxConfig) -> Sandbox:
    sandbox_id = new_id()
    name = config.metadata.uid
    if config.metadata.attempt:
        # An earlier attempt's sandbox may still be there, waiting to be removed.
        name = f"{name}.{config.metadata.attempt}"
    sandbox = Sandbox(sandbox_id, config, time.time_ns(), f"{runtime.layout.pods_dir}/{name}")
    if sandbox.namespaces.network != NamespaceMode.NODE:
        sandbox.netns_path = f"{runtime.layout.netns_dir}/{netns_name(sandbox_id)}"
    return sandbox


async def _release(runtime: Runtime, sandbox: Sandbox) -> None:
    runtime.store.release_sandbox(sandbox.config, sandbox.id)


def _shim_config(runtime: Runtime, sandbox: Sandbox) -> dict[str, object]:
    options = sandbox.namespaces
    ids = id_maps(sandbox)
    return {
        **sandbox.ids,
        "hostname": sandbox.config.hostname,
        "ids": ids,
        "ipc": options.ipc != NamespaceMode.NODE,
        # A pod on the host's network has the host's name too (CRI: an empty hostname).
        "uts": options.network != NamespaceMode.NODE,
        "shm_size": SHM_SIZE,
        "sysctls": {name: value for name, value in _sysctls(sandbox).items() if ids or not is_network(name)},
        # Until the sandbox is ready nobody would find this shim again.
        "orphan": "end",
        "trace": listening(),
        "pause_cgroups": runtime.pause_cgroups(sandbox),
        "crash_file": f"{sandbox.directory}/shim.crash",
    }


async def _make(
    runtime: Runtime, sandbox: Sandbox, network: PodNetwork, fork: ForkRequest, *, stay: bool
) -> PodNetworkStatus:
    """The namespaces and network on a namespace thread, and beside it the shim, from the spawner."""
    status = PodNetworkStatus()
    header = {"stay": stay, "keeper": runtime.keeper}
    # Of a pod with users of its own the network namespace belongs to these: its shim makes it.
    holder: Future[int] | None = None
    if host_root(sandbox) is not None:
        from concurrent.futures import Future

        holder = Future()

    async def namespaces_and_network() -> None:
        nonlocal status
        # Some networks wait for others' programs, and can be told not to.
        interrupt = getattr(network, "interrupt", None)
        status = await runtime.threads.run(
            lambda own_netns: _on_thread(sandbox, network, fork, holder, own_netns, header),
            interrupt=None if interrupt is None else partial(interrupt, sandbox.id),
        )

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(namespaces_and_network)
            try:
                pid = await _take_shim(runtime, sandbox, fork)
                if holder is not None:
                    holder.set_result(pid)
            finally:
                if holder is not None and not holder.done():
                    holder.set_exception(CRIError("the pod's shim was not ready"))
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    return status


async def _take_shim(runtime: Runtime, sandbox: Sandbox, fork: ForkRequest) -> int:
    """The pid of the process that holds the network namespace, or 0."""
    forked = await fork.result()
    shim = new_shim(runtime, sandbox, forked.channel)
    shim.pid = forked.pid
    shim.pidfd = forked.pidfd
    sandbox.shim = shim
    shim.start_serving(runtime.tasks)
    return await shim.wait_ready()


def _on_thread(
    sandbox: Sandbox,
    network: PodNetwork,
    fork: ForkRequest,
    holder: Future[int] | None,
    own_netns: int,
    header: dict[str, object],
) -> PodNetworkStatus:
    """Everything of a sandbox that blocks, in one go on a namespace thread: record first, then make."""
    request = PodNetworkRequest(
        sandbox_id=sandbox.id,
        pod_namespace=sandbox.config.metadata.namespace,
        pod_name=sandbox.config.metadata.name,
        pod_uid=sandbox.config.metadata.uid,
        netns_path=sandbox.netns_path,
        port_mappings=sandbox.config.port_mappings,
        annotations=sandbox.config.annotations,
        dns=sandbox.config.dns_config,
        cgroup_path=sandbox.config.linux.cgroup_parent if sandbox.config.linux is not None else "",
    )
    with step("sandbox.record", **sandbox.ids):
        directory_fd = _make_directory(sandbox)
        try:
            sandbox.network = network.plan(request)
            journal = Journal.create(directory_fd, {**_header(sandbox), **header})
        except BaseException:
            os.close(directory_fd)
            raise
    try:
        # The spawner forks while this thread makes the namespace.
        fork.send(directory_fd)
        with step("sandbox.files", **sandbox.ids):
            if sandbox.spare:
                write_spare_files(directory_fd)
            else:
                write_files(sandbox, directory_fd)
        status = _make_network(sandbox, network, request, holder, own_netns)
        with step("sandbox.confirm", **sandbox.ids):
            journal.append(
                {"confirmed": True, "ips": status.ips, "interfaces": status.interfaces, "owner": os.getpid()}
            )
        return status
    finally:
        journal.close()
        os.close(directory_fd)


def _make_directory(sandbox: Sandbox) -> int:
    """The sandbox's directory, locked. The kubelet side may have made it for a file of its own."""
    make_directory(sandbox.directory, 0o700)
    sandbox.lock = FileLock(f"{sandbox.directory}/{LOCK}")
    if not sandbox.lock.acquire(wait=False):
        sandbox.lock = None
        raise CRIError(f"a pod with the uid {sandbox.config.metadata.uid} is run by another podlite on this machine")
    return os.open(sandbox.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _header(sandbox: Sandbox) -> dict[str, object]:
    return {
        "sandbox": sandbox.id,
        "config": sandbox.config,
        "created_at": sandbox.created_at,
        "runtime_handler": sandbox.runtime_handler,
        "netns": sandbox.netns_path,
        "network": sandbox.network,
    }


def _make_network(
    sandbox: Sandbox, network: PodNetwork, request: PodNetworkRequest, holder: Future[int] | None, own_netns: int
) -> PodNetworkStatus:
    if not sandbox.netns_path:
        return network.setup_pod_network(request, sandbox.network or {}, None)
    sysctls = {name: value for name, value in _sysctls(sandbox).items() if is_network(name)}

    def in_namespace() -> NetlinkSocket:
        if sysctls and holder is None:
            sysctl.write_all(sysctls)
        # A socket stays in the namespace in which it was opened, so this one can configure it from outside.
        return NetlinkSocket()

    with step("netns.create", **sandbox.ids):
        if holder is None:
            inside = netns.create(sandbox.netns_path, own_netns, in_namespace)
        else:
            netns.pin_process(sandbox.netns_path, holder.result())
            sandbox.netns_fd = os.open(sandbox.netns_path, os.O_RDONLY | os.O_CLOEXEC)
            inside = netns.run_inside(sandbox.netns_fd, own_netns, in_namespace)
    try:
        if sandbox.netns_fd < 0:
            sandbox.netns_fd = os.open(sandbox.netns_path, os.O_RDONLY | os.O_CLOEXEC)
        request.netns_fd = sandbox.netns_fd
        return network.setup_pod_network(request, sandbox.network or {}, inside)
    finally:
        inside.close()


async def _hand_over_network(sandbox: Sandbox, *, stay: bool) -> None:
    """From here on the shim has all that it needs, and serves on without us where that is wanted."""
    namespaces = {"net": sandbox.netns_fd} if sandbox.netns_fd >= 0 else {}
    if not namespaces and not stay:
        return
    assert sandbox.shim is not None
    try:
        await sandbox.shim.join(namespaces, stay=stay)
    finally:
        sandbox.close_netns()


def remove_network(network: PodNetwork, sandbox: Sandbox) -> None:
    """Takes back the network and the namespace of a sandbox; idempotent. Blocking, on a namespace thread."""
    sandbox.close_netns()
    sandbox.close_userns()
    if sandbox.network is not None:
        network.teardown_pod_network(sandbox.network)
    if sandbox.netns_path:
        with step("netns.remove", **sandbox.ids):
            netns.remove(sandbox.netns_path)


async def _end_shim(sandbox: Sandbox, fork: ForkRequest) -> None:
    if sandbox.shim is None:
        # Not there, or forked a moment ago: with its channel closed it ends by itself, but not before it has made
        # its socket, which would lie in the directory for ever.
        if not await fork.ended():
            raise CRIError("the pod's shim does not end")
        return
    if not await sandbox.shim.shutdown():
        raise CRIError("the pod's shim does not end")
    sandbox.shim.close()


async def _remove_directory(runtime: Runtime, sandbox: Sandbox, undo: Undo) -> None:
    if undo.failed:
        # The record of what could not be taken back has to stay: a reaper tries again.
        if sandbox.lock is not None:
            sandbox.lock.release()
        return
    await blocking.run(remove_directory, sandbox)
