"""ip: `ip netns add` and `ip netns del` (iproute2), the rung of podlite's `netns`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from podlite.bench.peers import Context
from podlite.bench.peers.commands import program, run


class Ip:
    impl = "ip"
    note = "ip: one process for each add and del"
    work = (("netns", ""),)

    def __init__(self, path: str) -> None:
        self._path = path

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[_Netns]:
        yield _Netns(self._path)


class _Netns:
    def __init__(self, path: str) -> None:
        self._path = path
        self._prefix = f"podlite-ip-{os.getpid()}-"
        self._numbers = count()

    async def create(self) -> str:
        name = f"{self._prefix}{next(self._numbers)}"
        await run([self._path, "netns", "add", name])
        return name

    async def teardown(self, name: Any) -> None:
        await run([self._path, "netns", "del", name])


def find(argument: str, context: Context) -> Ip:
    return Ip(program("ip", argument))
