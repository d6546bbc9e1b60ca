"""The other runtime that somebody else's pod is on: exec and attach by its streaming server, as a kubelet does it."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from podlite.cri.errors import CRIError, FailedPreconditionError
from podlite.errors import only_error
from podlite.rpc.extra import require_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from anyio.abc import ByteReceiveStream, ByteSendStream

    from podlite.kubelet.written_pods import WrittenPod
    from podlite.rpc.client import RemoteRuntime
    from podlite.rpc.streaming.dial import RemoteExec


def require_grpc_for(written: WrittenPod) -> None:
    """Raises UsageError where the libraries that its runtime is reached by are not installed."""
    meta = written.pod.metadata
    require_grpc(f"reaching pod {meta.name}, which is on the runtime at {written.holder.runtime_endpoint},")


@asynccontextmanager
async def open_runtime(written: WrittenPod) -> AsyncIterator[RemoteRuntime]:
    """The runtime that has the pod. Raises UsageError where gRPC is missing; its methods raise CRIError."""
    require_grpc_for(written)
    from podlite.rpc.client import RemoteRuntime

    try:
        async with RemoteRuntime(written.holder.runtime_endpoint) as runtime:
            yield runtime
    except BaseExceptionGroup as group:
        raise only_error(group) from None


# Runtimes say so without a code of its own: containerd and CRI-O (container_attach.go of each).
_NOT_RUNNING = re.compile(r"container is in CONTAINER_(EXITED|UNKNOWN) state|container is not (created or )?running")


@contextmanager
def _says_not_running() -> Iterator[None]:
    try:
        yield
    except CRIError as error:
        if _NOT_RUNNING.search(error.message):
            raise FailedPreconditionError(error.message) from None
        raise


async def attach_to(
    runtime: RemoteRuntime, container_id: str, ended: Callable[[], Awaitable[int]], **streams: bool
) -> RemoteAttachment:
    """Attaches to a running container. Raises FailedPreconditionError for one that does not run, CRIError."""
    with _says_not_running():
        return RemoteAttachment(await runtime.attach(container_id, **streams), ended)


class RemoteAttachment:
    """An attachment to a container, whose exit code CRI does not say here: `ended` gives it, from the pod's status.

    See podlite.cri.services.ExecStream.
    """

    def __init__(self, attached: RemoteExec, ended: Callable[[], Awaitable[int]]) -> None:
        self.stdin: ByteSendStream | None = attached.stdin
        self.stdout: ByteReceiveStream | None = attached.stdout
        self.stderr: ByteReceiveStream | None = attached.stderr
        self.resize = attached.resize
        self.aclose = attached.aclose
        self._attached = attached
        self._ended = ended

    async def wait(self) -> int:
        """Raises FailedPreconditionError for a container that had ended before it was attached to, CRIError."""
        with _says_not_running():
            await self._attached.wait()
        return await self._ended()

    async def __aenter__(self) -> RemoteAttachment:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()
