"""Exec and attach for one client: copies between its channels and the process, until either is over."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream

from podlite.cri.errors import CRIError
from podlite.cri.services import ExecStream
from podlite.errors import explain
from podlite.rpc.streaming.channels import Channels

# When the process has ended, something that it left behind may hold its output open for as long as the container
# runs. What has been written is still sent; a pause of this length is the end.
DRAIN_SECONDS = 1.0

Status = dict[str, Any]


async def serve(channels: Channels, start: Callable[[], Awaitable[ExecStream]], *, attach: bool) -> None:
    """Runs the session to its end. An exec whose client is gone is killed; an attached container goes on."""
    async with anyio.create_task_group() as session:
        session.start_soon(_until_gone, channels, session.cancel_scope)
        try:
            async with await start() as process:
                code = await _copy(channels, process)
            status = success() if attach else exit_status(code)
        except (CRIError, OSError) as error:
            # An OSError is this machine's (no descriptors left), not the client's: anyio has its own errors for that.
            status = internal_error(explain(error))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            session.cancel_scope.cancel()
            return
        await channels.finish(status)
        session.cancel_scope.cancel()


async def _until_gone(channels: Channels, scope: anyio.CancelScope) -> None:
    await channels.receive()
    scope.cancel()


async def _copy(channels: Channels, process: ExecStream) -> int:
    """Returns the exit code when all output has been sent."""
    code = 0
    try:
        async with anyio.create_task_group() as tasks:
            if process.stdin is not None:
                tasks.start_soon(_input, channels, process)
            tasks.start_soon(_sizes, channels, process)
            outputs = [
                _Output(channels, name, stream)
                for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
                if stream is not None
            ]
            async with anyio.create_task_group() as copying:
                for output in outputs:
                    copying.start_soon(output.copy)
                code = await process.wait()
                for output in outputs:
                    output.ended()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        gone, others = group.split((anyio.BrokenResourceError, anyio.ClosedResourceError))
        if others is None and gone is not None:
            raise anyio.BrokenResourceError from None
        raise
    return code


async def _input(channels: Channels, process: ExecStream) -> None:
    """A process that does not read, or has closed its input, is its own affair."""
    assert process.stdin is not None
    try:
        async for chunk in channels.stdin:
            await process.stdin.send(chunk)
        await process.stdin.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        await channels.stdin.aclose()


async def _sizes(channels: Channels, process: ExecStream) -> None:
    while True:
        width, height = await channels.next_size()
        try:
            await process.resize(width, height)
        except CRIError:
            pass  # it has ended


class _Output:
    """One output of the process on its way to the client."""

    def __init__(self, channels: Channels, name: str, stream: ByteReceiveStream) -> None:
        self._channels = channels
        self._name = name
        self._stream = stream
        self._pause = math.inf
        self._scope = anyio.CancelScope()

    def ended(self) -> None:
        """The process has ended: from now on a pause is the end of its output."""
        self._pause = DRAIN_SECONDS
        self._scope.deadline = anyio.current_time() + DRAIN_SECONDS

    async def copy(self) -> None:
        while True:
            self._scope = anyio.CancelScope(deadline=anyio.current_time() + self._pause)
            chunk = b""
            with self._scope:
                try:
                    chunk = await self._stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    pass
            if not chunk:
                break
            await self._channels.write(self._name, chunk)
        await self._channels.end(self._name)


# --- the final status: metav1.Status, as far as clients read it ----------------------------------


def success() -> Status:
    return {"metadata": {}, "status": "Success"}


def exit_status(code: int) -> Status:
    """The status of a process that ended with this code."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def internal_error(text: str) -> Status:
    return {
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }
