"""When the kernel has really freed the network namespaces that were let go of.

The last reference's end only puts a namespace on a list; cleanup_net() (net/core/net_namespace.c) works the list off
later, on a workqueue of its own that runs one batch at a time, in order. It takes everything that is on the list at
once, and at its very end, when all of the batch has been shut down and freed, it gives each one's place in the count
of its user namespace back (dec_net_namespaces). So a sentinel namespace that is let go of after all others is in the
last batch, and when its place is free again nothing of the others is left but that last loop's few microseconds.
Unlike the objects in /proc/slabinfo (which counts what SLUB keeps in per-CPU slabs as used) this is exact, and unlike
the disappearance of a veth (which is one of cleanup_net's first steps) it is the end.

One thing can come late: a netlink socket that was closed gives its namespace back after an RCU grace period. But
cleanup_net waits for all such callbacks (rcu_barrier) before it counts down, so when a first sentinel is gone every
last reference is given, and a second sentinel, let go of then, covers those. What is reported is the end of the
second: an upper bound, too high by no more than what it takes to free one empty namespace, which is measured first
(`idle_ms`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import IO

import anyio
from anyio import to_thread

from podlite.bench import sentinel


class Settle:
    """The sentinels of one run, as an async context manager. `why_not` says why there are none, or is empty."""

    def __init__(self) -> None:
        self.why_not = ""
        self.idle_ms = 0.0
        self._process: subprocess.Popen[str] | None = None

    async def __aenter__(self) -> Settle:
        await to_thread.run_sync(self._start)
        if self._process is not None:
            # The first one pays for what the kernel does only once.
            await self.wait()
            self.idle_ms = await self.wait() or 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._stop)

    async def wait(self) -> float | None:
        """Waits until every network namespace that has been let go of is freed; the milliseconds from the call on.

        None where it cannot be known. Not cancelled in the middle: it takes tens of milliseconds.
        """
        if self._process is None:
            return None
        taken: list[float | None] = [None]
        with anyio.CancelScope(shield=True):
            taken[0] = await to_thread.run_sync(self._ask)
        return taken[0]

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(sentinel.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for us: we end it.
            start_new_session=True,
        )
        self._process = process
        answer = _stream(process.stdout).readline().strip()
        if answer != "ready":
            self.why_not = answer.removeprefix("failed ") or "its process ended at once"
            self._stop()

    def _ask(self) -> float | None:
        process = self._process
        assert process is not None
        begin = time.monotonic_ns()
        end = begin
        for _ in range(2):
            try:
                _stream(process.stdin).write("r\n")
                _stream(process.stdin).flush()
                end = int(_stream(process.stdout).readline())
            except (OSError, ValueError):
                self.why_not = "its process has ended"
                self._stop()
                return None
        return (end - begin) / 1e6

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _stream(process.stdin).close()
        except OSError:
            pass
        process.wait()
        _stream(process.stdout).close()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
