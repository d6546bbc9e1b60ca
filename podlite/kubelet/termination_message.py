"""What a container left as its last words: the file at terminationMessagePath, or the end of its log.

Source: pkg/kubelet/kuberuntime/kuberuntime_container.go (getTerminationMessage, readLastStringFromContainerLogs)
and container/runtime.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.errors import explain
from podlite.kubelet import labels
from podlite.kubelet.log_lines import parse_line

if TYPE_CHECKING:
    from podlite.cri.types import ContainerStatus

MAX_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80

_FALLBACK_TO_LOGS = "FallbackToLogsOnError"
_CHUNK = 65536


def read_termination_message(status: ContainerStatus) -> str:
    """The termination message of an exited container; empty without one. Blocking, and never raises OSError."""
    path = status.annotations.get(labels.TERMINATION_MESSAGE_PATH, "")
    policy = status.annotations.get(labels.TERMINATION_MESSAGE_POLICY, "")
    # A container that could not even be started has no log: docker's reason for that, and containerd's.
    started = status.reason not in ("ContainerCannotRun", "StartError")
    fall_back = policy == _FALLBACK_TO_LOGS and status.exit_code != 0 and started
    mount = next((each for each in status.mounts if path and each.container_path == _absolute(path)), None)
    if mount is not None:
        try:
            data = _tail(mount.host_path, MAX_BYTES)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            return f"Error on reading termination log {mount.host_path}: {explain(error)}"
        if data or not fall_back:
            return data.decode(errors="replace")
    if not fall_back:
        return ""
    try:
        return _last_output(status.log_path)
    except OSError as error:
        return f"Error on reading termination message from logs: {explain(error)}"


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _tail(path: str, size: int) -> bytes:
    # The container may have put anything in the place of the file: nothing is followed, and nothing waited for.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        length = os.fstat(fd).st_size
        return os.pread(fd, size, max(length - size, 0))
    finally:
        os.close(fd)


def _last_output(path: str) -> str:
    """The last 80 lines of a log, and of these the last 2048 bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = os.fstat(fd).st_size
        data = b""
        # Lines may be long, but two kilobytes of output are never far from the end for long.
        while end > 0 and data.count(b"\n") <= MAX_LOG_LINES and len(data) < 16 * _CHUNK:
            start = max(end - _CHUNK, 0)
            data = os.pread(fd, end - start, start) + data
            end = start
    finally:
        os.close(fd)
    # Not splitlines: output may have carriage returns in it.
    lines = [line + b"\n" for line in data.removesuffix(b"\n").split(b"\n")[-MAX_LOG_LINES:]]
    pieces = [parsed.content for parsed in map(parse_line, lines) if parsed is not None]
    return b"".join(pieces)[-MAX_LOG_BYTES:].decode(errors="replace")
