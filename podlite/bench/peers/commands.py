"""Running the peers' programs: with posix_spawn from a worker thread, so that as little as can be is ours of what is
measured (an asyncio subprocess alone costs more than some of these programs)."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence

import anyio
from anyio import to_thread

from podlite.bench.workload import OperationFailedError, PeerMissingError
from podlite.linux import affinity


def program(name: str, argument: str) -> str:
    """The path of a program: `argument` if there is one, otherwise by the PATH. Raises PeerMissingError."""
    wanted = argument or name
    found = shutil.which(wanted, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise PeerMissingError(f"{wanted} is not installed")
    return found


async def run(
    argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: bytes = b"", output: bool = False
) -> bytes:
    """Runs a command to its end; with `output` returns what it printed. Not cancelled in the middle.

    Raises OperationFailedError, with the last line that it said, for an exit status other than 0.
    """
    limiter = _limiter()
    with anyio.CancelScope(shield=True):
        status, said = await to_thread.run_sync(_spawn, argv, environment, stdin, output, limiter=limiter)
    if status:
        lines = said.decode(errors="replace").strip().splitlines()
        why = f": {lines[-1]}" if lines else ""
        raise OperationFailedError(
            f"{' '.join([os.path.basename(argv[0]), *argv[1:3]])} ended with status {status}{why}"
        )
    return said


def run_blocking(argv: Sequence[str], *, stdin: bytes = b"") -> bytes:
    """`run` before and after the measurement, in a worker thread. Raises OperationFailedError."""
    status, said = _spawn(argv, None, stdin, True)
    if status:
        raise OperationFailedError(
            f"{' '.join(argv)} ended with status {status}: {said.decode(errors='replace').strip()}"
        )
    return said


_limiters: dict[int, anyio.CapacityLimiter] = {}


def _limiter() -> anyio.CapacityLimiter:
    """Threads of its own: anyio's default 40 are shared with podlite's."""
    import asyncio

    key = id(asyncio.get_running_loop())
    if key not in _limiters:
        _limiters.clear()
        _limiters[key] = anyio.CapacityLimiter(128)
    return _limiters[key]


def _spawn(argv: Sequence[str], environment: Mapping[str, str] | None, stdin: bytes, output: bool) -> tuple[int, bytes]:
    """(exit status, what it said on standard error, or printed)."""
    affinity.spread()
    said = os.memfd_create("output", os.MFD_CLOEXEC)
    given = -1
    try:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
        if stdin:
            given = os.memfd_create("input", os.MFD_CLOEXEC)
            os.write(given, stdin)
            os.lseek(given, 0, os.SEEK_SET)
            actions.append((os.POSIX_SPAWN_DUP2, given, 0))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        actions += [(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            dict(os.environ if environment is None else environment),
            file_actions=actions,
            setsigdef=[signal.SIGPIPE, signal.SIGINT],
            setpgroup=0,
        )
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = os.pread(said, 1 << 20, 0) if status or output else b""
        return status, text
    finally:
        os.close(said)
        if given >= 0:
            os.close(given)


def make_rootfs(directory: str, programs: Sequence[str]) -> str:
    """A root file system with the host's own programs and the libraries they need, and nothing else; its path.

    The same files that podlite's embedded image offers, so that all start the same program. Blocking.
    """
    root = f"{directory}/rootfs"
    for name in ("dev", "proc", "sys", "tmp", "etc", "run"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for each in programs:
        for path in [os.path.realpath(each), *_libraries(each)]:
            os.makedirs(f"{root}{os.path.dirname(path)}", exist_ok=True)
            shutil.copy2(path, f"{root}{path}")
        if os.path.realpath(each) != each:
            os.makedirs(f"{root}{os.path.dirname(each)}", exist_ok=True)
            shutil.copy2(each, f"{root}{each}")
    return root


def _libraries(path: str) -> list[str]:
    """What ld.so(8) would load, the loader itself too."""
    listed = run_blocking([program("ldd", ""), path]).decode()
    return [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]


def scratch(prefix: str) -> str:
    """A new directory in memory."""
    parent = "/dev/shm" if os.path.isdir("/dev/shm") else None
    return tempfile.mkdtemp(prefix=prefix, dir=parent)
