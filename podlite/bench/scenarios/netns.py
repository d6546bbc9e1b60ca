"""netns: podlite's namespace layer alone, as RunPodSandbox uses it: a job on a namespace thread."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

from podlite.linux import netns
from podlite.runtime.service import Runtime
from podlite.steps import step


class Netns:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._prefix = f"{runtime.layout.netns_dir}/podlite-netns-{os.getpid()}-"
        self._numbers = count()

    async def create(self) -> str:
        path = f"{self._prefix}{next(self._numbers)}"
        await self._runtime.threads.run(lambda own: _create(path, own))
        return path

    async def teardown(self, path: Any) -> None:
        await self._runtime.threads.run(lambda own: _remove(path))


def _create(path: str, own: int) -> None:
    with step("netns.create"):
        netns.create(path, own, lambda: None)


def _remove(path: str) -> None:
    with step("netns.remove"):
        netns.remove(path)
