"""…/exec and …/attach: a container's streams over a WebSocket, v5.channel.k8s.io or v4.channel.k8s.io.

Each message begins with the number of its channel: 0 input, 1 output, 2 errors, 3 the final Status, 4 the terminal's
size, and in v5 255, which ends the channel whose number follows. An exec whose client is gone is killed; an attached
container goes on.

Source: k8s.io/apimachinery/pkg/util/remotecommand/constants.go and k8s.io/client-go/tools/remotecommand, 1.36.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from starlette.websockets import WebSocketDisconnect

from podlite.agent.api.errors import ApiError, bad_request
from podlite.agent.api.http import answer_error, encode
from podlite.agent.foreign_pods import NoShimError, open_shim
from podlite.cri.errors import NotFoundError, UnavailableError
from podlite.errors import UsageError
from podlite.kubelet.instance_end import ForgottenInstanceError, bare_id, instance_end
from podlite.kubelet.labels import find_container
from podlite.kubelet.log_source import find_status
from podlite.rpc.streaming.channels import V5, WEBSOCKET_PROTOCOLS, Channels
from podlite.rpc.streaming.remotecommand import serve

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from podlite.agent.api.state import ApiState
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStateTerminated
    from podlite.cri.services import ExecStream
    from podlite.kubelet.written_pods import WrittenPod

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
_CLOSE = 255


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
            protocol = next((each for each in WEBSOCKET_PROTOCOLS if each in offered), "")
            if not protocol:
                raise bad_request(f"the WebSocket's protocol has to be one of {', '.join(WEBSOCKET_PROTOCOLS)}")
            pod = self._state.find_pod(socket.path_params["namespace"], socket.path_params["name"])
            wanted = _wanted(socket, pod, attach=attach)
            container_id = _running(pod, wanted.container)
        except ApiError as error:
            await socket.send_denial_response(answer_error(error))
            return
        await socket.accept(subprotocol=protocol)
        channels = SocketChannels(socket, v5=protocol == V5)
        await serve(channels, lambda: self._open(pod, container_id, wanted, attach=attach), attach=attach)

    async def _open(self, pod: Pod, container_id: str, wanted: Wanted, *, attach: bool) -> ExecStream:
        """Raises CRIError."""
        uid = pod.metadata.uid
        streams: dict[str, Any] = {
            "tty": wanted.tty,
            "stdin": wanted.stdin,
            "stdout": wanted.stdout,
            "stderr": wanted.stderr and not wanted.tty,
        }
        if self._state.is_own(uid):
            assert self._state.node is not None
            runtime = self._state.node.runtime
            if attach:
                return await runtime.attach(container_id, **streams)
            return await runtime.exec(container_id, wanted.command, **streams)
        written = self._state.foreign.get(uid)
        if written is None:
            raise NotFoundError("the pod is gone")
        try:
            return await self._open_foreign(written, container_id, wanted, streams, attach=attach)
        except (NoShimError, UsageError) as error:
            raise UnavailableError(error.message) from None

    async def _open_foreign(
        self, written: WrittenPod, container_id: str, wanted: Wanted, streams: dict[str, Any], *, attach: bool
    ) -> ExecStream:
        """Raises CRIError, NoShimError, and UsageError where the pod's runtime cannot be reached from here."""
        ended = partial(self._ended, written.pod.metadata.uid, wanted.container, container_id)
        async with AsyncExitStack() as stack:
            stream: Any
            if written.holder.runtime_endpoint:
                from podlite.agent import foreign_runtime

                runtime = await stack.enter_async_context(foreign_runtime.open_runtime(written))
                if attach:
                    stream = await foreign_runtime.attach_to(runtime, container_id, ended, **streams)
                else:
                    stream = await runtime.exec(container_id, wanted.command, **streams)
            else:
                from podlite.runtime.container.attach import attach_to
                from podlite.runtime.container.exec import exec_in

                shim = await stack.enter_async_context(open_shim(written))
                if attach:
                    stream = await attach_to(shim, container_id, ended, **streams)
                else:
                    stream = await exec_in(shim, container_id, wanted.command, **streams)
            return _Guest(stream, stack.pop_all())
        raise AssertionError

    async def _ended(self, uid: str, container: str, container_id: str) -> int:
        """Waits until that instance of a container of another podlite's pod has ended; its exit code.

        0 where nobody knows it any more: the protocol has no place for an attachment's exit code.
        """
        end: ContainerStateTerminated | None = None

        def over(pod: Pod) -> bool:
            nonlocal end
            try:
                end = instance_end(pod, container, container_id)
            except ForgottenInstanceError:
                return True
            return end is not None

        await self._state.until(uid, over)
        return end.exit_code if end is not None else 0


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
    return bare_id(status.container_id)


class _Guest:
    """An exec or attachment in another podlite's pod, with the connection to its shim or runtime; see ExecStream."""

    def __init__(self, stream: ExecStream, connection: AsyncExitStack) -> None:
        self.stdin, self.stdout, self.stderr = stream.stdin, stream.stdout, stream.stderr
        self.resize, self.wait = stream.resize, stream.wait
        self._stream = stream
        self._connection = connection

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._connection.aclose()

    async def __aenter__(self) -> ExecStream:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class SocketChannels(Channels):
    """The channels over Starlette's WebSocket; v4 cannot end the input without ending everything."""

    def __init__(self, socket: WebSocket, *, v5: bool) -> None:
        super().__init__()
        self._socket = socket
        self._v5 = v5
        self._lock = anyio.Lock()

    async def receive(self) -> None:
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            data: bytes = message.get("bytes") or (message.get("text") or "").encode()
            channel, data = data[:1], data[1:]
            if channel == bytes([_NUMBERS["stdin"]]):
                await self.stdin.feed(data)
            elif channel == bytes([_NUMBERS["resize"]]):
                self.resized(data)
            elif channel == bytes([_CLOSE]) and self._v5 and data[:1] == bytes([_NUMBERS["stdin"]]):
                self.stdin.finish()
        self.stdin.finish(anyio.BrokenResourceError())

    async def write(self, name: str, data: bytes) -> None:
        try:
            async with self._lock:
                await self._socket.send_bytes(bytes([_NUMBERS[name]]) + data)
        except (RuntimeError, WebSocketDisconnect, OSError):
            raise anyio.BrokenResourceError from None

    async def end(self, name: str) -> None:
        """Clients take an output for ended when the connection is."""

    async def finish(self, status: dict[str, Any]) -> None:
        try:
            await self.write("error", encode(status))
            await self._socket.close(1000)
        except (anyio.BrokenResourceError, RuntimeError, WebSocketDisconnect, OSError):
            pass  # the client is gone
