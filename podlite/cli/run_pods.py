"""Running pods in the foreground: add them, follow them, decide when it is over, and take everything back."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite.agent.node import Node, open_any_node
from podlite.api.admission import admit
from podlite.cli import options, terminal
from podlite.cli.exit_status import (
    CANNOT_RUN,
    CLOSED,
    TIMEOUT,
    Verdict,
    start_error_status,
    verdict,
)
from podlite.cli.interrupts import STATUSES, Interrupts
from podlite.cli.run_output import Printer
from podlite.errors import PodliteError
from podlite.kubelet.events import NORMAL
from podlite.kubelet.gotime import rfc3339
from podlite.kubelet.hopeless import hopeless, hopeless_event
from podlite.kubelet.kubelet import new_uid
from podlite.kubelet.paths import pod_record_dir
from podlite.kubelet.phase import TERMINAL
from podlite.kubelet.status_manager import DELETED
from podlite.kubelet.written_pods import keep

if TYPE_CHECKING:
    import signal

    from podlite.api.manifest import Manifests
    from podlite.api.pod import Pod
    from podlite.kubelet.hopeless import Hopeless
    from podlite.runtime.spawner import Launched

# After the grace period of a pod that is being ended, how long until that is given up.
END_SECONDS = 30.0


async def run_pods(arguments: argparse.Namespace, manifests: Manifests, launched: Launched | None) -> int:
    """Runs the pods to their end and returns the exit status."""
    node_options = options.node_options(arguments)
    node_options.pods_survive = arguments.keep
    interrupts = Interrupts()
    status = 0
    async with anyio.create_task_group() as tasks:
        await tasks.start(interrupts.listen)
        with interrupts.scope:
            async with open_any_node(node_options, launched) as node:
                status = await Run(node, arguments, interrupts).to_the_end(manifests)
        tasks.cancel_scope.cancel()
    return interrupts.status or status


class Run:
    """One foreground run: the pods that are not over yet, and why the run ends.

    With --keep pods are stopped where they would be deleted, and stay when the run is over.
    """

    def __init__(self, node: Node, arguments: argparse.Namespace, interrupts: Interrupts) -> None:
        self._node = node
        self._interrupts = interrupts
        self._kubelet = node.kubelet
        self._arguments = arguments
        self._printer = Printer(node.kubelet.config, arguments, self._output_closed)
        self._unfinished: set[str] = set()
        self._final: dict[str, Pod] = {}
        self._order: list[str] = []
        self._outcome: Verdict | None = None
        self._ending = anyio.Event()
        # Somebody has interrupted already; the pods are being removed.
        self._hurry = self._removing = False

    async def to_the_end(self, manifests: Manifests) -> int:
        """Adds the pods and waits; whatever happens, they are ended and removed afterwards."""
        self._node.when_deletion_requested(self._deletion_requested)
        try:
            async with anyio.create_task_group() as self._tasks:
                self._interrupts.handle = self._interrupted
                async with self._printer:
                    await self._follow(manifests)
                self._removing = True
                self._tasks.cancel_scope.cancel()
        finally:
            self._removing = True
            with anyio.CancelScope(shield=True):
                await self._remove()
        return self._report()

    async def _follow(self, manifests: Manifests) -> None:
        async with anyio.create_task_group() as watching:
            ready = anyio.Event()
            watching.start_soon(self._watch_events)
            watching.start_soon(self._watch, ready)
            await ready.wait()
            await self._add(manifests)
            with anyio.move_on_after(self._arguments.timeout) as deadline:
                await self._ending.wait()
            if deadline.cancelled_caught:
                self._end(Verdict(TIMEOUT, f"the time is up: --timeout {self._arguments.timeout:g}"))
            # Their grace period is theirs; beyond it nothing is waited for.
            for uid in list(self._unfinished):
                await self._wait_over(uid)
            watching.cancel_scope.cancel()

    async def _add(self, manifests: Manifests) -> None:
        objects = [*manifests.config_maps, *manifests.secrets]
        for pod in manifests.pods:
            admit(pod, uid=new_uid(), now=rfc3339(self._kubelet.clock.now_ns()))
            try:
                added = await self._kubelet.add_pod(pod, objects)
            except PodliteError as error:
                self._end(Verdict(CANNOT_RUN, str(error)))
                return
            self._order.append(added.metadata.uid)
            self._unfinished.add(added.metadata.uid)
            objects = []

    async def _watch(self, ready: anyio.Event) -> None:
        with self._kubelet.watch() as changes:
            ready.set()
            async for change in changes:
                pod = change.pod
                self._final[pod.metadata.uid] = pod
                if change.type == DELETED:
                    self._over(pod.metadata.uid)
                    continue
                self._printer.show(pod)
                if pod.status.phase in TERMINAL:
                    self._tasks.start_soon(self._wait_over, pod.metadata.uid)
                elif not self._arguments.keep_trying and self._outcome is None:
                    stuck = hopeless(pod)
                    if stuck is not None:
                        self._end(_hopeless_verdict(pod, stuck))

    async def _watch_events(self) -> None:
        with self._kubelet.watch_events() as events:
            async for event in events:
                if event.type == NORMAL or event.involved_object.kind != "Pod":
                    continue
                if hopeless_event(event) and not self._arguments.keep_trying and self._outcome is None:
                    name = f"{event.involved_object.namespace}/{event.involved_object.name}"
                    self._end(Verdict(CANNOT_RUN, f"pod {name}: {event.reason}: {event.message}"))
                else:
                    self._printer.show_event(event)

    async def _wait_over(self, uid: str) -> None:
        """A pod whose phase is final still has to be stopped; then it is over."""
        if uid in self._unfinished:
            try:
                self._final[uid] = await self._kubelet.wait_terminated(uid)
                self._printer.show(self._final[uid])
            except PodliteError:
                pass  # removed meanwhile
            self._over(uid)

    def _over(self, uid: str) -> None:
        self._unfinished.discard(uid)
        if not self._unfinished:
            self._ending.set()

    # --- the end ----------------------------------------------------------------------------

    def _interrupted(self, number: signal.Signals) -> None:
        """The first ends the pods with their grace period, the second at once; a third has nothing left to change."""
        if self._removing:
            return
        if self._hurry:
            self._printer.abandon()
        else:
            self._printer.note("ending the pods; once more to kill them")
        self._end(Verdict(STATUSES[number], ""), grace=0 if self._hurry else None)
        self._hurry = True

    def _output_closed(self) -> None:
        """Whoever read our output has gone: `podlite run … | head`."""
        self._printer.abandon()
        self._end(Verdict(CLOSED, ""))

    def _end(self, outcome: Verdict, grace: int | None = None) -> None:
        """Ends the run; the first outcome counts. A second call can only make it end sooner."""
        if self._outcome is None:
            self._outcome = outcome
        self._tasks.start_soon(self._end_pods, list(self._unfinished), grace)
        self._ending.set()

    async def _end_pods(self, uids: list[str], grace: int | None) -> None:
        for uid in uids:
            try:
                if self._arguments.keep:
                    await self._kubelet.stop_pod(uid, grace)
                else:
                    await self._kubelet.delete_pod(uid, grace)
            except PodliteError:
                self._over(uid)

    def _deletion_requested(self, uid: str, grace: int) -> None:
        """`podlite rm` from another terminal."""
        if uid in self._order:
            self._tasks.start_soon(self._delete, uid, grace)

    async def _delete(self, uid: str, grace: int) -> None:
        try:
            await self._kubelet.delete_pod(uid, grace if grace >= 0 else None)
        except PodliteError:
            pass  # gone already

    async def _remove(self) -> None:
        """Removes what is left of every pod; with --keep the ended pods stay."""
        await self._end_pods(self._order, 0)
        with anyio.move_on_after(END_SECONDS) as deadline:
            for uid in self._order:
                if self._arguments.keep:
                    await self._keep(uid)
                else:
                    await self._kubelet.wait_removed(uid)
        if deadline.cancelled_caught:
            terminal.error("not all pods could be removed", hint="`podlite prune` tries again")

    async def _keep(self, uid: str) -> None:
        try:
            self._final[uid] = await self._kubelet.wait_terminated(uid)
        except PodliteError:
            return  # removed by `podlite rm`
        try:
            await to_thread.run_sync(keep, pod_record_dir(self._kubelet.config, uid))
        except OSError as error:
            terminal.error(f"a pod cannot be kept: {error.strerror}: {error.filename}")

    def _report(self) -> int:
        pods = [self._final[uid] for uid in self._order if uid in self._final]
        outcome = self._outcome or verdict(pods)
        if outcome.why and not self._arguments.quiet:
            terminal.error(outcome.why)
        if self._arguments.keep:
            for pod in pods:
                name = f"{pod.metadata.namespace}/{pod.metadata.name}"
                self._printer.note(f"{name} is kept: `podlite rm {pod.metadata.uid}` removes it")
        if self._arguments.output:
            self._printer.print_objects(pods)
        return outcome.status


def _hopeless_verdict(pod: Pod, stuck: Hopeless) -> Verdict:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    status = start_error_status(stuck.message) if stuck.reason in ("StartError", "RunContainerError") else CANNOT_RUN
    return Verdict(status, f"container {stuck.container} of pod {name}: {stuck.reason}: {stuck.message}")
