"""…/exec and …/attach: a container's streams over a WebSocket, v5.channel.k8s.io or v4.channel.k8s.io.

Each message begins with the number of its channel: 0 input, 1 output, 2 errors, 3 the final Status, 4 the terminal's
size, and in v5 255, which ends the channel whose number follows. An exec whose client is gone is killed; an attached
container goes on.

Source: k8s.io/apimachinery/pkg/util/remotecommand/constants.go and k8s.io/client-go/tools/remotecommand, 1.36.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from starlette.websockets import WebSocketDisconnect

from podlite import log
from podlite.agent.api.errors import ApiError, bad_request, internal
from podlite.agent.api.http import answer_error, encode
from podlite.agent.foreign_pods import open_shim
from podlite.cri.errors import CRIError
from podlite.errors import PodliteError, explain
from podlite.kubelet.labels import find_container
from podlite.kubelet.log_source import find_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import ByteReceiveStream
    from starlette.websockets import WebSocket

    from podlite.agent.api.state import ApiState
    from podlite.api.pod import Pod
    from podlite.cri.services import ExecStream

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

# A process that the command left behind may hold its output open: beyond such a pause nothing is waited for.
DRAIN_SECONDS = 0.5


class Wanted(msgspec.Struct):
    """What a client asks for: PodExecOptions, PodAttachOptions."""

    container: str
    command: list[str]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class StreamHandlers:
    """The handlers of both."""

    def __init__(self, state: ApiState) -> None:
        self._state = state

    async def exec(self, socket: WebSocket) -> None:
        await self._serve(socket, attach=False)

    async def attach(self, socket: WebSocket) -> None:
        await self._serve(socket, attach=True)

    async def _serve(self, socket: WebSocket, *, attach: bool) -> None:
        try:
            offered = socket.scope.get("subprotocols", [])
            protocol = next((each for each in PROTOCOLS if each in offered), "")
            if not protocol:
                raise bad_request(f"the WebSocket's protocol has to be one of {', '.join(PROTOCOLS)}")
            pod = self._state.find_pod(socket.path_params["namespace"], socket.path_params["name"])
            wanted = _wanted(socket, pod, attach=attach)
            container_id = _running(pod, wanted.container)
        except ApiError as error:
            await socket.send_denial_response(answer_error(error))
            return
        await socket.accept(subprotocol=protocol)
        session = _Session(socket, v5=protocol == PROTOCOLS[0])
        await session.run(lambda: self._open(pod, container_id, wanted, attach=attach), attach=attach)

    @asynccontextmanager
    async def _open(self, pod: Pod, container_id: str, wanted: Wanted, *, attach: bool) -> AsyncIterator[ExecStream]:
        uid = pod.metadata.uid
        streams: dict[str, Any] = {
            "stdin": wanted.stdin,
            "stdout": wanted.stdout,
            "stderr": wanted.stderr and not wanted.tty,
        }
        written = self._state.foreign.get(uid)
        if self._state.is_own(uid):
            assert self._state.node is not None
            runtime = self._state.node.runtime
            if attach:
                stream: Any = await runtime.attach(container_id, tty=wanted.tty, **streams)
            else:
                stream = await runtime.exec(container_id, wanted.command, tty=wanted.tty, **streams)
            async with stream:
                yield stream
        elif written is not None:
            from podlite.runtime.container.attach import attach_to
            from podlite.runtime.container.exec import exec_in

            async with open_shim(written) as shim:
                if attach:
                    stream = await attach_to(
                        shim, container_id, lambda: self._ended(uid, wanted.container), tty=wanted.tty, **streams
                    )
                else:
                    stream = await exec_in(shim, container_id, wanted.command, tty=wanted.tty, **streams)
                async with stream:
                    yield stream
        else:
            raise internal("the pod is gone")

    async def _ended(self, uid: str, container: str) -> int:
        """Waits until a container of another podlite's pod runs no more, by its status; its exit code."""
        cache = self._state.pods
        while (pod := cache.get(uid)) is not None:
            status = find_status(pod, container)
            if status is None or status.state.running is None:
                ended = status.state.terminated if status is not None else None
                return ended.exit_code if ended is not None else 0
            async for change in cache.watch(cache.version):
                if change.key == uid:
                    break
        return 0


