"""One container as its shim sees it: process, output, exit.

    starting ── execve worked ──▶ running ── reaped ──▶ exited
        └─────────── reaped before execve ──────────▶ failed

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os
import time

from podlite.linux.cgroup_walk import thaw_v1
from podlite.runtime.shim.logs import CHUNK, LogWriter
from podlite.runtime.shim.loop import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podlite.runtime.shim.loop import Loop

# In the flags of /proc/PID/stat (include/linux/sched.h): from the beginning of do_exit on, before namespaces are left.
_PF_EXITING = 0x4

STARTING, RUNNING, EXITED, FAILED = "starting", "running", "exited", "failed"

# Chunks of one stream between two looks at the others: a flood from one container holds up nobody.
_TURN = 16
# A pipe holds 64 KiB (1 MiB at the most, pipe(7)), so this empties one that nobody writes to any more.
_DRAIN = 128
# What an attached client may lag behind before it is cut off; the container never waits for it.
ATTACH_BUFFER = 1 << 20
# Clients of one stream: each costs a descriptor, and without descriptors a shim can do nothing for its pod.
ATTACHMENTS = 64


class Output:
    """One output stream: a pipe's (or terminal's) read end, its name in the log, and who else wants it."""

    __slots__ = ("attached", "fd", "name")

    def __init__(self, fd: int, name: bytes) -> None:
        self.fd = fd
        self.name = name
        self.attached: list[Attachment] = []


class Attachment:
    """A client's pipe that gets a copy of an output stream; what it does not take waits up to ATTACH_BUFFER."""

    __slots__ = ("buffer", "ending", "fd", "loop")

    def __init__(self, fd: int, loop: Loop) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.loop = loop
        self.buffer = b""
        self.ending = False

    def push(self, chunk: bytes) -> bool:
        """False when the client is gone or too slow; it is closed then."""
        if self.fd < 0:
            return False
        if self.buffer:
            self.buffer += chunk
            if len(self.buffer) > ATTACH_BUFFER:
                self.close()
                return False
            return True
        try:
            try:
                written = os.write(self.fd, chunk)
            except BlockingIOError:
                written = 0
            if written < len(chunk):
                self.loop.watch(self.fd, self._flush, WRITE)
                self.buffer = chunk[written:]
        except OSError:
            # The client is gone, or it passed what cannot be waited for.
            self.close()
            return False
        return True

    def _flush(self, events: int) -> None:
        try:
            written = os.write(self.fd, self.buffer)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self.buffer = self.buffer[written:]
        if not self.buffer:
            self.loop.forget(self.fd)
            if self.ending:
                self.close()

    def finish(self) -> None:
        """The output has ended: closes as soon as the client has taken all of it."""
        self.ending = True
        if not self.buffer:
            self.close()

    def close(self) -> None:
        """Idempotent."""
        if self.fd >= 0:
            self.loop.forget(self.fd)
            os.close(self.fd)
            self.fd = -1


