"""The doors of pods on another runtime than podlite's own: where other processes ask whoever runs such a pod.

A pod of podlite's own is asked through its shim. For these the process that runs them listens itself, on a socket
beside the pod's file (podlite.kubelet.written_pods), and speaks the shim's protocol as far as it concerns the owner:

    guest                              owner
        | -- delete {id, grace} --------> |     `podlite rm`; -1 for the pod's own grace period
        | -- debug {id, container} -----> |     `podlite debug`
        | <-- done {id} ----------------- |     or  failed {id, error}
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from podlite import log
from podlite.errors import explain
from podlite.kubelet.paths import pod_record_dir
from podlite.kubelet.status_manager import DELETED
from podlite.kubelet.written_pods import DOOR
from podlite.linux import unix_sockets
from podlite.readiness import wait_readable
from podlite.runtime import channel  # noqa: F401  sets the protocol's codec
from podlite.runtime.shim import protocol

if TYPE_CHECKING:
    from podlite.kubelet.kubelet import Kubelet

_BACKLOG = 16
# So often it is looked whether a new pod has been written down.
_WRITTEN_SECONDS = 0.02


class Doors:
    """One for each pod of the kubelet, as long as `run` runs.

    `on_delete` and `on_debug` get the pod's UID and the grace period, or the container as it is written in JSON.
    """

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._open: dict[str, anyio.CancelScope] = {}
        self.on_delete: Callable[[str, int], None] = lambda uid, grace: None
        self.on_debug: Callable[[str, dict[str, Any]], None] = lambda uid, container: None

    async def run(self) -> None:
        """Until it is cancelled. Doors of pods that are removed close; their files go with the pod's."""
        async with anyio.create_task_group() as tasks:
            with self._kubelet.watch(initial=True) as changes:
                async for change in changes:
                    uid = change.pod.metadata.uid
                    if change.type == DELETED:
                        scope = self._open.pop(uid, None)
                        if scope is not None:
                            scope.cancel()
                    elif uid not in self._open:
                        self._open[uid] = anyio.CancelScope()
                        tasks.start_soon(self._serve, uid, self._open[uid])

    async def _serve(self, uid: str, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                sock = await self._listen(uid)
            except OSError as error:
                log.warning("other processes cannot ask for a pod's deletion", uid=uid, why=explain(error))
                return
            await self._receive(uid, sock)

    async def _listen(self, uid: str) -> socket.socket:
        """Raises OSError, but not for a pod that is known and not written down yet."""
        directory = pod_record_dir(self._kubelet.config, uid)
        while True:
            try:
                return await to_thread.run_sync(_listen, directory)
            except FileNotFoundError:
                # Once it is removed instead, this is cancelled.
                await anyio.sleep(_WRITTEN_SECONDS)

    async def _receive(self, uid: str, sock: socket.socket) -> None:
        with sock:
            async with anyio.create_task_group() as guests:
                while True:
                    await wait_readable(sock)
                    try:
                        guest, _ = sock.accept()
                    except BlockingIOError:
                        continue  # it has left again
                    guests.start_soon(self._answer, uid, guest)

    async def _answer(self, uid: str, guest: socket.socket) -> None:
        guest.setblocking(False)
        with guest:
            try:
                while True:
                    await wait_readable(guest)
                    received = protocol.receive(guest)
                    if received is None:
                        return
                    message, fds = received
                    for fd in fds:
                        os.close(fd)
                    protocol.send(guest, {**self._act(uid, message), "id": message.get("id", 0)})
            except (OSError, protocol.ProtocolError) as error:
                log.debug("a guest at a pod's door is sent away", uid=uid, why=str(error))

    def _act(self, uid: str, message: dict[str, Any]) -> dict[str, Any]:
        match message:
            case {"m": "delete", "grace": int(grace)}:
                self.on_delete(uid, grace)
            case {"m": "debug", "container": dict(container)}:
                self.on_debug(uid, container)
            case _:
                return {"m": "failed", "error": "the pod is on another runtime, which has to be asked for that"}
        return {"m": "done"}


def _listen(directory: str) -> socket.socket:
    """Blocking. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        unix_sockets.listen(
            sock, f"{directory}/{DOOR}", _BACKLOG
        )  # one's that was killed, whose pods are ours now, goes
    except BaseException:
        sock.close()
        raise
    return sock
