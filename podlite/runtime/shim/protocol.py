"""How controller, spawner and shim talk: messages over SOCK_SEQPACKET Unix sockets.

One packet is one message: a JSON object whose "m" names it, with file descriptors beside it. A message
too large for a packet travels in a memfd that is the last of the descriptors. Unknown messages and broken
packets are failures, never ignored.

    controller                         spawner
        | -- fork {id, pod, …} [fds] ---> |     fds: the shim's end of its own channel, its directory
        | <-- forked {id, pid} [pidfd] -- |     or  failed {id, error}
        | (end of file)                   |     the spawner exits

    owner or guest                     shim
        | <-- ready {…} ----------------- |     once, to the owner: the pod's namespaces are made
        | -- join {} [netns] -----------> |     the pod's network namespace; no answer
        | -- assign {identity} ---------> |     a spare sandbox's pod; no answer
        | -- prepare {container …} -----> |     it has been created: its process is forked ahead; no answer
        | -- discard {container} -------> |     it will not be started; no answer
        | -- start {id, container …} [fds]|
        | <-- started {id, pid, …} ------ |     or  failed {id, error, step, code}
        | -- exec {id, …} [stdio] ------> |
        | <-- started {id, pid} [pty] --- |     or  failed, with `ended` if the container does not run any more
        | -- signal / resize -----------> |
        | -- reopen {id, container} [fd]> |     the log goes on in this file
        | <-- done {id} ----------------- |     or  failed
        | -- attach {id, container} [fds] |
        | <-- attached {id} [stdin] ----- |     or  failed
        | -- status {id} ---------------> |
        | <-- status {id, containers} --- |
        | -- namespaces {id} -----------> |
        | <-- namespaces {id, names} [fds]|     the pod's own, net, ipc, uts, as far as it has them
        | -- adopt {id} ----------------> |     the sender becomes the owner
        | -- delete {id, grace} --------> |     a guest asks; the shim relays it to the owner as an event
        | -- debug {id, container} -----> |     likewise: a guest asks for an ephemeral container
        | -- forget {container} --------> |     the container is removed; no answer
        | -- shutdown {id} -------------> |     every container is gone: the shim says done and exits
        | <~~ exited {container, code …}~ |     events, to the owner
        | <~~ exec_exited {exec, code} ~~ |     to whoever asked for the exec
        | <~~ delete {grace} ~~~~~~~~~~~~ |
        | <~~ debug {container} ~~~~~~~~~ |

`id` pairs an answer with its request. `ready`, and the `status` that answers `adopt`, say `prepares` where the shim
knows prepare and discard: those of before the two came do not. Standard library only: the shim runs this.
"""

from __future__ import annotations

import array
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    Message = dict[str, Any]

    class Codec(Protocol):
        """A module that makes bytes of objects, and objects of bytes."""

        def dumps(self, value: Message, /) -> bytes: ...
        def loads(self, data: bytes, /) -> Any: ...


# Raised by one when a message changes its meaning. A controller adopts the shims of its own version and of
# the one before it; see podlite.runtime.shim_client.
VERSION = 1

_INLINE = 60_000
_MAX_FDS = 253  # SCM_MAX_FD
# Far above what execve(2) takes of arguments and environment, which is what large messages are made of.
_MAX_SIZE = 16 << 20
_ANCILLARY = socket.CMSG_SPACE(_MAX_FDS * 4)


# The codec: the spawner uses the standard library's (`use_standard_json`), the controller msgspec's, which
# it has loaded anyway. A controller that never imports json starts 6 ms sooner.
dumps: Callable[[Message], bytes]
loads: Callable[[bytes], object]


def use_standard_json() -> None:
    """Sets the codec for a process without site-packages."""
    import json

    global dumps, loads
    encoder = json.JSONEncoder(separators=(",", ":"))
    dumps = lambda message: encoder.encode(message).encode()  # noqa: E731
    loads = json.loads


class ProtocolError(Exception):
    """The other side sent what cannot be understood."""


def encode(message: Message, fds: list[int], codec: Codec | None = None) -> tuple[bytes, list[int], int]:
    """(packet, descriptors to pass, descriptor to close after sending or -1)."""
    data = codec.dumps(message) if codec is not None else dumps(message)
    if len(data) <= _INLINE:
        return data, fds, -1
    memfd = os.memfd_create("podlite-message", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(memfd, view) :]
    return b"@", [*fds, memfd], memfd


def send(sock: socket.socket, message: Message, fds: list[int] | None = None, codec: Codec | None = None) -> None:
    """Sends one message. Raises BlockingIOError on a full non-blocking socket, OSError when the other side is gone.

    Another `codec` than JSON is for a process and its fork, such as the module marshal.
    """
    data, passed, extra = encode(message, fds or [], codec)
    try:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))] if passed else []
        sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
    finally:
        if extra >= 0:
            os.close(extra)


def receive(sock: socket.socket, codec: Codec | None = None) -> tuple[Message, list[int]] | None:
    """Receives one message and its descriptors (close-on-exec); None when the other side has closed.

    Raises BlockingIOError on an empty non-blocking socket, and ProtocolError, the descriptors closed, for
    what is no message.
    """
    data, ancillary, flags, _ = sock.recvmsg(_INLINE + 1, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
            fds.extend(received)
    if not data and not fds:
        return None
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ProtocolError("a message was cut short")
        if data == b"@":
            if not fds:
                raise ProtocolError("a message's memfd is missing")
            memfd = fds.pop()
            try:
                size = os.fstat(memfd).st_size
                if size > _MAX_SIZE:
                    raise ProtocolError(f"a message has {size} bytes")
                data = os.pread(memfd, size, 0)
            finally:
                os.close(memfd)
        try:
            message = codec.loads(data) if codec is not None else loads(data)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"a message is not JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get("m"), str):
            raise ProtocolError("a message has no name")
        if not isinstance(message.get("id", 0), int):
            raise ProtocolError("a message's id is not a number")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds


def take(fds: list[int], index: int) -> int:
    """A descriptor of a request that is to outlive it; -1 for an index of -1."""
    if index < 0:
        return -1
    fd, fds[index] = fds[index], -1
    return fd
