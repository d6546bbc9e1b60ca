"""bwrap (bubblewrap): /bin/true in namespaces of its own, on the host's files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from podlite.bench.peers import Context
from podlite.bench.peers.commands import program, run
from podlite.bench.workload import Workload


class Bwrap:
    impl = "bwrap"
    note = "bwrap: the host's root read-only, loopback only, no cgroup or record; no teardown of its own"
    work = (("pod", ""),)

    def __init__(self, path: str) -> None:
        self._path = path

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[Workload]:
        yield self

    async def create(self) -> None:
        await run([self._path, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"])

    async def teardown(self, handle: Any) -> None:
        pass


def find(argument: str, context: Context) -> Bwrap:
    return Bwrap(program("bwrap", argument))
