"""RemovePodSandbox: its containers, its directory, and with it the record, last."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.cri.errors import CRIError
from podlite.errors import explain
from podlite.runtime.container.remove import remove_all
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.layout import is_pod_file
from podlite.runtime.store import Sandbox
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime


async def remove_pod_sandbox(runtime: Runtime, pod_sandbox_id: str) -> None:
    """See RuntimeService.remove_pod_sandbox."""
    sandbox = runtime.store.find_sandbox(pod_sandbox_id)
    if sandbox is None:
        return
    async with sandbox.busy:
        if sandbox.id not in runtime.store.sandboxes:
            return
        await remove_sandbox(runtime, sandbox)
    runtime.events.sandbox_deleted(sandbox)


async def remove_sandbox(runtime: Runtime, sandbox: Sandbox) -> None:
    """Stops and removes a sandbox, also one that the store does not have; the caller has its lock. Raises CRIError."""
    from podlite.runtime.sandbox.stop import stop

    await stop(runtime, sandbox)
    with step("sandbox.remove", **sandbox.ids):
        try:
            await remove_all(runtime, sandbox, lambda: remove_directory(sandbox))
        except OSError as error:
            raise CRIError(f"the directory of pod {sandbox.pod} cannot be removed: {explain(error)}") from error
        runtime.store.sandboxes.pop(sandbox.id, None)
        runtime.store.release_sandbox(sandbox.config, sandbox.id)


def remove_directory(sandbox: Sandbox) -> None:
    """Removes a sandbox's directory, the record last, and gives up its lock; idempotent. Blocking. Raises OSError."""
    if sandbox.lock is None:
        return  # somebody else's, or removed already
    try:
        names = os.listdir(sandbox.directory)
    except FileNotFoundError:
        names = []
    for name in sorted(names, key=lambda each: each == RECORD):
        if not is_pod_file(name):
            _unlink(f"{sandbox.directory}/{name}")
    try:
        os.rmdir(sandbox.directory)
    except OSError:
        # pod.json is there, or nothing at all.
        pass
    sandbox.lock.release()
    sandbox.lock = None


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
