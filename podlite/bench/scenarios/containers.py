"""exec and restart: processes and containers that come and go in one ready sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio

from podlite.bench.scenarios.sandbox import OwnSandbox, Sandboxes
from podlite.bench.workload import OperationFailedError
from podlite.cri.types import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    LinuxContainerConfig,
    LinuxContainerSecurityContext,
    NamespaceMode,
    NamespaceOption,
)
from podlite.runtime.image.store import EMBEDDED_NAME
from podlite.runtime.service import Runtime

# The programs are of the host's own, by way of the embedded image.
SLEEP = ["/bin/sleep", "1000000"]
TRUE = ["/bin/true"]


def container_config(name: str, command: list[str], image: str = EMBEDDED_NAME) -> ContainerConfig:
    """A container without limits, in the pod's namespaces but for its own pid namespace."""
    options = NamespaceOption(network=NamespaceMode.POD, pid=NamespaceMode.CONTAINER)
    return ContainerConfig(
        metadata=ContainerMetadata(name=name),
        image=ImageSpec(image=image),
        command=command,
        linux=LinuxContainerConfig(security_context=LinuxContainerSecurityContext(namespace_options=options)),
    )


class Restart:
    """create: CreateContainer and StartContainer; teardown: StopContainer (at once) and RemoveContainer."""

    def __init__(self, sandbox: OwnSandbox) -> None:
        self._sandbox = sandbox
        self._runtime = sandbox.runtime
        self._numbers = count()
        self.create_live = Sandboxes(self._runtime).create

    async def create(self) -> str:
        config = container_config(f"c{next(self._numbers)}", SLEEP)
        id = await self._runtime.create_container(self._sandbox.id, config, self._sandbox.config)
        try:
            await self._runtime.start_container(id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._runtime.remove_container(id)
            raise
        return id

    async def teardown(self, id: Any) -> None:
        if id in self._runtime.store.sandboxes:  # one of those that are kept alive
            await self._runtime.remove_pod_sandbox(id)
            return
        await self._runtime.stop_container(id, 0)
        await self._runtime.remove_container(id)


class Exec:
    """create: until the process has exec'd; teardown: until its exit code, 0, is known."""

    def __init__(self, runtime: Runtime, container_id: str) -> None:
        self._runtime = runtime
        self._container_id = container_id
        self.create_live = Sandboxes(runtime).create

    async def create(self) -> Any:
        return await self._runtime.exec(self._container_id, TRUE, tty=False, stdin=False, stdout=False, stderr=False)

    async def teardown(self, handle: Any) -> None:
        if isinstance(handle, str):  # a sandbox that is kept alive
            await self._runtime.remove_pod_sandbox(handle)
            return
        async with handle:
            code = await handle.wait()
        if code:
            raise OperationFailedError(f"/bin/true ended with exit code {code}")


@asynccontextmanager
async def open_restart(runtime: Runtime) -> AsyncIterator[Restart]:
    async with OwnSandbox(runtime) as sandbox:
        yield Restart(sandbox)


@asynccontextmanager
async def open_exec(runtime: Runtime) -> AsyncIterator[Exec]:
    async with OwnSandbox(runtime) as sandbox:
        id = await Restart(sandbox).create()
        try:
            yield Exec(runtime, id)
        finally:
            with anyio.CancelScope(shield=True):
                await runtime.remove_container(id)
