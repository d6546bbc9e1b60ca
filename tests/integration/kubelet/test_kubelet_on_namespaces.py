"""Pods on real namespaces, with real containers, from the kubelet's side.

Expected statuses are those of the Kubernetes documentation and of pkg/kubelet, Kubernetes 1.36.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from anyio import to_thread

from podlite.api.container import EphemeralContainer, ResourceRequirements, VolumeMount
from podlite.api.pod import Pod
from podlite.api.probes import ExecAction, Lifecycle, LifecycleHandler, Probe
from podlite.api.status import ContainerStatus
from podlite.api.volumes import EmptyDirVolumeSource, Volume
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.read_logs import LogOptions
from podlite.linux.cgroups import Cgroups
from podlite.runtime.service import Runtime
from tests.support.containers import HOST_IMAGE, fd_count
from tests.support.pods import a_pod, init, policy, sidecar, with_fields

pytestmark = [pytest.mark.root, pytest.mark.anyio]

ALWAYS, ON_FAILURE, NEVER = policy("Always"), policy("OnFailure"), policy("Never")
SHARED = {
    "image": HOST_IMAGE,
    "volume_mounts": [VolumeMount(name="shared", mount_path="/shared")],
}


def sh(script: str) -> dict[str, Any]:
    """Fields of a container that runs a script; it can write to /shared."""
    return {**SHARED, "command": ["/bin/sh", "-c", script]}


def pod_of(*mutators: Any, script: str = "true", **spec: Any) -> Pod:
    """A pod whose container c1 runs `script`, with a volume that all containers share."""
    volumes = [Volume(name="shared", empty_dir=EmptyDirVolumeSource())]
    return a_pod(with_fields("c1", **sh(script)), *mutators, uid="", volumes=volumes, **spec)


class SharedFile:
    """A file in the pod's volume, held open: it can be read when the pod is gone."""

    def __init__(self, kubelet: Kubelet, uid: str, name: str) -> None:
        path = f"{kubelet.config.state_dir}/pods/{uid}/volumes/kubernetes.io~empty-dir/shared/{name}"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.fchmod(self._fd, 0o666)

    def read(self) -> bytes:
        try:
            return os.pread(self._fd, 1 << 20, 0)
        finally:
            os.close(self._fd)

    def words(self) -> list[str]:
        return self.read().decode().split()


async def start(kubelet: Kubelet, pod: Pod) -> str:
    return (await kubelet.add_pod(pod)).metadata.uid


async def until(kubelet: Kubelet, uid: str, wanted: Callable[[Pod], Any]) -> Pod:
    """Waits for a pod to look as it should."""
    with anyio.fail_after(60), kubelet.watch(initial=True) as changes:
        async for change in changes:
            if change.pod.metadata.uid == uid and wanted(change.pod):
                return change.pod
    raise AssertionError("the watch ended")


def status(pod: Pod, name: str = "c1") -> Any:
    found = pod.status
    every = (*found.init_container_statuses, *found.container_statuses, *found.ephemeral_container_statuses)
    return next((each for each in every if each.name == name), ContainerStatus(name=name))


def runs(pod: Pod) -> bool:
    return pod.status.phase == "Running"


async def over(kubelet: Kubelet, uid: str) -> Pod:
    with anyio.fail_after(60):
        return await kubelet.wait_terminated(uid)


async def log(kubelet: Kubelet, pod: Pod, name: str = "c1", **options: Any) -> str:
    previous = options.pop("previous", False)
    outputs = kubelet.streams.logs(pod, name, LogOptions(**options), previous=previous)
    return b"".join([each.data async for each in outputs]).decode()


async def said(kubelet: Kubelet, uid: str, text: str, name: str = "c1") -> Pod:
    """Waits until a container has said something in its log."""
    pod = await until(kubelet, uid, lambda pod: status(pod, name).container_id)
    found = b""
    with anyio.fail_after(60):
        async with aclosing(kubelet.streams.logs(pod, name, LogOptions(follow=True))) as outputs:
            async for each in outputs:
                found += each.data
                if text.encode() in found:
                    return pod
    raise AssertionError(f"{name} ended and said only {found!r}")


# --- ends -------------------------------------------------------------------------------------------


