"""Processes between fork and execve, stopped where they have the most to lose, so that attacks on them need no luck."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime


def children(pid: int) -> list[int]:
    """The processes that `pid` is the parent of."""
    with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return [int(each) for each in file.read().split()]


def state(pid: int) -> str:
    """One letter (proc(5)), T for a stopped process and t for one that is traced; "" for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""


async def stopped_child(runtime: Runtime, sandbox_id: str) -> int:
    """The process of the pod's shim that a fault has stopped (podlite.steps), as soon as there is one."""
    shim = runtime.store.sandboxes[sandbox_id].shim
    assert shim is not None
    with anyio.fail_after(60):
        while True:
            for pid in children(shim.pid):
                if state(pid) in ("T", "t"):
                    return pid
            await anyio.sleep(0.005)


async def let_go(runtime: Runtime, sandbox_id: str) -> int:
    """Continues the stopped process of a pod; returns its pid."""
    pid = await stopped_child(runtime, sandbox_id)
    os.kill(pid, signal.SIGCONT)
    return pid
