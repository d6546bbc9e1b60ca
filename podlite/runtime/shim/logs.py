"""A container's log file in CRI format: `2026-11-23T20:00:00.123456789Z stdout F text`.

F ends a line, P is a part of one that goes on in the next record of the same stream. Output is written as
it arrives: a part of a line is a P record at once, so that a prompt can be seen, nothing waits in memory,
and every byte can be had back by joining the records.

Source: https://github.com/kubernetes/design-proposals-archive, kubelet-cri-logging.
"""

from __future__ import annotations

import os
import time

# What is read from a pipe at once, and so the longest record; containerd's default is the same.
CHUNK = 16384


class LogWriter:
    """Writes one container's log to `fd`, which it owns; -1 discards the output.

    The file is opened by the runtime, for wherever the caller wants it, and a shim's mount namespace is its own.
    A write that fails (a full disk) loses that chunk, never the container: how much was lost is written
    into the log once it can be written to again.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._second = -1
        self._prefix = b""
        self._lost = 0
        self._why = ""

    def reopen(self, fd: int) -> None:
        """Goes on in another file, which it owns then: the old one has been renamed."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def write(self, stream: bytes, chunk: bytes) -> None:
        """Writes a chunk of at most CHUNK bytes that came from `stream` (b"stdout" or b"stderr")."""
        if self._fd < 0:
            return
        stamp = self._stamp()
        if self._lost:
            note = f"podlite: {self._lost} bytes of output were lost: {self._why}".encode()
            if not self._append(stamp + b" stderr F " + note + b"\n"):
                self._lost += len(chunk)
                return
            self._lost = 0
        record = records(stamp + b" " + stream, chunk)
        if not self._append(record):
            self._lost += len(chunk)

    def close(self) -> None:
        """Closes the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> bool:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._why = os.strerror(error.errno or 0)
            return False
        return True

    def _stamp(self) -> bytes:
        now = time.time_ns()
        second, nanos = divmod(now, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%s.%09dZ" % (self._prefix, nanos)


def records(head: bytes, chunk: bytes) -> bytes:
    """The chunk as log records, each beginning with `head` (time and stream)."""
    whole, newline, rest = chunk.rpartition(b"\n")
    out = b""
    if newline:
        full = head + b" F "
        # One pass in C, however many lines there are.
        out = full + whole.replace(b"\n", b"\n" + full) + b"\n"
    if rest:
        out += head + b" P " + rest + b"\n"
    return out