async def test_from_nothing_to_nothing(kubelet: Kubelet, runtime: Runtime) -> None:
    uid = await start(kubelet, pod_of(NEVER, script="echo hello; echo oops >&2"))
    pod = await over(kubelet, uid)
    assert pod.status.phase == "Succeeded"
    ended = status(pod).state.terminated
    assert (ended.exit_code, ended.reason) == (0, "Completed")
    assert ended.container_id.startswith("podlite://")
    assert sorted((await log(kubelet, pod)).splitlines()) == ["hello", "oops"]
    assert [each.reason for each in kubelet.events(uid)] == ["Pulled", "Created", "Started"]
    await kubelet.delete_pod(uid)
    await kubelet.wait_removed(uid)
    layout = runtime.layout
    assert os.listdir(layout.containers_dir) == []
    assert os.listdir(layout.netns_dir) == []
    assert os.listdir(layout.log_dir) == []
    assert os.listdir(layout.pods_dir) == []
    assert os.listdir(f"{layout.state_dir}/pods") == []
    assert await runtime.list_pod_sandbox() == []


async def test_an_exit_code_and_its_message(kubelet: Kubelet) -> None:
    uid = await start(kubelet, pod_of(NEVER, script="echo because > /dev/termination-log; exit 7"))
    pod = await over(kubelet, uid)
    assert pod.status.phase == "Failed"
    ended = status(pod).state.terminated
    assert (ended.exit_code, ended.reason, ended.message) == (7, "Error", "because\n")


async def test_the_log_as_message(kubelet: Kubelet) -> None:
    pod = pod_of(
        NEVER,
        with_fields("c1", termination_message_policy="FallbackToLogsOnError"),
        script="echo one; echo two; exit 1",
    )
    ended = status(await over(kubelet, await start(kubelet, pod))).state.terminated
    assert ended.message == "one\ntwo\n"


async def test_a_command_that_does_not_exist(kubelet: Kubelet) -> None:
    pod = pod_of(NEVER, with_fields("c1", command=["/no/such/command"]))
    pod = await over(kubelet, await start(kubelet, pod))
    ended = status(pod).state.terminated
    assert (pod.status.phase, ended.exit_code, ended.reason) == ("Failed", 128, "StartError")
    assert "/no/such/command" in ended.message


async def test_a_container_that_needs_too_much_memory(kubelet: Kubelet) -> None:
    if not Cgroups.detect(kubelet.config.cgroup_root).version_of("memory"):
        pytest.skip("no memory controller here")
    limit = ResourceRequirements(limits={"memory": "24Mi"}, requests={"memory": "24Mi"})
    script = "head -c 100000000 /dev/zero | tail"
    pod = pod_of(NEVER, with_fields("c1", resources=limit), containers=2, script=script)
    with_fields("c2", **sh("sleep 1000"))(pod)
    uid = await start(kubelet, pod)
    pod = await until(kubelet, uid, lambda pod: status(pod).state.terminated)
    ended = status(pod).state.terminated
    assert ended.reason == "OOMKilled"
    assert status(pod, "c2").state.running is not None
    assert pod.status.qos_class == "Burstable"


# --- order ------------------------------------------------------------------------------------------


async def test_init_containers_in_order(kubelet: Kubelet) -> None:
    pod = pod_of(
        NEVER,
        init("i1", **sh("echo i1 >> /shared/order; sleep 0.1; echo done-i1 >> /shared/order")),
        init("i2", **sh("echo i2 >> /shared/order")),
        script="echo c1 >> /shared/order; echo ready; exec sleep 1000",
    )
    uid = await start(kubelet, pod)
    await said(kubelet, uid, "ready")
    assert SharedFile(kubelet, uid, "order").words() == ["i1", "done-i1", "i2", "c1"]
    codes = [each.state.terminated for each in kubelet.pod(uid).status.init_container_statuses]
    assert [each.exit_code for each in codes if each is not None] == [0, 0]


async def test_sidecars_end_after_the_app_in_reverse(kubelet: Kubelet) -> None:
    on_term = "trap 'echo {0} >> /shared/order; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    pod = pod_of(
        ALWAYS,
        sidecar("s1", **sh(on_term.format("s1"))),
        sidecar("s2", **sh(on_term.format("s2"))),
        script=on_term.format("c1"),
    )
    uid = await start(kubelet, pod)
    for name in ("s1", "s2", "c1"):
        await said(kubelet, uid, "ready", name)
    order = SharedFile(kubelet, uid, "order")
    await kubelet.delete_pod(uid, 10)
    await kubelet.wait_removed(uid)
    assert order.words() == ["c1", "s2", "s1"]


