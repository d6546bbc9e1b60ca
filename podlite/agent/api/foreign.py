"""The pods of other podlites on this machine, such as foreground runs: seen through the run directory's files.

One inotify instance: on the directory of all pods for those that come and go, and on each other podlite's pod for its
file, which is replaced with every change.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite import log
from podlite.errors import explain
from podlite.kubelet.written_pods import NAME, find
from podlite.linux import inotify
from podlite.runtime import run_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from podlite.api.pod import Pod
    from podlite.kubelet.written_pods import WrittenPod

_COMING = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_ONLYDIR
_CHANGES = inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_DELETE_SELF | inotify.IN_ONLYDIR
# A killed process changes no file: who holds a pod's lock is looked at this often.
_LOOK_SECONDS = 2.0


class ForeignPods:
    """Follows them; `put(pod, written)` and `gone(uid)` are called on the event loop. `is_own` tells the agent's."""

    def __init__(
        self,
        pods_dir: str,
        *,
        is_own: Callable[[str], bool],
        put: Callable[[Pod, WrittenPod], None],
        gone: Callable[[str], None],
    ) -> None:
        self._pods_dir = pods_dir
        self._is_own = is_own
        self._put = put
        self._gone = gone
        self._known: dict[str, WrittenPod] = {}
        self._watches: dict[int, str] = {}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Reports as started once everything that is there is known."""
        fd, started = -1, False
        try:
            fd = inotify.init()
            await to_thread.run_sync(_make_directory, self._pods_dir)
            top = inotify.add_watch(fd, self._pods_dir, _COMING)
            await self._look_at_all(fd)
            started = True
            task_status.started()
            while True:
                with anyio.move_on_after(_LOOK_SECONDS if self._known else None):
                    await anyio.wait_readable(fd)
                events = inotify.read_events(fd)
                if any(each.mask & inotify.IN_Q_OVERFLOW for each in events) or not events:
                    await self._look_at_all(fd)
                    continue
                uids = {each.name.partition(".")[0] for each in events if each.watch == top}
                uids |= {self._watches[each.watch] for each in events if each.watch in self._watches}
                for each in events:
                    if each.mask & inotify.IN_IGNORED:
                        self._watches.pop(each.watch, None)
                for uid in uids:
                    await self._look(fd, uid)
        except OSError as error:
            log.warning("the pods of other podlites are not seen", why=explain(error))
            if not started:
                task_status.started()
            await anyio.sleep_forever()
        finally:
            if fd >= 0:
                anyio.notify_closing(fd)
                os.close(fd)

    async def _look_at_all(self, fd: int) -> None:
        names = await to_thread.run_sync(os.listdir, self._pods_dir)
        for uid in {name.partition(".")[0] for name in names} | set(self._known):
            await self._look(fd, uid)

    async def _look(self, fd: int, uid: str) -> None:
        if self._is_own(uid):
            self._forget(uid)
            return
        directory = f"{self._pods_dir}/{uid}"
        if uid not in self._watches.values():
            try:
                self._watches[inotify.add_watch(fd, directory, _CHANGES)] = uid
            except OSError:
                self._forget(uid)
                return
        try:
            written = await to_thread.run_sync(find, directory)
        except FileNotFoundError:
            self._forget(uid)
            return
        except (OSError, ValueError) as error:
            log.debug("a pod's file cannot be read", path=f"{directory}/{NAME}", why=explain(error))
            return
        if self._is_own(uid):
            return
        self._known[uid] = written
        self._put(written.shown(), written)

    def _forget(self, uid: str) -> None:
        if self._known.pop(uid, None) is not None:
            self._gone(uid)


def _make_directory(path: str) -> None:
    run_directory.prepare(os.path.dirname(path))
    os.makedirs(path, mode=0o700, exist_ok=True)
