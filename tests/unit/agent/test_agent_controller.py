"""What the controller makes of pods that come and go, on a kubelet whose runtime is in memory."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec import structs

from podlite.agent.controller import PodController
from podlite.agent.durable import DurableStore
from podlite.agent.node import Node
from podlite.agent.sources.manifests import ManifestSource
from podlite.kubelet.kubelet import PodNotFound
from tests.support.agents import manifest
from tests.support.clock import settle
from tests.support.kubelet import Bench, a_bench
from tests.support.pods import a_pod

pytestmark = pytest.mark.anyio


def a_controller(bench: Bench, tmp_path: Path) -> tuple[PodController, DurableStore]:
    options: Any = SimpleNamespace()
    durable = DurableStore(str(tmp_path / "state"))
    return PodController(Node(options, bench.runtime, bench.kubelet), durable), durable


async def test_a_pod_that_ends_while_the_agent_opens_begins_again(tmp_path: Path) -> None:
    """An adopted one whose deletion was under way, and whose manifest is there again."""
    async with a_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        controller, _ = a_controller(bench, tmp_path)
        source: Any = SimpleNamespace(manifests=ManifestSource("file", "node"))
        controller.follow([source])
        source.manifests.read("/manifests/web.json", json.dumps(manifest("web")).encode(), "2026-11-23T20:00:00Z")
        await controller.reconcile()
        await settle()
        [pod] = bench.kubelet.pods()
        await bench.kubelet.delete_pod(pod.metadata.uid, 0)

        changes = bench.kubelet.watch(initial=True)
        await controller.reconcile()  # nothing is to be begun: it is still there
        assert bench.kubelet.pods()
        # The API is being opened.
        while bench.kubelet.pods():
            await bench.clock.advance(1)
        tasks.start_soon(controller.follow_changes, changes)
        await settle()
        assert [each.metadata.uid for each in bench.kubelet.pods()] == [pod.metadata.uid]
        tasks.cancel_scope.cancel()


async def test_a_deleted_pod_that_is_gone_at_once_does_not_come_back(tmp_path: Path) -> None:
    """The agent may be killed as soon as it has answered: what it has answered is written down."""
    async with a_bench(tmp_path) as bench:
        controller, durable = a_controller(bench, tmp_path)
        pod = await controller.create(a_pod())
        await settle()
        [stored] = durable.pods()
        assert stored.metadata.uid == pod.metadata.uid
        delete = bench.kubelet.delete_pod

        async def at_once(uid: str, grace: int | None = None) -> None:
            await delete(uid, grace)
            while bench.kubelet.pods():
                await bench.clock.advance(1)

        bench.kubelet.delete_pod = at_once  # type: ignore[method-assign, assignment]
        with pytest.raises(PodNotFound):
            await controller.delete(pod.metadata.uid, 0)
        # Nobody has followed the changes.
        assert durable.pods() == []


async def test_a_deletion_stays_while_a_sync_of_the_pod_before_it_ends(tmp_path: Path) -> None:
    """What a sync computes is the status, of the pod that it began with: not the pod that is written down and shown."""
    async with a_bench(tmp_path) as bench:
        controller, durable = a_controller(bench, tmp_path)
        before = await controller.create(a_pod())
        uid = before.metadata.uid
        await settle()
        delete = bench.kubelet.delete_pod

        async def meanwhile(uid: str, grace: int | None = None) -> None:
            await delete(uid, grace)
            bench.kubelet._statuses.set(before, structs.replace(bench.kubelet.pod(uid).status, message="later"))

        bench.kubelet.delete_pod = meanwhile  # type: ignore[method-assign, assignment]
        written = []
        durable.put_pod = written.append  # type: ignore[method-assign]
        with suppress(PodNotFound):  # by then it may be gone
            await controller.delete(uid, 30)
        [pod] = written
        assert pod.metadata.deletion_timestamp is not None
        assert (pod.metadata.deletion_grace_period_seconds, pod.status.message) == (30, "later")
        while bench.kubelet.pods():
            await bench.clock.advance(1)