async def test_sidecars_do_not_keep_a_pod_from_completing(kubelet: Kubelet) -> None:
    pod = pod_of(NEVER, sidecar("s1", **sh("trap 'exit 0' TERM; while :; do sleep 0.01; done")), script="sleep 0.1")
    pod = await over(kubelet, await start(kubelet, pod))
    assert pod.status.phase == "Succeeded"
    assert status(pod, "s1").state.terminated is not None


async def test_the_hook_comes_before_the_signal(kubelet: Kubelet) -> None:
    command = ExecAction(command=["/bin/sh", "-c", "echo hook >> /shared/order"])
    hook = Lifecycle(pre_stop=LifecycleHandler(exec=command))
    script = "trap 'echo term >> /shared/order; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    uid = await start(kubelet, pod_of(ALWAYS, with_fields("c1", lifecycle=hook), script=script))
    await said(kubelet, uid, "ready")
    order = SharedFile(kubelet, uid, "order")
    await kubelet.delete_pod(uid, 10)
    await kubelet.wait_removed(uid)
    assert order.words() == ["hook", "term"]


async def test_who_ignores_the_signal_is_killed(kubelet: Kubelet) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
    uid = await start(kubelet, pod_of(NEVER, script=script))
    await said(kubelet, uid, "ready")
    await kubelet.stop_pod(uid, 1)
    pod = await over(kubelet, uid)
    ended = status(pod).state.terminated
    assert (ended.exit_code, ended.reason, pod.status.phase) == (137, "Error", "Failed")


