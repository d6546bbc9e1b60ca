"""podlite as a library: a sandbox with its own namespaces and network, and processes in it, in a few lines.

    import anyio, podlite

    async def main() -> None:
        async with podlite.open_runtime() as runtime:
            async with podlite.open_sandbox(runtime, "demo") as sandbox:
                result = await sandbox.run(["/bin/sh", "-c", "hostname; ip addr"])
                print(result.stdout.decode())

    anyio.run(main)

Leaving a block takes back everything that was made in it, also when it is left by an error or a cancellation.
`podlite run` is built on the same runtime; whole Pods are for `podlite.agent.node.open_node`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypedDict, Unpack

import anyio
import msgspec
from anyio import to_thread
from anyio.abc import ByteReceiveStream

from podlite.cri.services import ExecStream
from podlite.cri.types import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    KeyValue,
    LinuxContainerConfig,
    LinuxContainerResources,
    LinuxContainerSecurityContext,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    Mount,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
    PodSandboxMetadata,
    PortMapping,
)
from podlite.kubelet.security import READONLY_PATHS, masked_paths
from podlite.runtime.container.start import start_with_streams
from podlite.runtime.image.store import EMBEDDED_NAME
from podlite.runtime.layout import POD_CIDRS, Layout
from podlite.runtime.names import new_uid
from podlite.runtime.network.interface import PodNetwork
from podlite.runtime.network.networks import NetworkOptions, Networks
from podlite.runtime.service import Runtime
from podlite.runtime.store import Sandbox as StoredSandbox


@asynccontextmanager
async def open_runtime(
    layout: Layout | None = None,
    *,
    network: PodNetwork | str = "builtin",
    pod_cidrs: tuple[str, ...] = POD_CIDRS,
    cni_conf_dir: str = "",
    cni_bin_dirs: tuple[str, ...] = (),
) -> AsyncIterator[Runtime]:
    """podlite's runtime: starts the spawner, and on leaving ends every sandbox that is left, and the spawner.

    `network` is `builtin`, `cni`, `none` (a loopback device and nothing else), or an object of one's own. The CNI
    directories are empty for the usual ones. Needs root. Raises PodliteError.
    """
    layout = layout or Layout()
    networks = Networks(network, layout, NetworkOptions(pod_cidrs, cni_conf_dir, cni_bin_dirs))
    async with Runtime(layout, network=networks) as runtime:
        yield runtime


class Completed(msgspec.Struct, frozen=True):
    """What a process did. `code` is its exit code; 128 + N when signal N ended it."""

    code: int
    stdout: bytes
    stderr: bytes


class ProcessOptions(TypedDict, total=False):
    """What `Sandbox.start` takes beside its command, and `Sandbox.run` too."""

    image: str
    env: Mapping[str, str] | None
    cwd: str
    user: int | None
    mounts: Sequence[Mount]
    privileged: bool
    memory_limit: int


class Sandbox:
    """A pod sandbox: namespaces of its own, and processes in it, each in a container of its own.

    Made by `open_sandbox`; it belongs to the task that entered it, and any number of tasks may use it.
    """

    def __init__(self, runtime: Runtime, stored: StoredSandbox) -> None:
        self._runtime = runtime
        self._stored = stored
        self._count = 0

    @property
    def id(self) -> str:
        """The sandbox id, 64 hexadecimal digits."""
        return self._stored.id

    @property
    def ips(self) -> list[str]:
        """The pod's addresses, the primary one first; empty on the host's network or on none."""
        return list(self._stored.ips)

    @property
    def netns_path(self) -> str:
        """The pin of the network namespace, for `nsenter --net=PATH`; `ip netns` knows it by its last part."""
        return self._stored.netns_path

    async def start(
        self,
        argv: Sequence[str],
        *,
        image: str = EMBEDDED_NAME,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: int | None = None,
        mounts: Sequence[Mount] = (),
        stdin: bool = False,
        tty: bool = False,
        privileged: bool = False,
        memory_limit: int = 0,
    ) -> ExecStream:
        """Starts a process in a container of its own and returns its streams.

        Use the result as an async context manager: leaving it kills the process if it still runs and removes the
        container. `memory_limit` is in bytes. Raises StartError, CRIError.
        """
        self._count += 1
        config = ContainerConfig(
            metadata=ContainerMetadata(name=f"process-{self._count}"),
            image=ImageSpec(image=image),
            command=list(argv),
            envs=[KeyValue(key=key, value=value.encode()) for key, value in (env or {}).items()],
            working_dir=cwd,
            mounts=list(mounts),
            stdin=stdin,
            tty=tty,
            linux=LinuxContainerConfig(
                resources=LinuxContainerResources(memory_limit_in_bytes=memory_limit),
                security_context=LinuxContainerSecurityContext(
                    namespace_options=self._stored.namespaces,
                    run_as_user=user,
                    privileged=privileged,
                    masked_paths=masked_paths(),
                    readonly_paths=list(READONLY_PATHS),
                ),
            ),
        )
        id = await self._runtime.create_container(self.id, config, self._stored.config)
        try:
            return await start_with_streams(self._runtime, id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._runtime.remove_container(id)
            raise

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", **options: Unpack[ProcessOptions]) -> Completed:
        """Runs a process to its end and collects its output; `options` are those of `start`. Raises as `start`."""
        output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        process = await self.start(argv, stdin=bool(stdin), **options)
        async with process, anyio.create_task_group() as tasks:
            tasks.start_soon(_feed, process, stdin)
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
                if stream is not None:
                    tasks.start_soon(_collect, stream, output[name])
            code = await process.wait()
        return Completed(code, bytes(output["stdout"]), bytes(output["stderr"]))


async def _feed(process: ExecStream, data: bytes) -> None:
    if process.stdin is not None:
        try:
            await process.stdin.send(data)
        except anyio.BrokenResourceError:
            pass  # it does not want to know
        await process.stdin.aclose()


async def _collect(stream: ByteReceiveStream, into: bytearray) -> None:
    async for chunk in stream:
        into.extend(chunk)


@asynccontextmanager
async def open_sandbox(
    runtime: Runtime,
    name: str = "sandbox",
    *,
    namespace: str = "default",
    hostname: str = "",
    host_network: bool = False,
    ports: Sequence[PortMapping] = (),
    annotations: Mapping[str, str] | None = None,
) -> AsyncIterator[Sandbox]:
    """A sandbox of `runtime`; leaving the block kills what runs in it and removes it.

    Raises CRIError when it cannot be made; nothing is left then.
    """
    uid = new_uid()
    parent = f"{runtime.layout.cgroup_root}/kubepods/pod{uid}"
    options = NamespaceOption(
        network=NamespaceMode.NODE if host_network else NamespaceMode.POD, pid=NamespaceMode.CONTAINER
    )
    config = PodSandboxConfig(
        metadata=PodSandboxMetadata(name=name, uid=uid, namespace=namespace),
        hostname="" if host_network else hostname or name,
        port_mappings=list(ports),
        annotations=dict(annotations or {}),
        linux=LinuxPodSandboxConfig(
            cgroup_parent=parent, security_context=LinuxSandboxSecurityContext(namespace_options=options)
        ),
    )
    id = await runtime.run_pod_sandbox(config)
    try:
        yield Sandbox(runtime, runtime.store.sandbox(id))
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await runtime.remove_pod_sandbox(id)
            finally:
                await to_thread.run_sync(_remove_cgroup, runtime, parent)


def _remove_cgroup(runtime: Runtime, path: str) -> None:
    """The sandbox's own cgroup: on the kubelet's path this is the kubelet side's duty. Blocking."""
    if runtime.cgroups is not None:
        runtime.cgroups.remove(path)
