"""floor: what the kernel takes for a pinned network namespace, with as little around it as Python allows.

The O_EXCL mount point, unshare(2), mount(2), setns(2) back, and umount2(2) with unlink: what podlite's netns layer
asks of the kernel too, on the same file system, but in plain threads, without event loop, locks or error handling.
"""

from __future__ import annotations

import os
import threading
import time
from itertools import count
from typing import Any

import anyio
from anyio import to_thread

from podlite.bench.measure import Budget, Samples
from podlite.linux import affinity
from podlite.linux.netns import THREAD_NETNS
from podlite.linux.syscalls import CLONE_NEWNET, MNT_DETACH, MS_BIND, mount, setns, umount2, unshare
from podlite.runtime.namespace_threads import NamespaceThreads

_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Floor:
    """`directory` is a shared mount point (podlite.linux.netns.prepare_directory). Closing it ends its threads."""

    def __init__(self, directory: str, threads: int) -> None:
        self._prefix = f"{directory}/podlite-floor-{os.getpid()}-"
        self._numbers = count()
        # For the open loop and what is kept alive; the closed loop has threads of its own.
        self._threads = NamespaceThreads(threads)

    async def closed_loop(self, concurrency: int, budget: Budget, samples: Samples) -> None:
        """One thread for each of the `concurrency`."""

        def run() -> None:
            workers = [threading.Thread(target=self._work, args=(budget, samples)) for _ in range(concurrency)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

        try:
            async with anyio.create_task_group() as tasks:

                async def stop_when_cancelled() -> None:
                    try:
                        await anyio.sleep_forever()
                    finally:
                        budget.stopped = True

                tasks.start_soon(stop_when_cancelled)
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(run)
                tasks.cancel_scope.cancel()
        finally:
            budget.stopped = True

    def _work(self, budget: Budget, samples: Samples) -> None:
        affinity.spread()
        own = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        clock = time.monotonic_ns
        try:
            while budget.take():
                path = f"{self._prefix}{next(self._numbers)}"
                begin = clock()
                os.close(os.open(path, _FLAGS, 0))
                unshare(CLONE_NEWNET)
                mount(THREAD_NETNS, path, "none", MS_BIND)
                setns(own, CLONE_NEWNET)
                created = clock()
                umount2(path, MNT_DETACH)
                os.unlink(path)
                samples.worked(begin, created - begin, clock() - created)
        except OSError as error:
            samples.failed(error)
        finally:
            os.close(own)

    async def create(self) -> str:
        path = f"{self._prefix}{next(self._numbers)}"

        def make(own: int) -> None:
            os.close(os.open(path, _FLAGS, 0))
            unshare(CLONE_NEWNET)
            mount(THREAD_NETNS, path, "none", MS_BIND)
            setns(own, CLONE_NEWNET)

        await self._threads.run(make)
        return path

    async def teardown(self, path: Any) -> None:
        def remove(own: int) -> None:
            umount2(path, MNT_DETACH)
            os.unlink(path)

        await self._threads.run(remove)

    def close(self) -> None:
        """Blocking."""
        self._threads.close()