async def test_a_deadline(kubelet: Kubelet) -> None:
    pod = pod_of(ALWAYS, script="exec sleep 1000", active_deadline_seconds=1, termination_grace_period_seconds=2)
    pod = await over(kubelet, await start(kubelet, pod))
    assert (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded")
    assert pod.status.message == "Pod was active on the node longer than the specified deadline"


# --- restarts ---------------------------------------------------------------------------------------


async def test_restarts_and_previous_logs(kubelet: Kubelet) -> None:
    script = "echo run $(cat /shared/count 2>/dev/null); echo x >> /shared/count; test $(wc -l < /shared/count) -ge 3"
    pod = await over(kubelet, await start(kubelet, pod_of(ON_FAILURE, script=script)))
    assert pod.status.phase == "Succeeded"
    found = status(pod)
    assert (found.restart_count, found.last_state.terminated.exit_code) == (2, 1)
    assert await log(kubelet, pod) == "run x x\n"
    assert await log(kubelet, pod, previous=True) == "run x\n"


async def test_a_failed_liveness_probe_restarts(kubelet: Kubelet) -> None:
    command = ["/bin/sh", "-c", "test ! -e /shared/sick"]
    probe = Probe(exec=ExecAction(command=command), period_seconds=1, failure_threshold=1)
    script = "rm -f /shared/sick; sleep 0.3; test -e /shared/once || touch /shared/once /shared/sick; exec sleep 1000"
    uid = await start(kubelet, pod_of(ALWAYS, with_fields("c1", liveness_probe=probe), script=script,
                                      termination_grace_period_seconds=1))  # fmt: skip
    pod = await until(kubelet, uid, lambda pod: status(pod).restart_count == 1 and status(pod).state.running)
    assert status(pod).last_state.terminated.exit_code in (137, 143)
    messages = [each.message for each in kubelet.events(uid)]
    assert "Container c1 failed liveness probe, will be restarted" in messages


async def test_a_pod_whose_shim_dies_gets_a_new_sandbox(kubelet: Kubelet, runtime: Runtime) -> None:
    uid = await start(kubelet, pod_of(ALWAYS, script="exec sleep 1000"))
    await until(kubelet, uid, runs)
    [sandbox] = runtime.store.sandboxes.values()
    assert sandbox.shim is not None
    os.kill(sandbox.shim.pid, signal.SIGKILL)
    pod = await until(kubelet, uid, lambda pod: status(pod).restart_count == 1 and status(pod).state.running)
    assert pod.status.phase == "Running"
    assert "SandboxChanged" in [each.reason for each in kubelet.events(uid)]


# --- looking inside ---------------------------------------------------------------------------------


async def test_following_a_log(kubelet: Kubelet) -> None:
    script = "for n in 1 2 3; do echo $n; sleep 0.05; done; printf unended"
    uid = await start(kubelet, pod_of(NEVER, script=script))
    pod = await until(kubelet, uid, lambda pod: status(pod).state.running)
    with anyio.fail_after(60):
        assert await log(kubelet, pod, follow=True) == "1\n2\n3\nunended"


async def test_binary_output_survives(kubelet: Kubelet) -> None:
    script = "head -c 100000 /dev/urandom > /shared/bytes; cat /shared/bytes; exec sleep 1000"
    uid = await start(kubelet, pod_of(NEVER, script=script))
    pod = await until(kubelet, uid, runs)
    found = b""
    with anyio.fail_after(60):
        async for each in kubelet.streams.logs(pod, "c1", LogOptions(follow=True, limit_bytes=100_000)):
            found += each.data
    assert found == SharedFile(kubelet, uid, "bytes").read()
    assert len(found) == 100_000


async def test_a_log_is_rotated_under_a_reader(kubelet: Kubelet) -> None:
    from podlite.kubelet.container_logs import ContainerLogManager

    script = "n=0; while [ $n -lt 300 ]; do echo $n; n=$((n+1)); sleep 0.001; done; sleep 1000"
    uid = await start(kubelet, pod_of(NEVER, script=script))
    pod = await until(kubelet, uid, runs)
    manager = ContainerLogManager(kubelet.runtime, kubelet.clock, kubelet.config)
    [running] = kubelet.runtime_status(uid).running_containers()
    found = b""
    with anyio.fail_after(60):
        async for each in kubelet.streams.logs(pod, "c1", LogOptions(follow=True)):
            found += each.data
            if found.count(b"\n") > 100 and manager is not None:
                await manager.rotate(running.id, running.log_path)
                manager = None  # type: ignore[assignment]
            if found.count(b"\n") >= 300:
                break
    assert found == b"".join([b"%d\n" % number for number in range(300)])
    assert len(os.listdir(os.path.dirname(running.log_path))) == 2


async def test_exec(kubelet: Kubelet) -> None:
    uid = await start(kubelet, pod_of(NEVER, script="exec sleep 1000"))
    pod = await until(kubelet, uid, runs)
    command = ["/bin/sh", "-c", "cat; exit 5"]
    async with await kubelet.streams.exec(
        pod, "c1", command, tty=False, stdin=True, stdout=True, stderr=False
    ) as stream:
        assert stream.stdin is not None
        assert stream.stdout is not None
        await stream.stdin.send(b"ping")
        await stream.stdin.aclose()
        assert await stream.stdout.receive() == b"ping"
        assert await stream.wait() == 5


async def test_debugging_with_an_ephemeral_container(kubelet: Kubelet) -> None:
    uid = await start(kubelet, pod_of(ALWAYS, script="exec sleep 1234"))
    await until(kubelet, uid, runs)
    look = ["/bin/sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]
    debug = EphemeralContainer(
        name="debug",
        image=HOST_IMAGE,
        command=look,
        target_container_name="c1",
        image_pull_policy="IfNotPresent",
        termination_message_path="/dev/termination-log",
    )
    await kubelet.add_ephemeral_container(uid, debug)
    pod = await until(kubelet, uid, lambda pod: status(pod, "debug").state.terminated)
    assert pod.status.phase == "Running"
    assert await log(kubelet, pod, "debug") == "sleep 1234 "


# --- many -------------------------------------------------------------------------------------------


async def test_many_pods_leave_nothing(kubelet: Kubelet, runtime: Runtime) -> None:
    async def one(number: int) -> None:
        pod = pod_of(NEVER, name=f"p{number}", script="true")
        uid = await start(kubelet, pod)
        assert (await over(kubelet, uid)).status.phase == "Succeeded"
        await kubelet.delete_pod(uid)
        await kubelet.wait_removed(uid)

    async def some() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(one, number)
        # The thread that removes what is left of them has descriptors meanwhile.
        await to_thread.run_sync(runtime.trash.wait)
        await to_thread.run_sync(kubelet._parts._trash.wait)

    await some()
    before = fd_count()
    for _ in range(3):
        await some()
    assert kubelet.pods() == []
    assert await runtime.list_pod_sandbox() == []
    assert os.listdir(runtime.layout.netns_dir) == []
    assert fd_count() <= before
