"""Running pods in the foreground: add them, follow them, decide when it is over, and take everything back."""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING

import anyio

from podlite.agent.node import Node, open_node
from podlite.cli import options, terminal
from podlite.cli.exit_status import CANNOT_RUN, INTERRUPTED, TERMINATED, TIMEOUT, Verdict, start_error_status, verdict
from podlite.cli.run_output import Printer
from podlite.errors import PodliteError
from podlite.kubelet.hopeless import hopeless
from podlite.kubelet.status_manager import DELETED

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from podlite.api.manifest import Manifests
    from podlite.api.pod import Pod
    from podlite.kubelet.hopeless import Hopeless
    from podlite.runtime.spawner import Launched
    from podlite.runtime.store import Sandbox

# After the grace period of a pod that is being ended, how long until that is given up.
END_SECONDS = 30.0


async def run_pods(arguments: argparse.Namespace, manifests: Manifests, launched: Launched | None) -> int:
    """Runs the pods to their end and returns the exit status."""
    node_options = options.node_options(arguments)
    node_options.keep_logs = arguments.keep
    node_options.pods_survive = arguments.keep
    async with open_node(node_options, launched) as node:
        run = Run(node, arguments, Printer(node.kubelet, arguments, len(manifests.pods)))
        return await run.to_the_end(manifests)


class Run:
    """One foreground run: the pods that are not over yet, and why the run ends."""

    def __init__(self, node: Node, arguments: argparse.Namespace, printer: Printer) -> None:
        self._node = node
        self._kubelet = node.kubelet
        self._arguments = arguments
        self._printer = printer
        self._unfinished: set[str] = set()
        self._final: dict[str, Pod] = {}
        self._order: list[str] = []
        self._outcome: Verdict | None = None
        self._ending = anyio.Event()

    async def to_the_end(self, manifests: Manifests) -> int:
        """Adds the pods and waits; whatever happens, they are ended and removed afterwards."""
        self._node.runtime.on_deletion_requested = self._deletion_requested
        try:
            async with anyio.create_task_group() as tasks:
                ready = anyio.Event()
                tasks.start_soon(self._watch, tasks, ready)
                tasks.start_soon(self._signals, tasks)
                await ready.wait()
                await self._add(manifests, tasks)
                with anyio.move_on_after(self._arguments.timeout) as deadline:
                    await self._ending.wait()
                if deadline.cancelled_caught:
                    self._end(Verdict(TIMEOUT, f"the time is up: --timeout {self._arguments.timeout:g}"), tasks)
                await self._all_over()
                self._printer.stop()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._remove()
        return self._report()

    async def _add(self, manifests: Manifests, tasks: TaskGroup) -> None:
        objects = [*manifests.config_maps, *manifests.secrets]
        for pod in manifests.pods:
            try:
                added = await self._kubelet.add_pod(pod, objects)
            except PodliteError as error:
                self._end(Verdict(CANNOT_RUN, str(error)), tasks)
                return
            self._order.append(added.metadata.uid)
            self._unfinished.add(added.metadata.uid)
            objects = []

    async def _watch(self, tasks: TaskGroup, ready: anyio.Event) -> None:
        with self._kubelet.watch() as changes:
            ready.set()
            async for change in changes:
                pod = change.pod
                if change.type == DELETED:
                    self._over(pod.metadata.uid)
                    continue
                self._final[pod.metadata.uid] = pod
                self._printer.show(pod, tasks)
                if pod.status.phase in ("Succeeded", "Failed"):
                    tasks.start_soon(self._wait_terminated, pod.metadata.uid)
                elif not self._arguments.keep_trying and self._outcome is None:
                    stuck = hopeless(pod)
                    if stuck is not None:
                        self._end(_hopeless_verdict(pod, stuck), tasks)

    async def _wait_terminated(self, uid: str) -> None:
        """A pod whose phase is final still has to be stopped; then it is over."""
        if uid in self._unfinished:
            try:
                self._final[uid] = await self._kubelet.wait_terminated(uid)
            except PodliteError:
                pass  # removed meanwhile
            self._over(uid)

    def _over(self, uid: str) -> None:
        self._unfinished.discard(uid)
        if not self._unfinished:
            self._ending.set()

    async def _signals(self, tasks: TaskGroup) -> None:
        """Ctrl-C and SIGTERM end the pods with their grace period; the second time at once."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            count = 0
            async for number in received:
                count += 1
                status = INTERRUPTED if number == signal.SIGINT else TERMINATED
                if count == 1:
                    self._printer.note("ending the pods; once more to kill them")
                self._end(Verdict(status, ""), tasks, grace=None if count == 1 else 0)

    def _end(self, outcome: Verdict, tasks: TaskGroup, grace: int | None = None) -> None:
        """Ends the run; the first outcome counts. A second call can only make it end sooner."""
        if self._outcome is None:
            self._outcome = outcome
        tasks.start_soon(self._delete_all, grace)
        self._ending.set()

    async def _delete_all(self, grace: int | None) -> None:
        for uid in list(self._unfinished):
            try:
                await self._kubelet.delete_pod(uid, grace, keep_logs=self._arguments.keep)
            except PodliteError:
                self._over(uid)

    async def _all_over(self) -> None:
        """Waits for the pods that are being ended. Their grace period is theirs; beyond it nothing is waited for."""
        for uid in list(self._unfinished):
            await self._kubelet.wait_removed(uid)
            self._over(uid)

    def _deletion_requested(self, sandbox: Sandbox, grace: int) -> None:
        """`podlite rm` from another terminal."""
        uid = sandbox.config.metadata.uid
        if uid in self._unfinished:
            self._node.runtime.tasks.start_soon(self._delete, uid, grace)

    async def _delete(self, uid: str, grace: int) -> None:
        try:
            await self._kubelet.delete_pod(uid, grace if grace >= 0 else None)
        except PodliteError:
            pass

    async def _remove(self) -> None:
        """Removes what is left of every pod; with --keep the ended ones stay."""
        if self._arguments.keep and self._outcome is None:
            return
        for uid in self._order:
            try:
                await self._kubelet.delete_pod(uid, 0)
            except PodliteError:
                continue
        with anyio.move_on_after(END_SECONDS) as deadline:
            for uid in self._order:
                await self._kubelet.wait_removed(uid)
        if deadline.cancelled_caught:
            terminal.error("not all pods could be removed", hint="`podlite prune` tries again")

    def _report(self) -> int:
        pods = [self._final[uid] for uid in self._order if uid in self._final]
        outcome = self._outcome or verdict(pods)
        if outcome.why and not self._arguments.quiet:
            terminal.error(outcome.why)
        if self._arguments.output:
            self._printer.print_objects(pods)
        return outcome.status


def _hopeless_verdict(pod: Pod, stuck: Hopeless) -> Verdict:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    status = start_error_status(stuck.message) if stuck.reason in ("StartError", "RunContainerError") else CANNOT_RUN
    return Verdict(status, f"container {stuck.container} of pod {name}: {stuck.reason}: {stuck.message}")