def _wanted(socket: WebSocket, pod: Pod, *, attach: bool) -> Wanted:
    """Raises ApiError."""
    parameters = socket.query_params
    container = parameters.get("container", "") or pod.spec.containers[0].name
    spec = find_container(pod, container)
    if spec is None:
        raise bad_request(f"container {container} is not valid for pod {pod.metadata.name}")

    def flag(name: str, default: bool) -> bool:
        return parameters.get(name, "true" if default else "false").lower() in ("", "1", "true", "t")

    command = parameters.getlist("command")
    if not attach and not command:
        raise bad_request("you must specify at least one command for the container")
    wanted = Wanted(
        container=container,
        command=command,
        stdin=flag("stdin", False),
        stdout=flag("stdout", True),
        stderr=flag("stderr", True),
        tty=spec.tty if attach else flag("tty", False),
    )
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    return wanted


def _running(pod: Pod, container: str) -> str:
    """The id of a container that runs. Raises ApiError."""
    if pod.status.phase in ("Succeeded", "Failed"):
        raise bad_request(f"cannot exec into a container in a completed pod; current phase is {pod.status.phase}")
    status = find_status(pod, container)
    if status is None or status.state.running is None:
        raise bad_request(f'container "{container}" in pod "{pod.metadata.name}" is not running')
    return status.container_id.partition("://")[2]


class _Session:
    """One client and one process, until either is over."""

    def __init__(self, socket: WebSocket, *, v5: bool) -> None:
        self._socket = socket
        self._v5 = v5
        self._lock = anyio.Lock()

    async def run(self, start: Callable[[], Any], *, attach: bool) -> None:
        status: dict[str, Any] = internal_error("the client is gone")
        async with anyio.create_task_group() as tasks:
            try:
                async with start() as process:
                    tasks.start_soon(self._receive, process, tasks.cancel_scope)
                    code = await self._copy(process)
                status = success() if attach else exit_status(code)
            except* (CRIError, PodliteError, OSError) as errors:
                status = internal_error(explain(_first(errors)))
            except* (anyio.BrokenResourceError, anyio.ClosedResourceError, RuntimeError, WebSocketDisconnect) as errors:
                log.debug("the client of an exec is gone", why=explain(_first(errors)))
            await self._finish(status)
            tasks.cancel_scope.cancel()

    async def _copy(self, process: ExecStream) -> int:
        """Copies the outputs until the process has ended; returns its exit code."""
        async with anyio.create_task_group() as copying:
            open_outputs = 0
            moved = [anyio.Event()]

            async def copy(stream: ByteReceiveStream, channel: int) -> None:
                nonlocal open_outputs
                try:
                    async for chunk in stream:
                        await self._send(channel, chunk)
                        moved[0].set()
                except anyio.BrokenResourceError:
                    pass
                finally:
                    open_outputs -= 1
                    moved[0].set()

            for stream, channel in ((process.stdout, STDOUT), (process.stderr, STDERR)):
                if stream is not None:
                    open_outputs += 1
                    copying.start_soon(copy, stream, channel)
            code = await process.wait()
            while open_outputs:
                moved[0] = anyio.Event()
                with anyio.move_on_after(DRAIN_SECONDS) as pause:
                    await moved[0].wait()
                if pause.cancelled_caught:
                    break
            copying.cancel_scope.cancel()
        return code

    async def _receive(self, process: ExecStream, scope: anyio.CancelScope) -> None:
        """Takes in what the client sends; its end is the end of the session."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                scope.cancel()
                return
            data: bytes = message.get("bytes") or (message.get("text") or "").encode()
            if not data:
                continue
            if data[0] == STDIN:
                await self._input(process, data[1:])
            elif data[0] == RESIZE:
                await self._resize(process, data[1:])
            elif data[0] == CLOSE and self._v5 and data[1:2] == bytes([STDIN]) and process.stdin is not None:
                await process.stdin.aclose()

    async def _input(self, process: ExecStream, data: bytes) -> None:
        if process.stdin is None:
            return
        try:
            await process.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # it does not want to know

    async def _resize(self, process: ExecStream, data: bytes) -> None:
        try:
            size = msgspec.json.decode(data)
            width, height = int(size["Width"]), int(size["Height"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return
        if 0 < width < 65536 and 0 < height < 65536:
            try:
                await process.resize(width, height)
            except CRIError:
                pass  # it has ended

    async def _send(self, channel: int, data: bytes) -> None:
        async with self._lock:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def _finish(self, status: dict[str, Any]) -> None:
        try:
            await self._send(ERROR, encode(status))
            await self._socket.close(1000)
        except (RuntimeError, WebSocketDisconnect, OSError):
            pass  # the client is gone


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def success() -> dict[str, Any]:
    return {"metadata": {}, "status": "Success"}


def exit_status(code: int) -> dict[str, Any]:
    """The status of a process that ended with this code."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        "code": 500,
    }


def internal_error(text: str) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "message": text, "reason": "InternalError", "code": 500}
