"""podman: `podman run --rm`, on a root file system without an image, so that no storage driver is in the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
from anyio import to_thread

from podlite.bench.peers import Context
from podlite.bench.peers.commands import make_rootfs, program, run
from podlite.bench.workload import OperationFailedError, Workload

_HOST = "hostNetwork"


class Podman:
    impl = "podman"
    work = (("pod", ""), ("pod", _HOST), ("exec", ""), ("restart", ""))

    def __init__(self, path: str, context: Context) -> None:
        self._path = path
        self._directory = f"{context.directory}/podman"
        self._runtime: list[str] = []
        self.note = "podman: run --rm --rootfs, its own network; run removes the container too: no teardown beside"

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[Workload]:
        rootfs = await to_thread.run_sync(make_rootfs, self._directory, ["/bin/true", "/bin/sleep"])
        network = ["--network=host"] if variant == _HOST else []
        await self._choose_runtime(rootfs)
        containers = _Containers(self._path, [*self._runtime, *network, "--rootfs", rootfs])
        if scenario == "pod":
            yield _OneShot(containers)
        elif scenario == "restart":
            yield containers
        else:
            name = await containers.create()
            try:
                yield _Exec(self._path, name)
            finally:
                with anyio.CancelScope(shield=True):
                    await containers.teardown(name)

    async def _choose_runtime(self, rootfs: str) -> None:
        """podman's own choice, crun as a rule; runc where that does not work (crun 1.8: hybrid cgroups)."""
        runc = shutil.which("runc", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
        if self._runtime or runc is None:
            return
        trial = ["run", "--rm", "--network=none", "--rootfs", rootfs, "/bin/true"]
        try:
            await run([self._path, *trial])
        except OperationFailedError:
            self._runtime = [f"--runtime={runc}"]
            self.note += "; with runc, for its own choice of an OCI runtime does not work here"


class _Containers:
    def __init__(self, path: str, options: Sequence[str]) -> None:
        self.path = path
        self.options = options
        self._prefix = f"podlite-bench-{os.getpid()}-"
        self._numbers = count()

    async def create(self) -> str:
        name = f"{self._prefix}{next(self._numbers)}"
        await run([self.path, "run", "--detach", "--name", name, *self.options, "/bin/sleep", "1000000"])
        return name

    async def teardown(self, name: Any) -> None:
        await run([self.path, "rm", "--force", "--time", "0", name])


class _OneShot:
    def __init__(self, containers: _Containers) -> None:
        self._containers = containers

    async def create(self) -> None:
        await run([self._containers.path, "run", "--rm", *self._containers.options, "/bin/true"])

    async def teardown(self, handle: Any) -> None:
        pass


class _Exec:
    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name

    async def create(self) -> None:
        await run([self._path, "exec", self._name, "/bin/true"])

    async def teardown(self, handle: Any) -> None:
        pass


def find(argument: str, context: Context) -> Podman:
    return Podman(program("podman", argument), context)
