"""ReopenContainerLog: the container's output goes on in a new file at its log path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anyio import to_thread

from podlite.cri.errors import CRIError, FailedPreconditionError
from podlite.errors import explain
from podlite.runtime.container.start import open_log

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime


async def reopen_container_log(runtime: Runtime, container_id: str) -> None:
    """See RuntimeService.reopen_container_log. On a failure the old file stays in use."""
    container = runtime.store.running_container(container_id)
    shim = container.sandbox.shim
    if shim is None:
        raise FailedPreconditionError(f"the shim of container {container.id} is gone")
    if not container.log_path:
        return
    try:
        fd = await to_thread.run_sync(open_log, container.log_path)
    except OSError as error:
        raise CRIError(f"the log of container {container.config.metadata.name}: {explain(error)}") from error
    try:
        await shim.request({"m": "reopen", "container": container.id}, [fd])
    finally:
        os.close(fd)
