"""A pod's streams on another runtime: exec and attach by the runtime's streaming server, as a kubelet does it."""

from __future__ import annotations

import os
import re
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from podlite.agent.foreign_runtime import attach_to, open_runtime
from podlite.cli.exec_streams import Detachable, Session
from podlite.cli.exit_status import CANNOT_RUN, start_error_status
from podlite.cli.raw_terminal import RawTerminal, window_size
from podlite.cri.errors import CRIError, StartError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import ByteReceiveStream, ByteSendStream

    from podlite.kubelet.written_pods import WrittenPod
    from podlite.rpc.streaming.dial import RemoteExec

# What runc says, wherever it stands in a runtime's sentence: exec: "a": stat a: no such file or directory: unknown
_NOT_EXECUTED = re.compile(r'exec: ".*?": .*?(?=: unknown$|$)')


async def run_exec(found: WrittenPod, container_id: str, command: list[str], stdin: bool, tty: bool) -> int:
    """As podlite.cli.exec_streams.run_exec. CRI has no signals for a command: one that we get leaves it, as kubectl
    does, and the runtime decides what becomes of it. Raises StartError, CRIError."""
    async with open_runtime(found) as runtime:
        async with await runtime.exec(
            container_id, command, tty=tty, stdin=stdin, stdout=True, stderr=not tty
        ) as execution:
            if tty:
                await execution.resize(*window_size(0 if os.isatty(0) else 1))
            command_of_runtime = _Command(execution)
            with RawTerminal(0) if tty and stdin and os.isatty(0) else nullcontext():
                code = await Session(Detachable(command_of_runtime)).run()
        if command_of_runtime.failure is not None:
            raise command_of_runtime.failure
        return code


class _Command:
    """A command that another runtime runs; that it could not be executed is kept for when the streams are over."""

    def __init__(self, execution: RemoteExec) -> None:
        self.stdin: ByteSendStream | None = execution.stdin
        self.stdout: ByteReceiveStream | None = execution.stdout
        self.stderr: ByteReceiveStream | None = execution.stderr
        self.resize = execution.resize
        self.failure: CRIError | None = None
        self._execution = execution

    async def wait(self) -> int:
        try:
            return await self._execution.wait()
        except UnavailableError as error:
            self.failure = error
        except CRIError as error:
            said = _NOT_EXECUTED.search(error.message)
            text = said.group() if said is not None else error.message
            self.failure = StartError(text, exit_code=start_error_status(text))
        return CANNOT_RUN


@asynccontextmanager
async def open_attachment(
    found: WrittenPod, container_id: str, ended: Callable[[], Awaitable[int]], *, tty: bool, stdin: bool
) -> AsyncIterator[Detachable]:
    """As podlite.cli.attachment.open_attachment."""
    async with (
        open_runtime(found) as runtime,
        await attach_to(runtime, container_id, ended, tty=tty, stdin=stdin, stdout=True, stderr=not tty) as attached,
    ):
        yield Detachable(attached)
