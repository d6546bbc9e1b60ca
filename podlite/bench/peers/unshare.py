"""unshare (util-linux): a pinned network namespace, and /bin/true in every kind of namespace."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from podlite.bench.peers import Context
from podlite.bench.peers.commands import program, run
from podlite.bench.workload import Workload
from podlite.linux.netns import prepare_directory, remove
from podlite.linux.syscalls import MNT_DETACH, umount2


class Unshare:
    impl = "unshare"
    note = "unshare: no root file system, network, cgroup or record; what ends with its process needs no teardown"
    work = (("netns", ""), ("pod", ""))

    def __init__(self, path: str, directory: str) -> None:
        self._path = path
        self._directory = f"{directory}/netns"

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[Workload]:
        if scenario == "pod":
            yield _Processes(self._path)
            return
        prepare_directory(self._directory)
        try:
            yield _Netns(self._path, self._directory)
        finally:
            umount2(self._directory, MNT_DETACH)


class _Netns:
    def __init__(self, path: str, directory: str) -> None:
        self._path = path
        self._directory = directory
        self._numbers = count()

    async def create(self) -> str:
        pin = f"{self._directory}/{next(self._numbers)}"
        os.close(os.open(pin, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        await run([self._path, f"--net={pin}", "/bin/true"])
        return pin

    async def teardown(self, pin: Any) -> None:
        remove(pin)


class _Processes:
    def __init__(self, path: str) -> None:
        self._path = path

    async def create(self) -> None:
        await run([self._path, "-npmuif", "/bin/true"])

    async def teardown(self, handle: Any) -> None:
        pass


def find(argument: str, context: Context) -> Unshare:
    return Unshare(program("unshare", argument), context.directory)
