"""What runc and crun have in common: the OCI runtime's command line (runtime-spec), and a bundle to run."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
from anyio import to_thread

from podlite.bench.peers import Context
from podlite.bench.peers.commands import make_rootfs, program, run
from podlite.bench.workload import OperationFailedError, Workload

_TRUE, _SLEEP = "/bin/true", "/bin/sleep"
_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
_HOST = "hostNetwork"


class OCIRuntime:
    """`impl` is the runtime's name; `path` the program."""

    work = (("pod", ""), ("pod", _HOST), ("exec", ""), ("restart", ""))

    def __init__(self, impl: str, path: str, context: Context) -> None:
        self.impl = impl
        self.note = f"{impl}: one container in new namespaces without a network; run deletes it too: no teardown beside"
        self._path = path
        self._directory = f"{context.directory}/{impl}"

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[Workload]:
        directory = f"{self._directory}-{scenario}-{variant}"
        command = [self._path, "--root", f"{directory}/state"]
        argv = [_TRUE] if scenario == "pod" else [_SLEEP, "1000000"]
        await to_thread.run_sync(_make_bundle, directory, argv, variant == _HOST)
        containers = Containers(command, directory, self.impl)
        if scenario == "pod":
            yield OneShot(containers)
        elif scenario == "restart":
            yield containers
        else:
            id = await containers.create()
            try:
                yield Exec(command, id)
            finally:
                with anyio.CancelScope(shield=True):
                    await containers.teardown(id)


class Containers:
    """create: run --detach; teardown: delete --force."""

    def __init__(self, command: Sequence[str], bundle: str, impl: str) -> None:
        self.command = command
        self.bundle = bundle
        self._prefix = f"podlite-bench-{os.getpid()}-{impl}-"
        self._numbers = count()

    def new_id(self) -> str:
        return f"{self._prefix}{next(self._numbers)}"

    async def create(self) -> str:
        id = self.new_id()
        await run([*self.command, "run", "--detach", "--bundle", self.bundle, id])
        return id

    async def teardown(self, id: Any) -> None:
        await run([*self.command, "delete", "--force", id])


class OneShot:
    """create: run, which waits for the end and deletes; nothing is left to tear down."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def create(self) -> None:
        await run([*self._containers.command, "run", "--bundle", self._containers.bundle, self._containers.new_id()])

    async def teardown(self, handle: Any) -> None:
        pass


class Exec:
    """create: exec of /bin/true, to its end."""

    def __init__(self, command: Sequence[str], id: str) -> None:
        self._command = command
        self._id = id

    async def create(self) -> None:
        await run([*self._command, "exec", self._id, _TRUE])

    async def teardown(self, handle: Any) -> None:
        pass


def find_runtime(impl: str, argument: str, context: Context) -> OCIRuntime:
    """Raises PeerMissingError."""
    return OCIRuntime(impl, program(impl, argument), context)


def _make_bundle(directory: str, argv: list[str], host_network: bool) -> None:
    try:
        make_rootfs(directory, [_TRUE, _SLEEP])
        with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
            json.dump(bundle_config(argv, host_network=host_network), file)
    except OSError as error:
        raise OperationFailedError(f"the bundle in {directory} cannot be made: {error}") from error


def bundle_config(argv: list[str], *, host_network: bool) -> dict[str, Any]:
    """config.json of the runtime specification: what `runc spec` writes, in the main. Pure."""
    namespaces = ["pid", "ipc", "uts", "mount", *(() if host_network else ("network",))]
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    ]
    if not host_network:
        # A sysfs is the network namespace's: mounting one needs a namespace of one's own.
        options = ["nosuid", "noexec", "nodev", "ro"]
        mounts.append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options})
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": argv,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "bench",
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": each} for each in namespaces],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }
