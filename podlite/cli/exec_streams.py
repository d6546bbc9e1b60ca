"""An exec's streams and ours: copied in both directions, with signals and the window's size passed on."""

from __future__ import annotations

import os
import signal
import stat
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from podlite.agent.foreign_pods import open_shim
from podlite.cli.raw_terminal import RawTerminal, window_size
from podlite.cri.errors import CRIError
from podlite.runtime.container.exec import exec_in

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, ByteSendStream, TaskGroup

    from podlite.kubelet.written_pods import WrittenPod

_CHUNK = 65536
# A process that the command left behind may hold its output open: beyond this nothing is waited for.
_QUIET_SECONDS = 0.5

# What the command is to decide about; with a terminal, the keys for them come to it as they are typed.
_PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


async def run_exec(found: WrittenPod, container_id: str, command: list[str], stdin: bool, tty: bool) -> int:
    """Runs a command in a container to its end; returns its exit status, 128 + N if signal N ended it or us.

    With `tty` our own terminal, where standard input is one, is in raw mode meanwhile. Raises StartError, CRIError,
    NoShimError.
    """
    raw = tty and stdin and os.isatty(0)
    process = {"window": list(window_size(0 if os.isatty(0) else 1))} if tty else None
    async with open_shim(found) as shim:
        execution = await exec_in(
            shim, container_id, command, tty=tty, stdin=stdin, stdout=True, stderr=not tty, process=process
        )
        async with execution:
            with RawTerminal(0) if raw else nullcontext():
                return await Session(execution).run()


class Streams(Protocol):
    """A command, or a container that we are attached to; see podlite.cri.services.ExecStream."""

    stdin: ByteSendStream | None
    stdout: ByteReceiveStream | None
    stderr: ByteReceiveStream | None

    async def resize(self, width: int, height: int) -> None: ...
    async def wait(self) -> int: ...


class Execution(Streams, Protocol):
    """One that signals can be sent to."""

    async def signal(self, number: int) -> None: ...


class Session:
    """A command that runs, and our streams."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._ended_by = 0
        # How many outputs are still open, and whether one of them is being written: then its reader is slow.
        self._open = 0
        self._writing = 0
        self._moved = anyio.Event()

    async def run(self) -> int:
        """Until the command has ended and its output is written; returns the exit status."""
        execution = self._execution
        code = 128 + signal.SIGKILL
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._signals, tasks)
            if execution.stdin is not None:
                tasks.start_soon(self._copy_in, execution.stdin)
            for stream, fd in ((execution.stdout, 1), (execution.stderr, 2)):
                if stream is not None:
                    self._open += 1
                    tasks.start_soon(self._copy_out, stream, fd)
            code = await execution.wait()
            await self._drain()
            tasks.cancel_scope.cancel()
        return 128 + self._ended_by if self._ended_by else code

    async def _drain(self) -> None:
        """Waits for what is still in the pipes; as long as something comes, or somebody reads it slowly."""
        while self._open:
            self._moved = anyio.Event()
            with anyio.move_on_after(_QUIET_SECONDS) as quiet:
                await self._moved.wait()
            if quiet.cancelled_caught and not self._writing:
                return

    async def _copy_out(self, stream: ByteReceiveStream, fd: int) -> None:
        try:
            async for chunk in stream:
                self._writing += 1
                try:
                    # On a thread: our standard output may block, and must not be made non-blocking, for it is not
                    # ours alone.
                    await to_thread.run_sync(_write_all, fd, chunk, abandon_on_cancel=True)
                finally:
                    self._writing -= 1
                    self._moved.set()
        except (BrokenPipeError, anyio.BrokenResourceError):
            await stream.aclose()  # nobody reads it: the command is to learn that
        finally:
            self._open -= 1
            self._moved.set()

    async def _copy_in(self, stream: ByteSendStream) -> None:
        try:
            while chunk := await _read_stdin():
                await stream.send(chunk)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the command does not want to know
        except OSError:
            pass  # our terminal was hung up: SIGHUP tells
        await stream.aclose()

    async def _signals(self, tasks: TaskGroup) -> None:
        wanted = {*_PASSED_ON, signal.SIGWINCH, signal.SIGHUP}
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup(1)
            wanted.remove(signal.SIGHUP)
        before = 0
        with anyio.open_signal_receiver(*wanted) as received:
            async for number in received:
                if number == signal.SIGWINCH:
                    await self._execution.resize(*window_size(0 if os.isatty(0) else 1))
                elif number == signal.SIGHUP or number == before:
                    # Hung up, or asked for the second time: leaving the connection ends the command.
                    self._ended_by = number
                    tasks.cancel_scope.cancel()
                else:
                    before = number if number in (signal.SIGINT, signal.SIGTERM) else 0
                    await self._pass_on(number)

    async def _pass_on(self, number: int) -> None:
        try:
            await self._execution.signal(number)
        except CRIError:
            pass  # it has ended this moment


class Detachable:
    """An attachment that a signal ends, not the container; see Execution."""

    def __init__(self, attached: Streams) -> None:
        self.stdin: ByteSendStream | None = attached.stdin
        self.stdout: ByteReceiveStream | None = attached.stdout
        self.stderr: ByteReceiveStream | None = attached.stderr
        self.resize = attached.resize
        self._attached = attached
        self._left = anyio.Event()
        self._signal = 0

    async def wait(self) -> int:
        """The container's exit code, or 128 + N when signal N has ended the attachment."""
        code = 0
        async with anyio.create_task_group() as tasks:

            async def ended() -> None:
                nonlocal code
                code = await self._attached.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(ended)
            await self._left.wait()
            code = 128 + self._signal
            tasks.cancel_scope.cancel()
        return code

    async def signal(self, number: int) -> None:
        self._signal = number
        self._left.set()


async def _read_stdin() -> bytes:
    """What there is on standard input; empty at its end. Raises OSError."""
    if stat.S_ISREG(os.fstat(0).st_mode):
        return await to_thread.run_sync(os.read, 0, _CHUNK)
    try:
        await anyio.wait_readable(0)
    except PermissionError:
        pass  # a device that cannot be waited for, such as /dev/null, never keeps anybody waiting
    return os.read(0, _CHUNK)


def _write_all(fd: int, data: bytes) -> None:
    """Blocking. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Somebody else with the same terminal or pipe has made it non-blocking.
            import select

            select.select([], [fd], [])
