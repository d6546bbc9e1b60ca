"""A directory of manifests: read at once, at every change, and again every so often. One file, one source of pods.

As the kubelet: what begins with a dot is not read, nor what is no regular file; a renamed file is another one. Beyond
it: a file that somebody has open for writing is not read before he closes it (fcntl(2), F_SETLEASE tells), so that
half a manifest is never taken for a whole one.

Source: pkg/kubelet/config/file.go and file_linux.go, Kubernetes 1.36.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite import log
from podlite.agent.sources.manifests import ManifestSource
from podlite.agent.sources.static_pods import FILE
from podlite.errors import explain
from podlite.linux import inotify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# The kubelet's fileCheckFrequency.
CHECK_SECONDS = 20.0
# v1 objects are limited to some 1.5 MiB by etcd; what is larger is no manifest.
_LARGEST = 10 << 20
_CHANGES = (
    inotify.IN_CLOSE_WRITE
    | inotify.IN_MOVED_TO
    | inotify.IN_MOVED_FROM
    | inotify.IN_CREATE
    | inotify.IN_DELETE
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
    | inotify.IN_ONLYDIR
)


class DirectorySource:
    """Follows one directory, which need not exist yet.

    `changed()` is called after each change of what the manifests say, `problem(path, text)` for each file that cannot
    be used, once for each version of it.
    """

    def __init__(
        self,
        directory: str,
        node_name: str,
        *,
        changed: Callable[[], Awaitable[None]],
        problem: Callable[[str, str], None],
        now: Callable[[], str],
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self.directory = os.path.abspath(directory)
        self.manifests = ManifestSource(FILE, node_name)
        self._changed = changed
        self._problem = problem
        self._now = now
        self._check_seconds = check_seconds
        self._unreadable: dict[str, str] = {}
        self._reload = anyio.Event()

    async def read(self) -> bool:
        """Reads everything now; whether anything has changed."""
        found = await to_thread.run_sync(read_directory, self.directory)
        changed = False
        for path, each in found.items():
            if isinstance(each, bytes):
                self._unreadable.pop(path, None)
                said = self.manifests.read(path, each, self._now())
                if said:
                    self._problem(path, said)
                changed |= said == ""
            elif each is not None and self._unreadable.get(path) != each:
                self._unreadable[path] = each
                self._problem(path, each)
        return self.manifests.keep_only(found) or changed

    def reload(self) -> None:
        """Has everything read again at once."""
        self._reload.set()

    async def run(self) -> None:
        """Follows the directory until it is cancelled. What goes wrong in one look is logged, and looked at again."""
        fd = self._init()
        try:
            watched = False
            while True:
                if not watched:
                    watched = self._watch(fd)
                try:
                    if await self.read():
                        await self._changed()
                except Exception as error:
                    log.error("manifests cannot be read", directory=self.directory, why=explain(error), exc_info=True)
                self._reload = anyio.Event()
                with anyio.move_on_after(self._check_seconds):
                    await self._wait(fd)
                for event in inotify.read_events(fd) if fd >= 0 else ():
                    if event.mask & (inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF | inotify.IN_IGNORED):
                        watched = False
        finally:
            if fd >= 0:
                anyio.notify_closing(fd)
                os.close(fd)

    def _init(self) -> int:
        """-1 where there are no inotify instances left: then changes are seen with the next look."""
        try:
            return inotify.init()
        except OSError as error:
            log.warning("changes of manifests are seen only by looking", directory=self.directory, why=explain(error))
            return -1

    async def _wait(self, fd: int) -> None:
        """Returns when there is news of the directory, or `reload` was called."""
        if fd < 0:
            await self._reload.wait()
            return
        async with anyio.create_task_group() as tasks:

            async def reload() -> None:
                await self._reload.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(reload)
            await anyio.wait_readable(fd)
            tasks.cancel_scope.cancel()

    def _watch(self, fd: int) -> bool:
        if fd < 0:
            return True
        try:
            inotify.add_watch(fd, self.directory, _CHANGES)
            return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            log.warning("changes of manifests are seen only by looking", directory=self.directory, why=explain(error))
            return False


def read_directory(directory: str) -> dict[str, bytes | str | None]:
    """Path → text; a sentence for a file that cannot be read, None for one that is being written. Blocking.

    Empty for a directory that is not there.
    """
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found: dict[str, bytes | str | None] = {}
    for name in names:
        if name.startswith("."):
            continue
        path = f"{directory}/{name}"
        try:
            text = read_manifest(path)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            found[path] = None
            continue
        except OSError as error:
            found[path] = f"{path} cannot be read: {error.strerror}"
            continue
        if text is not None:
            found[path] = text
    return found


def read_manifest(path: str) -> bytes | None:
    """A file's content, None for what is no regular file (a link may lead to one). Blocking.

    Raises OSError, and BlockingIOError for a file that somebody is writing.
    """
    # A FIFO would wait for its writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > _LARGEST:
            raise OSError(errno.EFBIG, f"a manifest has at most {_LARGEST >> 20} MiB", path)
        if _is_being_written(fd):
            raise BlockingIOError(errno.EAGAIN, "somebody is writing it", path)
        data = bytearray()
        while chunk := os.read(fd, 1 << 20):
            data += chunk
            if len(data) > _LARGEST:
                raise OSError(errno.EFBIG, f"a manifest has at most {_LARGEST >> 20} MiB", path)
        return bytes(data)
    finally:
        os.close(fd)


def _is_being_written(fd: int) -> bool:
    """A read lease is refused while anybody has the file open for writing."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # Not every file system has leases; then what is read may be half a manifest, which is mostly a broken one.
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
