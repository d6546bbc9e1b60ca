"""What a shim is asked for, message by message; see `protocol`.

Each handler may take a descriptor over by putting -1 in its place; the others are closed after it. What it raises
becomes the answer `failed`.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os
import signal

from podlite.linux import terminal
from podlite.linux.process import signal_child
from podlite.runtime.shim import protocol
from podlite.runtime.shim.container import (
    ATTACHMENTS,
    EXITED,
    FAILED,
    RUNNING,
    STARTING,
    Attachment,
)
from podlite.runtime.shim.pod import NotRunning, Refused
from podlite.runtime.shim.protocol import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.runtime.shim.clients import Client
    from podlite.runtime.shim.protocol import Message
    from podlite.runtime.shim.shim import Shim

    Handler = Callable[[Shim, Client, Message, list[int]], None]


def _join(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """The pod's network namespace (and user namespace), once they exist, and what an orphan does."""
    shim.pod.config["orphan"] = message.get("orphan", shim.pod.config["orphan"])
    shim.pod.join({name: take(fds, index) for name, index in message["namespaces"].items()})


def _assign(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    shim.pod.assign(message["identity"], message["orphan"])


def _prepare(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """A container has been created; no answer."""
    if not shim.ending:
        shim.starts.ahead.prepare(message)


def _discard(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """It will not be started; no answer."""
    shim.starts.ahead.discard(message["container"])


def _start(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    if shim.ending:
        raise Refused("the pod is ending")
    shim.starts.begin(client, message, fds)


def _exec(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    shim.execs.begin(client, message, fds)


def _signal(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    number = message["signal"]
    if "exec" in message:
        shim.execs.signal(message["exec"], number)
    else:
        container = shim.pod.find(message)
        if number == signal.SIGKILL:
            shim.pod.kill(container)
        elif container.state in (STARTING, RUNNING):
            signal_child(container.pid, number)
    client.send({"m": "done", "id": message["id"]})


def _resize(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    container = shim.pod.find(message)
    if container.terminal >= 0:
        terminal.set_window(container.terminal, message["width"], message["height"])
    client.send({"m": "done", "id": message["id"]})


def _reopen(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    container = shim.pod.find(message)
    if container.state != RUNNING:
        raise NotRunning(container)
    container.log.reopen(take(fds, 0))
    client.send({"m": "done", "id": message["id"]})


def _attach(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """Copies the output to the client's pipes from now on, and hands it the container's standard input."""
    container = shim.pod.find(message)
    if container.state != RUNNING:
        raise NotRunning(container)
    given = []
    if message["stdin"]:
        source = container.terminal if container.terminal >= 0 else container.stdin
        if source < 0:
            raise Refused(f"container {container.id} has no standard input: its spec does not say `stdin: true`")
        given.append(source)
    for output in container.outputs:
        index = message["stdio"].get(output.name.decode())
        if index is not None:
            if len(output.attached) >= ATTACHMENTS:
                raise Refused(f"{ATTACHMENTS} clients are attached to container {container.id} already")
            output.attached.append(Attachment(take(fds, index), shim.pod.loop))
    client.send({"m": "attached", "id": message["id"], "tty": container.terminal >= 0}, given)
    if given and container.stdin_once and container.stdin >= 0:
        # The end of this client's input is the end of the container's.
        os.close(container.stdin)
        container.stdin = -1


def _status(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    client.send({**_states(shim, message), "orphan": shim.pod.config["orphan"]})


def _adopt(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """Makes the sender the owner; a former one becomes a guest."""
    shim.change_owner(client)
    shim.pod.config["orphan"] = message["orphan"]
    client.send(_states(shim, message))


def _states(shim: Shim, message: Message) -> Message:
    containers = [
        {
            "container": each.id,
            "state": each.state,
            "pid": each.pid,
            "started_at": each.started_at,
            "finished_at": each.finished_at,
            "code": each.exit_code if each.wait_status is not None else 0,
            "oom": each.oom,
        }
        for each in shim.pod.containers.values()
    ]
    answer = {"m": "status", "id": message["id"], "version": protocol.VERSION, "prepares": True}
    return {**answer, "containers": containers}


def _namespaces(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """The pod's own namespaces, for `podlite nsenter`: those of a pod in which nothing runs are only here."""
    held = shim.pod.namespaces
    client.send({"m": "namespaces", "id": message["id"], "names": [*held]}, [*held.values()])


def _delete(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """Somebody else wants the pod gone: its owner knows how."""
    if shim.owner is None:
        raise Refused("nobody owns this pod")
    shim.tell_owner({"m": "delete", "grace": message["grace"]})
    client.send({"m": "done", "id": message["id"]})


def _debug(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """Somebody else wants an ephemeral container in the pod: its owner starts it."""
    if shim.owner is None:
        raise Refused("nobody owns this pod")
    shim.tell_owner({"m": "debug", "container": message["container"]})
    client.send({"m": "done", "id": message["id"]})


def _forget(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    """The container has been removed; no answer."""
    container = shim.pod.containers.get(message["container"])
    if container is not None and container.state in (EXITED, FAILED):
        del shim.pod.containers[container.id]


def _shutdown(shim: Shim, client: Client, message: Message, fds: list[int]) -> None:
    client.send({"m": "done", "id": message["id"]})
    shim.pod.config["orphan"] = "end"
    shim.end()


HANDLERS: dict[str, Handler] = {
    "join": _join,
    "assign": _assign,
    "prepare": _prepare,
    "discard": _discard,
    "start": _start,
    "exec": _exec,
    "signal": _signal,
    "resize": _resize,
    "reopen": _reopen,
    "attach": _attach,
    "status": _status,
    "namespaces": _namespaces,
    "adopt": _adopt,
    "delete": _delete,
    "debug": _debug,
    "forget": _forget,
    "shutdown": _shutdown,
}
