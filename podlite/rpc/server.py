"""The gRPC server in front of a runtime: `podlite cri`.

Every call that does something runs in a task of the server's own task group, not in gRPC's: when its client
cancels it or vanishes, the call is cancelled as any other work here is, takes back what it began, and is waited for
when the server ends. gRPC's own task, which asyncio cancels without regard for shields, only waits for the result.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import grpc
import grpc.aio
from anyio import to_thread
from google.protobuf.message_factory import GetMessageClass

from podlite import log
from podlite.cri.errors import CRIError
from podlite.errors import PodliteError, UsageError, explain
from podlite.rpc.codes import status_code
from podlite.rpc.image_calls import ImageCalls
from podlite.rpc.runtime_calls import RuntimeCalls
from podlite.rpc.wire import runtime_pb2 as wire

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from google.protobuf.descriptor import MethodDescriptor

    from podlite.cri.services import ImageService, RuntimeService
    from podlite.rpc.streaming.server import StreamingServer

    Call = Callable[[Any], Awaitable[Any]]

# As the kubelet's client has it (cri-client: maxMsgSize), so that whatever it can send is received.
MAX_MESSAGE = 16 << 20
# Calls at a time, over all clients; one more is refused with RESOURCE_EXHAUSTED. A kubelet makes some tens.
MAX_CALLS = 2000
# How long calls that are under way may go on when the server ends; then they are cancelled and undone.
GRACE_SECONDS = 5.0
# Status texts travel in HTTP/2 headers, which clients limit to 8 KiB.
_MAX_DETAILS = 4096

# These only look, and do not wait: they are not worth a task.
_AT_ONCE = frozenset(
    ("Version", "PodSandboxStatus", "ListPodSandbox", "ContainerStatus", "ListContainers", "RuntimeConfig")
)

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 1000),
    # Two servers on one address would each get half of the connections.
    ("grpc.so_reuseport", 0),
)


@asynccontextmanager
async def serve(
    runtime: RuntimeService, images: ImageService, listen: str, streaming: StreamingServer
) -> AsyncIterator[str]:
    """Serves CRI v1 at `listen` (`unix:///path`); entering returns when the socket is there, leaving ends it.

    Calls under way get GRACE_SECONDS, then they are cancelled and undone. Raises UsageError for what cannot be
    listened on.
    """
    path = socket_path(listen)
    await to_thread.run_sync(_prepare_socket, path)
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    _bind(server, path)
    async with anyio.create_task_group() as tasks:
        calls = _Calls(tasks)
        server.add_generic_rpc_handlers(
            (
                calls.handlers("RuntimeService", RuntimeCalls(runtime, streaming)),
                calls.handlers("ImageService", ImageCalls(images)),
            )
        )
        await server.start()
        try:
            yield path
        finally:
            with anyio.CancelScope(shield=True):
                calls.end_streams()
                await server.stop(GRACE_SECONDS)
                tasks.cancel_scope.cancel()
    await to_thread.run_sync(_remove_socket, path)


def socket_path(listen: str) -> str:
    """The path of a `unix:///path` address, or of a path. Pure. Raises UsageError."""
    path = listen.removeprefix("unix://") if listen.startswith("unix://") else listen.removeprefix("unix:")
    if not path.startswith("/"):
        raise UsageError(f"{listen!r} is no socket to listen on", hint="it has the form unix:///run/podlite/cri.sock")
    if len(os.fsencode(path)) > 107:
        raise UsageError(f"the path of the socket {path} is too long: Linux allows 107 bytes")
    return path


def _prepare_socket(path: str) -> None:
    """The directory is there, and no socket of a server that has been killed. Blocking. Raises UsageError, OSError."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there already, and is no socket")
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise UsageError(f"somebody serves {path} already")


def _bind(server: Any, path: str) -> None:
    # Whoever can write to the socket is root: it makes privileged containers.
    old = os.umask(0o177)
    try:
        bound = server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise UsageError(f"{path} cannot be listened on: {error}") from None
    finally:
        os.umask(old)
    if not bound:
        raise UsageError(f"{path} cannot be listened on")


def _remove_socket(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


class _Calls:
    """Turns the methods of the two services into gRPC's handlers."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._streams: set[anyio.CancelScope] = set()

    def handlers(self, service: str, calls: object) -> grpc.GenericRpcHandler:
        """The handlers of every method of the .proto's `service`, from the methods of `calls`."""
        descriptor = wire.DESCRIPTOR.services_by_name[service]
        return grpc.method_handlers_generic_handler(
            descriptor.full_name, {method.name: self._handler(method, calls) for method in descriptor.methods}
        )

    def _handler(self, method: MethodDescriptor, calls: object) -> Any:
        call = getattr(calls, snake_case(method.name))
        decode = GetMessageClass(method.input_type).FromString
        encode = GetMessageClass(method.output_type).SerializeToString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method.name, call), decode, encode)
        return grpc.unary_unary_rpc_method_handler(self._unary(method.name, call), decode, encode)

    def _unary(self, name: str, call: Call) -> Any:
        at_once = name in _AT_ONCE

        async def handle(request: Any, context: Any) -> Any:
            try:
                return await (call(request) if at_once else self._own_task(name, call, request))
            except Exception as error:
                await _abort(name, context, error)

        return handle

    async def _own_task(self, name: str, call: Call, request: Any) -> Any:
        """Runs the call in a task of the server's; a cancellation is passed on, not waited for."""
        scope = anyio.CancelScope()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tasks.start_soon(_run, call, request, scope, result, name=name)
        try:
            return await result
        except asyncio.CancelledError:
            scope.cancel()
            raise

    def _stream(self, name: str, call: Callable[[Any], AsyncIterator[Any]]) -> Any:
        async def handle(request: Any, context: Any) -> None:
            # These look and wait; there is nothing to undo, so gRPC's own cancellation will do.
            with anyio.CancelScope() as scope:
                self._streams.add(scope)
                try:
                    async for response in call(request):
                        if response is None:
                            # It has begun, though there is nothing to say yet: the headers tell the client.
                            await context.send_initial_metadata(())
                        else:
                            await context.write(response)
                except Exception as error:
                    await _abort(name, context, error)
                finally:
                    self._streams.discard(scope)

        return handle

    def end_streams(self) -> None:
        """Ends GetContainerEvents, which would never end by itself."""
        for scope in list(self._streams):
            scope.cancel()


async def _run(call: Call, request: Any, scope: anyio.CancelScope, result: asyncio.Future[Any]) -> None:
    try:
        with scope:
            value = await call(request)
            if not result.done():
                result.set_result(value)
    except Exception as error:
        if not result.done():
            result.set_exception(error)
        else:
            log.warning("a cancelled call failed", why=explain(error))
    finally:
        if not result.done():
            # Cancelled by the server's end.
            result.set_exception(CRIError("the runtime is ending"))


async def _abort(name: str, context: Any, error: Exception) -> None:
    """Ends a call with the error's code and sentence."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, PodliteError):
        log.error("a call failed in a way that it should not", call=name, why=f"{type(error).__name__}: {error}")
    else:
        log.debug("a call failed", call=name, why=str(error))
    text = explain(error).encode("utf-8", "replace")[:_MAX_DETAILS].decode("utf-8", "ignore")
    await context.abort(status_code(error), text)


def snake_case(name: str) -> str:
    """RunPodSandbox → run_pod_sandbox. Pure."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
