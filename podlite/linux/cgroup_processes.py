"""The processes of a cgroup: which there are, ending them, stopping them, and hearing of their end by OOM.

Sources: Documentation/admin-guide/cgroup-v2.rst ("Core Interface Files"), cgroup-v1/{freezer-subsystem,memory}.rst.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from podlite.linux.cgroup_files import CgroupError, explain, read, read_numbers, write
from podlite.linux.cgroup_walk import walk


def processes(directory: str) -> list[int]:
    """The processes in a cgroup and below, none where it is gone. 0 stands for one outside our pid namespace."""
    found: list[int] = []

    def collect(fd: int) -> None:
        try:
            found.extend(int(pid) for pid in _read_below(fd, "cgroup.procs").split())
        except OSError as error:
            # Removed between open and read, or a threaded cgroup, whose processes its parent lists.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise

    try:
        walk(directory, collect)
    except OSError as error:
        raise explain("list the processes of", directory, error) from error
    return found


def _read_below(directory_fd: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def kill_v2(directory: str) -> bool:
    """SIGKILL to everything in the cgroup and below, at once. False where the kernel (before 5.14) cannot."""
    try:
        write(f"{directory}/cgroup.kill", "1")
    except FileNotFoundError:
        return not os.path.isdir(directory)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return error.errno == errno.ENODEV
        raise explain("kill the processes of", directory, error) from error
    return True


def kill_each(directory: str) -> None:
    """SIGKILL to each process in the cgroup and below, until a look finds none that was not signalled before."""
    signalled: set[int] = set()
    while True:
        found = {pid for pid in processes(directory) if pid > 0}
        if found <= signalled:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        signalled |= found


def freeze_v2(directory: str, frozen: bool) -> None:
    try:
        write(f"{directory}/cgroup.freeze", "1" if frozen else "0")
    except OSError as error:
        raise explain("freeze" if frozen else "thaw", directory, error) from error


def freeze_v1(directory: str, frozen: bool, timeout: float = 2.0) -> None:
    """Freezing can hang on a process that forks all the while, so it is asked for again until it is done."""
    wanted = "FROZEN" if frozen else "THAWED"
    deadline = time.monotonic() + timeout
    try:
        while True:
            write(f"{directory}/freezer.state", wanted)
            if read(f"{directory}/freezer.state").strip() == wanted:
                return
            if time.monotonic() >= deadline:
                write(f"{directory}/freezer.state", "THAWED")
                raise CgroupError(f"the cgroup {directory} did not become {wanted.lower()} in {timeout:g} s")
            time.sleep(0.001)
    except OSError as error:
        raise explain("freeze" if frozen else "thaw", directory, error) from error


def wait_empty_v2(directory: str, timeout: float) -> bool:
    """Waits until no process is left in the cgroup or below. False if there still is one after `timeout` seconds."""
    try:
        fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        # kernfs announces a change of the file with POLLPRI.
        poller.register(fd, select.POLLPRI)
        deadline = time.monotonic() + timeout
        while True:
            try:
                events = os.pread(fd, 4096, 0)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return True
                raise explain("watch", directory, error) from error
            if b"populated 0" in events:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
    finally:
        os.close(fd)


def wait_empty_v1(directory: str, timeout: float) -> bool:
    """As `wait_empty_v2`, by looking again and again: v1 tells nobody."""
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while processes(directory):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return True


def oom_kills(file: str) -> int:
    """How many processes the kernel killed in a cgroup for lack of memory: of memory.events or memory.oom_control.

    0 where the cgroup is gone. v2 counts what is below the cgroup too; v1 does not.
    """
    try:
        return read_numbers(file).get("oom_kill", 0)
    except OSError:
        return 0


class OomWatch:
    """An fd that becomes readable when a cgroup has run out of memory. Close it with `close`.

    It may become readable without a kill, for other events in memory.events: `oom_kills` tells. After each time
    `drain` it. On v1 it becomes readable once more when the cgroup is removed.
    """

    def __init__(self, directory: str, version: int) -> None:
        """Raises CgroupError."""
        self._version = version
        try:
            self.fd = _watch_v2(directory) if version == 2 else _watch_v1(directory)
        except OSError as error:
            raise explain("watch for OOM kills in", directory, error) from error

    def drain(self) -> None:
        """Makes the fd unreadable until the next event."""
        try:
            while os.read(self.fd, 8 if self._version == 1 else 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _watch_v1(directory: str) -> int:
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write(f"{directory}/cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)
    except OSError:
        os.close(event)
        raise
    return event


def _watch_v2(directory: str) -> int:
    from podlite.linux import inotify

    fd = inotify.init()
    try:
        inotify.add_watch(fd, f"{directory}/memory.events", inotify.IN_MODIFY)
    except OSError:
        os.close(fd)
        raise
    return fd
