"""Whatever pods there are and whatever happens to them: what must hold all the same (tests.support.invariants)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from podlite.api.pod import Pod
from podlite.cri.errors import CRIError, ImageError, StartError
from podlite.cri.types import ContainerState, PodSandboxState
from tests.support.clock import settle
from tests.support.fake_runtime import Program
from tests.support.invariants import Invariants
from tests.support.kubelet import Bench, a_bench
from tests.support.pods import UID, a_pod, container_policy, init, policy, sidecar

programs = st.builds(
    Program,
    st.sampled_from([None, 0, 1, 5, 700]),
    st.sampled_from([0, 0, 1]),
    stop_seconds=st.sampled_from([0, 1, None]),
)
policies = st.sampled_from(["Always", "OnFailure", "Never"])


@st.composite
def pods(draw: st.DrawFn) -> tuple[Pod, dict[str, list[Program]]]:
    mutators: list[Any] = [policy(draw(policies))]
    names = []
    for index in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from([init, sidecar]))
        names.append(f"i{index}")
        mutators.append(kind(names[-1]))
    count = draw(st.integers(1, 3))
    names += [f"c{index + 1}" for index in range(count)]
    if draw(st.booleans()):
        mutators.append(container_policy("c1", draw(policies)))
    deadline = draw(st.sampled_from([None, None, 3, 50]))
    pod = a_pod(*mutators, containers=count, active_deadline_seconds=deadline, termination_grace_period_seconds=5)
    return pod, {name: draw(st.lists(programs, min_size=1, max_size=3)) for name in names}


actions = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([0.1, 1.0, 10.0, 100.0, 650.0])),
    st.tuples(st.just("exit"), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.sampled_from([0, 1, 5, 60])),
    st.tuples(st.just("image"), st.integers(0, 1)),
    st.tuples(st.just("sandbox"), st.just(0)),
    st.tuples(st.just("fail"), st.sampled_from(["run_pod_sandbox", "create_container", "start_container", "pull"])),
    st.tuples(st.just("stream"), st.just(0)),
)


class OnTheBench(Invariants):
    """And everything that the runtime is asked for."""

    def __init__(self, pod: Pod, bench: Bench) -> None:
        super().__init__(pod)
        self.bench = bench

    def check_runtime(self) -> None:
        running = Counter(self.bench.runtime.running())
        assert all(count == 1 for count in running.values()), running
        ready = [
            each for each in self.bench.runtime.sandboxes.values() if each.status.state == PodSandboxState.SANDBOX_READY
        ]
        assert len(ready) <= 1
        # An app container runs only in a sandbox in which all init containers have completed, or are sidecars.
        for sandbox in ready:
            names = {
                each.config.metadata.name
                for each in sandbox.containers.values()
                if each.status.state == ContainerState.CONTAINER_RUNNING
            }
            if names & {each.name for each in self.pod.spec.containers}:
                unfinished = {
                    each.name for each in self.pod.spec.init_containers if each.restart_policy != "Always"
                } & names
                assert not unfinished


async def act(bench: Bench, action: str, value: Any) -> None:
    runtime = bench.runtime
    if action == "advance":
        await bench.clock.advance(value)
    elif action == "exit" and runtime.running():
        runtime.exit(runtime.running()[value % len(runtime.running())], value % 2)
    elif action == "delete" and bench.kubelet.pods():
        await bench.kubelet.delete_pod(UID, value)
    elif action == "image" and bench.kubelet.pods():
        pod = bench.kubelet.pod(UID)
        first = structs.replace(pod.spec.containers[0], image=f"img:{value + 1}")
        spec = structs.replace(pod.spec, containers=[first, *pod.spec.containers[1:]])
        await bench.kubelet.update_pod(structs.replace(pod, spec=spec))
    elif action == "sandbox":
        for id, each in runtime.sandboxes.items():
            if each.status.state == PodSandboxState.SANDBOX_READY:
                runtime.kill_sandbox(id)
                break
    elif action == "fail":
        if value == "pull":
            bench.images.images.pop("img:2", None)
            bench.images.pulls["img:2"] = [ImageError("gone"), 1.0]
        else:
            error = StartError("no") if value == "start_container" else CRIError("no")
            runtime.failures.setdefault(value, []).append(error)
    elif action == "stream":
        runtime.lose_subscribers()
    await settle()


async def live(pod: Pod, doing: dict[str, list[Program]], steps: list[tuple[str, Any]], directory: str) -> None:
    async with a_bench(directory, sync_error_back_off=1) as bench:
        bench.runtime.programs.update(doing)
        invariants = OnTheBench(pod, bench)
        async with anyio.create_task_group() as tasks:
            changes = bench.kubelet.watch()
            tasks.start_soon(invariants.watch, changes)
            await bench.run(pod)
            invariants.check_runtime()
            for action, value in steps:
                await act(bench, action, value)
                invariants.check_runtime()
            bench.runtime.failures.clear()
            if bench.kubelet.pods():
                await bench.kubelet.delete_pod(UID, 5)
            await bench.clock.advance(60)
            assert bench.kubelet.pods() == []
            assert bench.runtime.sandboxes == {}
            assert bench.runtime.containers == {}
            changes.close()


def left(directory: str) -> list[str]:
    """What is still on disk of any pod."""
    found = []
    for name in ("state/pods", "logs", "run/pods"):
        if os.path.exists(f"{directory}/{name}"):
            found += os.listdir(f"{directory}/{name}")
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pods(), st.lists(actions, max_size=10))
def test_whatever_happens(made: tuple[Pod, dict[str, list[Program]]], steps: list[tuple[str, Any]]) -> None:
    directory = tempfile.mkdtemp(prefix="podlite-test-")
    try:
        anyio.run(live, made[0], made[1], steps, directory)
        assert left(directory) == []
    finally:
        shutil.rmtree(directory)
