"""Whatever pods there are and whatever happens to them, with real containers: tests.support.invariants, and in the end
nothing is left. The same without a kernel, and with time in the test's hands: tests/unit/kubelet.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from podlite.api.pod import Pod
from podlite.api.probes import ExecAction, Lifecycle, LifecycleHandler, Probe
from podlite.kubelet.kubelet import Kubelet, PodNotFound
from podlite.kubelet.types import KubeletConfig
from podlite.linux.syscalls import MNT_DETACH, umount2
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from tests.support.cgroup_roots import own_root
from tests.support.containers import HOST_IMAGE
from tests.support.invariants import Invariants
from tests.support.leaks import leaked, machine_state
from tests.support.pods import a_pod, container_policy, init, policy, sidecar, with_fields

pytestmark = pytest.mark.root

# What a container does: it ends soon, it goes on until it is told to end, or until it is killed.
SCRIPTS = [
    "true",
    "exit 3",
    "sleep 0.1",
    "sleep 0.1; exit 1",
    "trap 'exit 0' TERM; while :; do sleep 0.02; done",
    "trap 'sleep 0.3; exit 7' TERM; while :; do sleep 0.02; done",
    "trap '' TERM; while :; do sleep 0.02; done",
    "exec sleep 1000",
    "exec /no/such/command",
]
scripts = st.sampled_from(SCRIPTS)
probes = st.sampled_from([None, None, ["true"], ["false"], ["/no/such/probe"]])
policies = st.sampled_from(["Always", "OnFailure", "Never"])


def behaves(name: str, script: str, probe: list[str] | None, kind: str, hook: list[str] | None) -> Any:
    fields: dict[str, Any] = {"image": HOST_IMAGE, "command": ["/bin/sh", "-c", script]}
    if probe is not None:
        fields[kind] = Probe(exec=ExecAction(command=probe), period_seconds=1, failure_threshold=1)
    if hook is not None:
        fields["lifecycle"] = Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=hook)))
    return with_fields(name, **fields)


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    mutators: list[Any] = [policy(draw(policies))]
    probed = []
    for index in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from([init, sidecar]))
        mutators.append(kind(f"i{index}"))
        # Other init containers have neither probes nor hooks.
        probe = draw(probes) if kind is sidecar else None
        hook = draw(st.sampled_from([None, ["true"], ["false"]])) if kind is sidecar else None
        mutators.append(behaves(f"i{index}", draw(scripts), probe, "startup_probe", hook))
    count = draw(st.integers(1, 3))
    for index in range(count):
        name = f"c{index + 1}"
        hook = draw(st.sampled_from([None, None, ["true"], ["false"], ["sleep", "1000"]]))
        kind = draw(st.sampled_from(["liveness_probe", "readiness_probe", "startup_probe"]))
        probed.append(behaves(name, draw(scripts), draw(probes), kind, hook))
    if draw(st.booleans()):
        mutators.append(container_policy("c1", draw(policies)))
    return a_pod(
        *probed,
        *mutators,
        containers=count,
        uid="",
        termination_grace_period_seconds=1,
        active_deadline_seconds=draw(st.sampled_from([None, None, 1])),
        share_process_namespace=draw(st.sampled_from([None, True])),
        host_users=draw(st.sampled_from([None, None, False])),
    )


actions = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.3])),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("shim"), st.just(0)),
    st.tuples(st.just("image"), st.integers(0, 1)),
    st.tuples(st.just("delete"), st.sampled_from([0, 1, 5])),
    st.tuples(st.just("stop"), st.sampled_from([0, 1])),
)


async def act(kubelet: Kubelet, runtime: Runtime, uid: str, action: str, value: Any) -> None:
    if action == "wait":
        await anyio.sleep(value)
    elif action == "kill":
        running = [each for each in runtime.store.containers.values() if each.state == "running" and each.pid > 0]
        if running:
            kill(running[value % len(running)].pid)
    elif action == "shim":
        for sandbox in runtime.store.sandboxes.values():
            if sandbox.shim is not None and not sandbox.shim.gone:
                kill(sandbox.shim.pid)
    elif action == "image":
        pod = kubelet.pod(uid)
        image = (HOST_IMAGE, HOST_IMAGE.partition(":")[0])[value]
        first = structs.replace(pod.spec.containers[0], image=image)
        await kubelet.update_pod(
            structs.replace(pod, spec=structs.replace(pod.spec, containers=[first, *pod.spec.containers[1:]]))
        )
    elif action == "delete":
        await kubelet.delete_pod(uid, value)
    elif action == "stop":
        await kubelet.stop_pod(uid, value)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


async def live(pod: Pod, steps: list[tuple[str, Any]], layout: Layout) -> None:
    config = KubeletConfig(
        run_dir=layout.run_dir,
        state_dir=layout.state_dir,
        log_dir=layout.log_dir,
        cgroup_root=layout.cgroup_root,
        sync_error_back_off=0.2,
        container_back_off=0.2,
        max_container_back_off=0.5,
    )
    async with Runtime(layout, network=NoneNetwork()) as runtime, Kubelet(runtime, runtime.images, config) as kubelet:
        invariants = Invariants(pod)
        async with anyio.create_task_group() as tasks:
            changes = kubelet.watch()
            tasks.start_soon(invariants.watch, changes)
            uid = (await kubelet.add_pod(pod)).metadata.uid
            for action, value in steps:
                try:
                    await act(kubelet, runtime, uid, action, value)
                except PodNotFound:
                    break
                await anyio.sleep(0.02)
            try:
                await kubelet.delete_pod(uid, 1)
            except PodNotFound:
                pass
            with anyio.fail_after(60):
                await kubelet.wait_removed(uid)
            changes.close()
        assert kubelet.pods() == []
        assert await runtime.list_pod_sandbox() == []
        assert await runtime.list_containers() == []


def left(layout: Layout) -> list[str]:
    """What is still on disk of any pod."""
    places = (layout.pods_dir, layout.containers_dir, layout.netns_dir, layout.log_dir, f"{layout.state_dir}/pods")
    return [path for place in places for top, names, files in os.walk(place) for path in _paths(top, names + files)]


def _paths(top: str, names: list[str]) -> list[str]:
    return [f"{top}/{name}" for name in names]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods(), st.lists(actions, max_size=5))
def test_whatever_happens_to_real_containers(shared_state_dir: str, pod: Pod, steps: list[tuple[str, Any]]) -> None:
    directory = tempfile.mkdtemp(prefix="podlite-")
    layout = Layout(
        run_dir=f"{directory}/run",
        state_dir=shared_state_dir,
        log_dir=f"{directory}/log",
        netns_dir=f"{directory}/netns",
        cgroup_root=own_root(),
    )
    before = machine_state()
    try:
        anyio.run(live, pod, steps, layout)
        assert left(layout) == []
        umount2(layout.netns_dir, MNT_DETACH)
        # The kernel frees network namespaces, and processes that have been killed, in its own time.
        deadline = time.monotonic() + 20
        while found := leaked(before, machine_state()):
            assert time.monotonic() < deadline, f"left behind: {found}"
            time.sleep(0.05)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
