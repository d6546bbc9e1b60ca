"""A container's output, from its log: the end of it, since some time, or as it comes.

Source: k8s.io/cri-client/pkg/logs/logs.go and the PodLogOptions of k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread

from podlite.kubelet.clock import Wake
from podlite.kubelet.log_file import LogFile
from podlite.kubelet.log_lines import LogLine, parse_line, time_ns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from podlite.kubelet.log_watch import DirectoryWatcher, Watch


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """v1.PodLogOptions. `tail_lines` counts lines of the log file; `since_ns` is nanoseconds since the epoch.

    `stream` is All, Stdout or Stderr.
    """

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_ns: int | None = None
    stream: str = "All"


class Output(msgspec.Struct, frozen=True):
    """Bytes that a container wrote to `stream`, stdout or stderr, in the order of the log."""

    stream: str
    data: bytes


class LogEnd:
    """Says when a followed log gets no more, and wakes who reads it."""

    __slots__ = ("ended", "wake")

    def __init__(self) -> None:
        self.ended = False
        self.wake = Wake()

    def set(self) -> None:
        """The container has ended, and all its output is in the log."""
        self.ended = True
        self.wake.set()


async def read_lines(
    path: str, options: LogOptions, watcher: DirectoryWatcher | None = None, end: LogEnd | None = None
) -> AsyncGenerator[list[LogLine], None]:
    """The log's lines as they are, in batches. To follow, `watcher` and `end` are needed; it ends after `end`.

    Raises OSError, FileNotFoundError for a container that never had output.
    """
    log = await to_thread.run_sync(_open, path, options)
    buffer = Buffer()
    watch: Watch | None = None
    try:
        if options.follow and watcher is not None and end is not None:
            watch = watcher.watch(os.path.dirname(path), end.wake)
        while True:
            # First look whether it has ended, then read: what was written before the end is not missed.
            ended = watch is None or end is None or end.ended
            data = b"."
            while data:
                data = await to_thread.run_sync(log.read)
                lines = wanted(buffer.feed(data, last=ended), options)
                if lines:
                    yield lines
            if ended or end is None:
                return
            await end.wake.wait()
    finally:
        if watch is not None:
            watch.close()
        log.close()


async def read_logs(
    path: str, options: LogOptions, watcher: DirectoryWatcher | None = None, end: LogEnd | None = None
) -> AsyncGenerator[Output, None]:
    """What the container wrote, byte for byte, as `kubectl logs` gives it. See `read_lines`."""
    writer = Writer(options)
    async with aclosing(read_lines(path, options, watcher, end)) as batches:
        async for lines in batches:
            for output in writer.write(lines):
                yield output
            if writer.full:
                return


def _open(path: str, options: LogOptions) -> LogFile:
    """Blocking."""
    log = LogFile(path)
    if options.tail_lines is not None:
        log.seek_tail(options.tail_lines)
    return log


def wanted(lines: list[LogLine], options: LogOptions) -> list[LogLine]:
    """The lines of the stream, and of the time, that the options ask for. Pure."""
    if options.stream != "All":
        stream = options.stream.lower()
        lines = [each for each in lines if each.stream == stream]
    if options.since_ns is not None:
        since = options.since_ns
        lines = [each for each in lines if time_ns(each.time) >= since]
    return lines


class Buffer:
    """Cuts what is read into lines; the beginning of one that is not ended is kept."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, *, last: bool = False) -> list[LogLine]:
        """The lines that are complete now; with `last`, at the end of the data, also one that has no end."""
        whole = self._rest + data if self._rest else data
        *complete, self._rest = whole.split(b"\n")
        lines = [parse_line(each + b"\n") for each in complete]
        if last and not data and self._rest:
            lines.append(parse_line(self._rest))
            self._rest = b""
        return [each for each in lines if each is not None]


class Writer:
    """Makes output of lines: timestamps at the beginning of lines, and no more than the limit of bytes."""

    __slots__ = ("_at_line_start", "_left", "_timestamps")

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        self._left = options.limit_bytes
        self._at_line_start = True

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._left is not None and self._left <= 0

    def write(self, lines: list[LogLine]) -> list[Output]:
        """The output of these lines; neighbours of the same stream are joined."""
        result: list[Output] = []
        pieces: list[bytes] = []
        stream = ""
        for line in lines:
            if self.full:
                break
            if line.stream != stream and pieces:
                result.append(Output(stream, b"".join(pieces)))
                pieces = []
            stream = line.stream
            content = line.content
            if self._timestamps and self._at_line_start:
                content = line.time + b" " + content
            if self._left is not None:
                content = content[: self._left]
                self._left -= len(content)
            pieces.append(content)
            self._at_line_start = not line.content or line.content.endswith(b"\n")
        if pieces:
            result.append(Output(stream, b"".join(pieces)))
        return result