def is_ending(pid: int) -> bool:
    """Whether a process exits, or has done so and is a zombie, or is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return True
    finally:
        os.close(fd)
    return bool(int(fields[6]) & _PF_EXITING)


class Container:
    """The state of one container in its shim; `process` is what an exec into it inherits."""

    def __init__(self, message: dict[str, Any], log: LogWriter, loop: Loop) -> None:
        self.id: str = message["container"]
        self.process: dict[str, Any] = message["process"]
        self.cgroup: str = message["cgroup"]
        self.cgroups: list[str] = message["cgroups"]
        self.oom_score_adj: int | None = message["oom_score_adj"]
        self.kill_file: str = message["kill_file"]
        self.freezer: str = message["freezer"]
        self.oom_file: str = message["oom_file"]
        self.stdin_once: bool = message["stdin_once"]
        self.seccomp = b""
        self.pid = 0
        self.pidfd = -1
        self.state = STARTING
        self.log = log
        self.loop = loop
        self.outputs: list[Output] = []
        self.stdin = -1
        self.terminal = -1
        self.wait_status: int | None = None
        self.started_at = 0
        self.finished_at = 0
        self.started_ns = 0
        self.oom = False

    # --- output -----------------------------------------------------------------------------

    def pump(self) -> None:
        """Starts copying the output streams into the log."""
        for output in self.outputs:
            os.set_blocking(output.fd, False)
            self._watch(output)

    def _watch(self, output: Output) -> None:
        self.loop.watch(output.fd, lambda events: self._read(output))

    def _read(self, output: Output, turns: int = _TURN) -> None:
        for _ in range(turns):
            try:
                chunk = os.read(output.fd, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                # EIO: a terminal whose last user is gone. While the container runs somebody may open it again.
                self._pause_terminal(output)
                return
            if not chunk:
                self._close_output(output)
                return
            self.log.write(output.name, chunk)
            if output.attached:
                output.attached = [each for each in output.attached if each.push(chunk)]

    def _pause_terminal(self, output: Output) -> None:
        """Looks again a little later: a hung-up terminal is always ready and would keep the loop busy."""
        self.loop.forget(output.fd)

        def again() -> None:
            if output in self.outputs:
                self._watch(output)

        self.loop.after(0.1, again)

    def _close_output(self, output: Output) -> None:
        self.loop.forget(output.fd)
        if output.fd != self.terminal:
            os.close(output.fd)
        for each in output.attached:
            each.finish()
        self.outputs.remove(output)

    # --- exit -------------------------------------------------------------------------------

    def ending(self) -> bool:
        """Whether the first process is past its end, reaped or not: its namespaces cannot be entered any more.

        setns(2) says ESRCH then, and a fork into its pid namespace ENOMEM.
        """
        return self.state != RUNNING or is_ending(self.pid)

    def reaped(self, wait_status: int) -> None:
        """The first process has been reaped: ends what is left of the container and takes in its last output.

        What was in the container's pid namespace died before its first process could be reaped. Whatever else
        holds its output (hostPID, a shared pid namespace) is killed with its cgroup and not waited for.
        """
        self.wait_status = wait_status
        self.finished_at = time.time_ns()
        self.kill()
        for output in list(self.outputs):
            self._read(output, _DRAIN)
            if output in self.outputs:
                self._close_output(output)
        self.oom = self._oom_killed()
        self.state = FAILED if self.state in (STARTING, FAILED) else EXITED
        self.release()

    def release(self) -> None:
        """Closes what an ended container no longer needs; idempotent."""
        for output in list(self.outputs):
            self._close_output(output)
        self.log.close()
        for name in ("stdin", "terminal", "pidfd"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    @property
    def exit_code(self) -> int:
        """0-255; 128 + N when signal N ended the process."""
        code = os.waitstatus_to_exitcode(self.wait_status or 0)
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """SIGKILL to everything in the container's own cgroup (cgroup.kill), if it has one; what it froze is thawed.

        Its root can freeze its processes in v1's freezer, and SIGKILL does not end those before they are thawed.
        """
        if self.kill_file:
            try:
                fd = os.open(self.kill_file, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, b"1")
                finally:
                    os.close(fd)
            except OSError:
                # Removed already, or a kernel before 5.14: the pid namespace's end has killed what was in it.
                pass
        if self.freezer:
            try:
                thaw_v1(self.freezer)
            except OSError:
                # Descriptors have run out; whoever asked for the end asks again.
                pass

    def _oom_killed(self) -> bool:
        """Whether the kernel killed something in this container's cgroup for memory."""
        if not self.oom_file:
            return False
        try:
            with open(self.oom_file, "rb") as file:
                for line in file:
                    key, _, value = line.partition(b" ")
                    if key == b"oom_kill":
                        return int(value) > 0
        except (OSError, ValueError):
            pass
        return False
