"""What the API shows, on a kubelet whose runtime is in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from podlite.agent.api.state import ApiState
from podlite.agent.node import Node
from podlite.api.decode import from_builtins
from podlite.api.pod import Pod
from tests.support.agents import manifest
from tests.support.clock import settle
from tests.support.kubelet import a_bench

pytestmark = pytest.mark.anyio


async def test_a_pod_that_ends_as_the_api_opens_is_not_shown_for_ever(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        options: Any = SimpleNamespace()
        state = ApiState(f"{tmp_path}/run/pods", Node(options, bench.runtime, bench.kubelet))
        pod = from_builtins(manifest("web"), Pod)
        pod.metadata.namespace = "default"
        uid = await bench.run(pod)
        # In the very moment in which the state has been taken, and before any other task's turn.
        put = state.pods.put

        def put_and_end(key: str, value: Pod) -> Pod:
            found = put(key, value)
            bench.kubelet._statuses.remove(key)
            return found

        state.pods.put = put_and_end  # type: ignore[method-assign]
        await tasks.start(state.follow)
        await settle()
        assert state.pods.get(uid) is None
        tasks.cancel_scope.cancel()


async def test_a_pod_is_waited_for_until_it_is_gone_or_the_api_closes(tmp_path: Path) -> None:
    state = ApiState(f"{tmp_path}/run/pods")
    found: list[Pod | None] = []

    async def wait() -> None:
        found.append(await state.until("uid", lambda pod: pod.status.phase == "Running"))

    def put(phase: str) -> None:
        pod = from_builtins(manifest("web"), Pod)
        pod.status.phase = phase
        state.pods.put("uid", pod)

    await wait()
    put("Pending")
    with anyio.fail_after(60):
        for happens, phase in (
            (lambda: put("Running"), "Running"),
            (lambda: state.pods.remove("uid"), ""),
            (state.close, ""),
        ):
            put("Pending")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                happens()
            last = found[-1]
            assert (last.status.phase if last is not None else "") == phase
    assert len(found) == 4
