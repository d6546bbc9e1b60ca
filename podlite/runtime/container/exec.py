"""Exec and ExecSync: another process in a running container, forked by its shim into its namespaces.

The process gets its standard streams as pipes of ours (a terminal's master comes back from the shim), so the
shim is not in the way of the data.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from podlite.cri.errors import CRIError, DeadlineExceededError, FailedPreconditionError, InvalidArgumentError
from podlite.cri.types import ExecSyncResult
from podlite.linux.terminal import set_window
from podlite.runtime.names import new_id
from podlite.runtime.shim_client import ShimClient
from podlite.runtime.streams import FileReceiveStream, FileSendStream
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime

# What ExecSync keeps of each stream, as containerd and CRI-O do.
EXEC_SYNC_LIMIT = 16 * 1024 * 1024
# A shim answers at once, if it answers at all.
_KILL_SECONDS = 10.0


class ShimExec:
    """An exec that a shim runs; see podlite.cri.services.ExecStream."""

    def __init__(self, shim: ShimClient, id: str, exited: asyncio.Future[int]) -> None:
        self.stdin: ByteSendStream | None = None
        self.stdout: ByteReceiveStream | None = None
        self.stderr: ByteReceiveStream | None = None
        self.terminal = -1
        self._shim = shim
        self._id = id
        self._exited = exited

    async def resize(self, width: int, height: int) -> None:
        if self.terminal >= 0:
            set_window(self.terminal, width, height)

    async def wait(self) -> int:
        return await asyncio.shield(self._exited)

    async def signal(self, number: int) -> None:
        """Sends a signal to the process and its process group, if it still runs. Raises CRIError."""
        if not self._exited.done():
            await self._shim.signal(number, exec_id=self._id)

    async def kill(self) -> None:
        """SIGKILL to the process, if it still runs."""
        try:
            await self.signal(signal.SIGKILL)
        except CRIError:
            pass

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.kill()
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()
            self.stdin = self.stdout = self.stderr = None
            if self.terminal >= 0:
                os.close(self.terminal)
                self.terminal = -1

    async def __aenter__(self) -> ShimExec:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


async def exec_in(
    shim: ShimClient,
    container_id: str,
    cmd: list[str],
    *,
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    process: dict[str, Any] | None = None,
) -> ShimExec:
    """Starts `cmd` in a running container through its shim. `process` overrides cwd, env, uid, gid, groups; its
    `window` is the size that a terminal has from the start, [columns, lines].

    Raises StartError, FailedPreconditionError, UnavailableError, InvalidArgumentError.
    """
    if not cmd:
        raise InvalidArgumentError("there is no command to execute")
    if any("\0" in word for word in cmd):
        raise InvalidArgumentError("the command to execute contains a NUL byte")
    ours: dict[str, int] = {}
    theirs: list[int] = []
    stdio: dict[str, int] = {}
    id = new_id()[:32]
    try:
        if not tty:
            for name, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                if not wanted:
                    continue
                read, write = os.pipe2(os.O_CLOEXEC)
                child, parent = (read, write) if name == "stdin" else (write, read)
                stdio[name] = len(theirs)
                theirs.append(child)
                ours[name] = parent
        with step("exec.start", container_id=container_id):
            message = {"container": container_id, "argv": cmd, "tty": tty, "stdio": stdio, **(process or {})}
            _, received, exited = await shim.exec(id, message, theirs)
    except BaseException as error:
        for fd in ours.values():
            os.close(fd)
        if not isinstance(error, Exception):
            await _kill_cancelled(shim, id)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    result = ShimExec(shim, id, exited)
    if tty:
        if not received:
            raise CRIError("the shim did not hand over the terminal of the exec")
        result.terminal = received[0]
        if stdin:
            result.stdin = FileSendStream(os.dup(received[0]))
        result.stdout = FileReceiveStream(os.dup(received[0]), terminal=True)
        return result
    if "stdin" in ours:
        result.stdin = FileSendStream(ours["stdin"])
    if "stdout" in ours:
        result.stdout = FileReceiveStream(ours["stdout"])
    if "stderr" in ours:
        result.stderr = FileReceiveStream(ours["stderr"])
    return result


async def _kill_cancelled(shim: ShimClient, id: str) -> None:
    """The request is on its way: what it has started, or will, has nobody any more who would end it."""
    with anyio.move_on_after(_KILL_SECONDS, shield=True):
        try:
            await shim.signal(signal.SIGKILL, exec_id=id)
        except CRIError:
            pass


async def exec_container(
    runtime: Runtime, container_id: str, cmd: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
) -> ShimExec:
    """See RuntimeService.exec."""
    if tty and stderr:
        raise InvalidArgumentError("with a terminal there is no separate standard error")
    container = runtime.store.running_container(container_id)
    shim = container.sandbox.shim
    if shim is None:
        raise FailedPreconditionError(f"the shim of container {container.id} is gone")
    return await exec_in(shim, container.id, cmd, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)


async def exec_sync(runtime: Runtime, container_id: str, cmd: list[str], timeout: float) -> ExecSyncResult:
    """See RuntimeService.exec_sync."""
    output = {"stdout": bytearray(), "stderr": bytearray()}
    # The start is in it: somebody in the container may stop the process before it has executed anything.
    with anyio.move_on_after(timeout if timeout > 0 else None) as scope:
        process = await exec_container(runtime, container_id, cmd, tty=False, stdin=False, stdout=True, stderr=True)
        async with process, anyio.create_task_group() as tasks:
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
                assert stream is not None
                tasks.start_soon(_collect, stream, output[name])
            code = await process.wait()
            # A process that it left behind may hold the pipes open for as long as the container runs.
            tasks.cancel_scope.deadline = anyio.current_time() + 1
    if scope.cancelled_caught:
        raise DeadlineExceededError(f"{cmd[0]} in container {container_id[:12]} took longer than {timeout:g} s")
    return ExecSyncResult(stdout=bytes(output["stdout"]), stderr=bytes(output["stderr"]), exit_code=code)


async def _collect(stream: ByteReceiveStream, into: bytearray) -> None:
    async for chunk in stream:
        # What is more is read and dropped: a process must not hang on a full pipe because it says too much.
        into.extend(chunk[: EXEC_SYNC_LIMIT - len(into)])
