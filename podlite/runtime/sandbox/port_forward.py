"""PortForward: a connection to a port on the loopback address of the pod's network."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketStream

from podlite.cri.errors import FailedPreconditionError, UnavailableError
from podlite.errors import explain
from podlite.linux import netns
from podlite.runtime.store import Sandbox

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime

# IPv4 first, as the programs in pods do; many listen on one of the two only.
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def port_forward(runtime: Runtime, pod_sandbox_id: str, port: int) -> SocketStream:
    """See RuntimeService.port_forward."""
    sandbox = runtime.store.ready_sandbox(pod_sandbox_id)
    problem: OSError | None = None
    for family, address in _LOOPBACK:
        try:
            sock = await runtime.threads.run(partial(_socket, sandbox, family))
        except OSError as error:
            if not sandbox.ready:
                raise FailedPreconditionError(f"the sandbox of pod {sandbox.pod} was stopped") from None
            problem = problem or error
            continue
        try:
            await _connect(sock, address, port)
        except OSError as error:
            sock.close()
            problem = problem or error
        except BaseException:
            sock.close()
            raise
        else:
            return await SocketStream.from_socket(sock)
    assert problem is not None
    raise UnavailableError(f"port {port} of pod {sandbox.pod} cannot be connected to: {explain(problem)}")


def _socket(sandbox: Sandbox, family: int, own_netns: int) -> socket.socket:
    """A socket stays in the namespace in which it was opened, so the connecting can be done from outside."""

    def new() -> socket.socket:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    if not sandbox.netns_path:
        return new()
    fd = os.open(sandbox.netns_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return netns.run_inside(fd, own_netns, new)
    finally:
        os.close(fd)


async def _connect(sock: socket.socket, address: str, port: int) -> None:
    try:
        sock.connect((address, port))
    except BlockingIOError:
        await anyio.wait_writable(sock)
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem)) from None
