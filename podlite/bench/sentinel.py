"""The process behind `podlite.bench.settle`: it knows when the kernel has really freed a network namespace.

    python -I -S sentinel.py        standard library only; commands on standard input, answers on standard output

It lives in a user namespace of its own in which only one network namespace may exist (user.max_net_namespaces,
namespaces(7)), and a child of it holds that one: the sentinel. Asked (`r`), it lets the sentinel go, and a successor
tries to make the next one. The kernel refuses with ENOSPC, before it does any work, for as long as the old one is
counted; the count goes down in the last loop of cleanup_net(), when everything has been freed. The answer to `r` is
the CLOCK_MONOTONIC time, in nanoseconds, at which the next sentinel could be made.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
# The resolution of the answer. A refused attempt costs a few microseconds.
_POLL_SECONDS = 0.0005

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Serves until the end of standard input; says `ready`, or `failed` and why, first."""
    try:
        _unshare(_CLONE_NEWUSER)
        with open("/proc/sys/user/max_net_namespaces", "w") as file:
            file.write("1")
        sentinel = _Sentinel()
        sentinel.wait_made()
    except OSError as error:
        print(f"failed {error.strerror}", flush=True)
        return 1
    print("ready", flush=True)
    for _ in sys.stdin:
        successor = _Sentinel()
        sentinel.let_go()
        sentinel = successor
        print(sentinel.wait_made(), flush=True)
    sentinel.let_go()
    return 0


class _Sentinel:
    """A child that makes a network namespace as soon as the kernel allows it, and holds it until it is let go."""

    def __init__(self) -> None:
        hold, self._hold = os.pipe()
        self._made, made = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _make_and_hold(hold, made)
        os.close(hold)
        os.close(made)

    def wait_made(self) -> int:
        """When the namespace was made, in CLOCK_MONOTONIC nanoseconds. Raises OSError."""
        answer = os.read(self._made, 64)
        if not answer.isdigit():
            raise OSError(errno.EPERM, "a network namespace cannot be made: " + answer.decode(errors="replace"))
        return int(answer)

    def let_go(self) -> None:
        """Ends the child and waits for that: its namespace's last reference is gone then."""
        os.close(self._hold)
        os.close(self._made)
        os.waitpid(self._pid, 0)


def _make_and_hold(hold: int, made: int) -> NoReturn:
    """The child's life. The end of file on `hold` ends it, so it does not outlive its parent."""
    # Its own end of that pipe too, and its predecessor's, which would keep the predecessor alive.
    for fd in range(3, max(hold, made) + 1):
        if fd not in (hold, made):
            try:
                os.close(fd)
            except OSError:
                pass
    try:
        while True:
            try:
                _unshare(_CLONE_NEWNET)
                break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            time.sleep(_POLL_SECONDS)
        os.write(made, str(time.monotonic_ns()).encode())
        os.read(hold, 1)
    except OSError as error:
        os.write(made, str(error.strerror).encode())
    finally:
        os._exit(0)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    sys.exit(main())
