"""`podlite agent`: pods that outlive podlite. Put together here; each part is a module of its own.

    lock ─▶ adopt what runs ─▶ take on again what was handed over ─▶ read the manifests ─▶ serve the API ─▶ READY

SIGTERM and SIGINT end the agent and leave its pods running; the next one adopts them. SIGHUP reads the manifests
again. At most one agent runs for a run directory.
"""

from __future__ import annotations

import gc
import signal
import time
from typing import TYPE_CHECKING

import anyio
import msgspec

from podlite import log
from podlite.agent.controller import PodController
from podlite.agent.durable import DurableStore
from podlite.agent.node import NodeOptions, open_any_node
from podlite.agent.notify import Notifier
from podlite.agent.sources.directory import CHECK_SECONDS, DirectorySource
from podlite.agent.sources.url import UrlSource
from podlite.errors import PodliteError
from podlite.kubelet.gotime import rfc3339
from podlite.kubelet.kubelet import PodNotFound
from podlite.runtime import run_directory
from podlite.runtime.locks import FileLock
from podlite.version import __version__

if TYPE_CHECKING:
    from podlite.agent.node import Node
    from podlite.runtime.spawner import Launched

SOCKET = "podlite.sock"
LOCK = "agent.lock"


class AgentOptions(msgspec.Struct, kw_only=True):
    """What a user can say about the agent. `check_seconds` is how often manifests are read again without a change."""

    node: NodeOptions = msgspec.field(default_factory=NodeOptions)
    manifest_dirs: tuple[str, ...] = ()
    manifest_urls: tuple[str, ...] = ()
    check_seconds: float = CHECK_SECONDS

    @property
    def socket_path(self) -> str:
        """Where the API is served."""
        return f"{self.node.layout.run_dir}/{SOCKET}"


async def run_agent(options: AgentOptions, launched: Launched | None = None) -> None:
    """Runs until a signal asks for the end; the pods go on. Raises PodliteError."""
    options.node.adoptable = True
    options.node.many = True
    run_directory.prepare(options.node.layout.run_dir)
    lock = FileLock(f"{options.node.layout.run_dir}/{LOCK}")
    if not lock.acquire(wait=False):
        raise PodliteError(
            f"another podlite agent uses the run directory {options.node.layout.run_dir}",
            hint="stop it first, or give this one a --run-dir of its own",
        )
    try:
        async with open_any_node(options.node, launched) as node:
            await Agent(options, node).run()
    finally:
        lock.release()


class Agent:
    """One agent on an open node."""

    def __init__(self, options: AgentOptions, node: Node) -> None:
        self._options = options
        self._node = node
        self._kubelet = node.kubelet
        self._notifier = Notifier()
        self.controller = PodController(node, DurableStore(options.node.layout.state_dir))
        self._sources = self._make_sources()
        self.controller.follow(self._sources)

    def _make_sources(self) -> list[DirectorySource | UrlSource]:
        options, name = self._options, self._kubelet.config.node_name
        sources: list[DirectorySource | UrlSource] = []
        for kind, places in ((DirectorySource, options.manifest_dirs), (UrlSource, options.manifest_urls)):
            sources += [
                kind(
                    each,
                    name,
                    changed=self.controller.reconcile,
                    problem=self.controller.problem,
                    now=self._now,
                    check_seconds=options.check_seconds,
                )
                for each in places
            ]
        return sources

    def _now(self) -> str:
        return rfc3339(self._kubelet.clock.now_ns())

    async def run(self) -> None:
        """Until a signal comes."""
        from podlite.agent.api.server import serve_api

        began = time.monotonic()
        self._node.when_deletion_requested(self._deletion_requested)
        async with anyio.create_task_group() as self._tasks:
            changes = self._kubelet.watch(initial=True)
            await self.controller.restore()
            for source in self._sources:
                await source.read()
            await self.controller.reconcile()
            async with serve_api(self._node, self.controller, self._options.socket_path):
                for source in self._sources:
                    self._tasks.start_soon(source.run)
                self._tasks.start_soon(self.controller.follow_changes, changes)
                self._tasks.start_soon(self.controller.adopt_waiting)
                self._tasks.start_soon(self._notifier.feed_watchdog)
                count = len(self._kubelet.pods())
                log.info("agent ready", pods=count, version=__version__, seconds=round(time.monotonic() - began, 3))
                self._notifier.ready(f"Running {count} pods")
                # What is there now stays: the collector need not look at it again. (podlite starts with it off.)
                gc.collect()
                gc.freeze()
                gc.enable()
                await self._signals()
                self._notifier.stopping()
                self._node.leave()
            self._tasks.cancel_scope.cancel()

    async def _signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            async for number in received:
                if number != signal.SIGHUP:
                    return
                self._notifier.reloading()
                for source in self._sources:
                    source.reload()
                self._notifier.ready("Read the manifests again")

    def _deletion_requested(self, uid: str, grace: int) -> None:
        """`podlite rm`, through the pod's shim."""
        self._tasks.start_soon(self._delete, uid, grace)

    async def _delete(self, uid: str, grace: int) -> None:
        try:
            await self.controller.delete(uid, grace if grace >= 0 else None)
        except PodNotFound:
            pass  # it is gone already
        except (PodliteError, OSError) as error:
            log.warning("a pod cannot be deleted", uid=uid, why=str(error))
