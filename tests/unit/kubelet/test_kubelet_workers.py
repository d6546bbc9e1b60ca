"""What happens when: pods on a runtime in memory and a clock that stands still.

Times, reasons and messages are those of the Kubernetes documentation and of pkg/kubelet, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from podlite.api.config import ConfigMap
from podlite.api.container import ContainerPort, EnvVar, EphemeralContainer, VolumeMount
from podlite.api.env import ConfigMapKeySelector, EnvVarSource
from podlite.api.meta import ObjectMeta
from podlite.api.pod import PodReadinessGate
from podlite.api.probes import ExecAction, Lifecycle, LifecycleHandler
from podlite.api.security import PodSecurityContext, Sysctl
from podlite.api.status import PodCondition
from podlite.api.volumes import ConfigMapVolumeSource, EmptyDirVolumeSource, Volume
from podlite.cri.errors import CRIError, DeadlineExceededError, ImageError, NetworkSetupError, StartError
from podlite.cri.types import ExecSyncResult
from podlite.kubelet.adopt import adopt_all
from podlite.kubelet.hopeless import hopeless
from podlite.kubelet.kubelet import PodExists, PodNotFound
from podlite.kubelet.written_pods import read_pods
from tests.support.clock import FakeClock, settle
from tests.support.fake_runtime import FakeImages, FakeRuntime, Program
from tests.support.kubelet import Bench, a_bench
from tests.support.pods import (
    UID,
    a_pod,
    exec_probe,
    init,
    policy,
    post_start_exec,
    pre_stop,
    sidecar,
    with_fields,
)

pytestmark = pytest.mark.anyio

ALWAYS, ON_FAILURE, NEVER = policy("Always"), policy("OnFailure"), policy("Never")


def starts(bench: Bench, name: str = "c1") -> list[float]:
    """When a container was started, in seconds."""
    return [round(each[2], 2) for each in bench.runtime.calls if each[:2] == ("start_container", name)]


def stops(bench: Bench) -> list[tuple[str, int, float]]:
    """Which container was asked to stop, with what timeout, and when."""
    return [(each[1], each[2], round(each[3], 2)) for each in bench.runtime.calls if each[0] == "stop_container"]


def calls(bench: Bench) -> list[str]:
    return [each[0] for each in bench.runtime.calls]


# --- a pod's way ------------------------------------------------------------------------------------


async def test_a_pod_that_runs_to_its_end(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(5)]
        uid = await bench.run(a_pod(NEVER))
        assert bench.phase(uid) == "Running"
        await bench.clock.advance(6)
        assert bench.phase(uid) == "Succeeded"
        assert bench.told() == [
            'Pulled Container image "img:1" already present on machine and can be accessed by the pod',
            "Created Container created",
            "Started Container started",
        ]
        assert calls(bench) == ["run_pod_sandbox", "create_container", "start_container", "stop_pod_sandbox"]
        pod = await bench.kubelet.wait_terminated(uid)
        assert pod.status.container_statuses[0].state.terminated is not None
        assert pod.status.container_statuses[0].state.terminated.finished_at == "2026-11-23T20:00:05Z"
        assert pod.status.pod_ip == "10.85.0.2"


async def test_nothing_is_left_of_a_deleted_pod(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(1)]
        volume = Volume(name="scratch", empty_dir=EmptyDirVolumeSource())
        pod = a_pod(
            NEVER, with_fields("c1", volume_mounts=[VolumeMount(name="scratch", mount_path="/s")]), volumes=[volume]
        )
        uid = await bench.run(pod)
        assert os.listdir(tmp_path / "state/pods") == [uid]
        assert os.listdir(tmp_path / "logs") == [f"default_web_{uid}"]
        await bench.clock.advance(2)
        # The pod is over: volumes and cgroup are given back, what a person may look at stays.
        assert os.listdir(tmp_path / "state/pods") == []
        assert os.listdir(tmp_path / "logs") == [f"default_web_{uid}"]
        assert len(bench.runtime.containers) == 1
        await bench.kubelet.delete_pod(uid)
        await settle()
        assert not bench.runtime.containers
        assert not bench.runtime.sandboxes
        assert bench.kubelet.pods() == []
        for name in ("state/pods", "logs", "run/pods"):
            assert os.listdir(tmp_path / name) == []
        with pytest.raises(PodNotFound):
            bench.kubelet.pod(uid)
        await bench.kubelet.wait_removed(uid)


async def test_logs_may_be_kept(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER))
        await bench.kubelet.delete_pod(uid, keep_logs=True)
        await bench.clock.advance(3)
        assert bench.kubelet.pods() == []
        assert os.listdir(tmp_path / "logs") == [f"default_web_{uid}"]


async def test_two_pods_of_one_name(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.run(a_pod(NEVER))
        with pytest.raises(PodExists, match='pods "web" already exists'):
            await bench.run(a_pod(NEVER, uid="another"))
        with pytest.raises(PodExists):
            await bench.run(a_pod(NEVER, name="other"))


async def test_a_pod_gets_its_identity(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER, uid=""))
        meta = bench.kubelet.pod(uid).metadata
        assert (len(uid), uid[14], meta.generation) == (36, "4", 1)
        assert meta.creation_timestamp == "2026-11-23T20:00:00Z"


# --- restarts ---------------------------------------------------------------------------------------


async def test_crash_loop_back_off(tmp_path: Path) -> None:
    # "The kubelet restarts them with an exponential back-off delay (10s, 20s, 40s, …), that is capped at 300
    # seconds": https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(1, 3)]
        uid = await bench.run(a_pod(ALWAYS))
        await bench.clock.advance(1300)
        begun = starts(bench)
        pauses = [round(after - before - 1) for before, after in pairwise(begun)]
        assert pauses[:8] == [0, 10, 20, 40, 80, 160, 300, 300]
        status = bench.container(uid, "c1")
        assert status.restart_count == len(begun) - 1
        assert status.state.waiting.reason == "CrashLoopBackOff"
        assert status.state.waiting.message == f"back-off 5m0s restarting failed container=c1 pod=web_default({UID})"
        assert status.last_state.terminated.exit_code == 3
        assert bench.phase(uid) == "Running"
        event = bench.events("BackOff")[0]
        assert event.message == f"Back-off restarting failed container c1 in pod web_default({UID})"
        assert event.type == "Warning"
        assert event.count > 5
        # One dead instance is kept for its last state and its log.
        assert len(bench.runtime.containers) <= 2


async def test_back_off_starts_over_after_ten_minutes(tmp_path: Path) -> None:
    # "Once a container has executed for 10 minutes without any problems, the kubelet resets the restart backoff timer"
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(1, 3), Program(1, 3), Program(1, 3), Program(601, 3), Program(1, 3)]
        await bench.run(a_pod(ALWAYS))
        await bench.clock.advance(660)
        begun = starts(bench)
        assert begun[:4] == [0, 1, 12, 33]
        assert begun[4] == pytest.approx(33 + 601, abs=0.1)
        assert begun[5] == pytest.approx(33 + 602 + 10, abs=0.1)


async def test_on_failure_restarts_what_failed_only(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(1, 1), Program(1, 0)]
        bench.runtime.programs["c2"] = [Program(1, 0)]
        uid = await bench.run(a_pod(ON_FAILURE, containers=2))
        await bench.clock.advance(5)
        assert (len(starts(bench, "c1")), len(starts(bench, "c2"))) == (2, 1)
        assert bench.phase(uid) == "Succeeded"


async def test_an_init_container_that_fails_for_good(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["i1"] = [Program(1, 2)]
        uid = await bench.run(a_pod(NEVER, init("i1")))
        await bench.clock.advance(2)
        assert bench.phase(uid) == "Failed"
        assert bench.container(uid, "c1").state.waiting.reason == "PodInitializing"
        assert starts(bench) == []


async def test_init_containers_in_order(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        for name in ("i1", "i2", "i3"):
            bench.runtime.programs[name] = [Program(1)]
        uid = await bench.run(a_pod(ALWAYS, init("i1", "i2", "i3")))
        await bench.clock.advance(10)
        assert bench.runtime.names_of("start_container") == ["i1", "i2", "i3", "c1"]
        assert bench.phase(uid) == "Running"
        assert bench.condition(uid, "Initialized").status == "True"


async def test_containers_that_end_at_once_are_not_missed(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["i1"] = [Program(0)]
        bench.runtime.programs["c1"] = [Program(0)]
        uid = await bench.run(a_pod(NEVER, init("i1")))
        await bench.clock.advance(0.1)
        assert bench.phase(uid) == "Succeeded"


async def test_a_changed_image_restarts_the_container(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER, containers=2))
        pod = bench.kubelet.pod(uid)
        changed = [structs.replace(pod.spec.containers[0], image="img:2"), pod.spec.containers[1]]
        updated = await bench.kubelet.update_pod(
            structs.replace(pod, spec=structs.replace(pod.spec, containers=changed))
        )
        assert updated.metadata.generation == 2
        await bench.clock.advance(1)
        assert "Killing Container c1 definition changed, will be restarted" in bench.told()
        status = bench.container(uid, "c1")
        assert (status.image, status.restart_count) == ("img:2", 1)
        assert bench.container(uid, "c2").restart_count == 0
        assert bench.status(uid).observed_generation == 2


async def test_a_sandbox_that_dies_is_made_again(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS, init("i1")))
        bench.runtime.exit("i1")
        await bench.clock.advance(30)
        assert bench.phase(uid) == "Running"
        bench.runtime.kill_sandbox("sandbox-00000001")
        await bench.clock.advance(5)
        assert "SandboxChanged Pod sandbox changed, it will be killed and re-created." in bench.told()
        attempts = [each.config.metadata.attempt for each in bench.runtime.sandboxes.values()]
        assert attempts == [0, 1]
        # Everything begins again, init containers too.
        assert bench.runtime.names_of("start_container") == ["i1", "c1", "i1"]
        bench.runtime.exit("i1")
        await bench.clock.advance(30)
        assert bench.phase(uid) == "Running"
        assert bench.container(uid, "c1").restart_count == 1


async def test_a_never_pod_whose_sandbox_dies_fails(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER))
        bench.runtime.kill_sandbox("sandbox-00000001")
        await bench.clock.advance(5)
        assert bench.phase(uid) == "Failed"
        assert bench.container(uid, "c1").state.terminated.reason == "ContainerStatusUnknown"
        assert len(bench.runtime.sandboxes) == 1


async def test_a_never_pod_whose_sandbox_dies_before_the_app_was_started_fails(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.images.pulls["big:1"] = [60.0]
        uid = await bench.run(a_pod(NEVER, init("i1"), with_fields("c1", image="big:1")))
        bench.runtime.exit("i1")
        await bench.clock.advance(5)
        bench.runtime.kill_sandbox("sandbox-00000001")
        await bench.clock.advance(60)
        status = bench.status(uid)
        assert (status.phase, status.reason) == ("Failed", "PodSandboxLost")
        assert bench.container(uid, "i1").state.terminated.exit_code == 0
        assert len(bench.runtime.sandboxes) == 1


# --- sidecars ---------------------------------------------------------------------------------------


async def test_sidecars_start_in_order_and_end_in_reverse(tmp_path: Path) -> None:
    # KEP-753: the app containers are stopped first, then the sidecars, the last one first.
    async with a_bench(tmp_path) as bench:
        for name in ("s1", "s2", "c1"):
            bench.runtime.programs[name] = [Program(stop_seconds=1)]
        uid = await bench.run(a_pod(ALWAYS, sidecar("s1", "s2")))
        assert bench.runtime.names_of("start_container") == ["s1", "s2", "c1"]
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(10)
        assert stops(bench) == [("c1", 30, 0), ("s2", 29, 1), ("s1", 28, 2)]
        assert bench.kubelet.pods() == []


async def test_sidecars_do_not_keep_a_pod_from_completing(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(3)]
        bench.runtime.programs["s1"] = [Program(stop_seconds=2)]
        uid = await bench.run(a_pod(NEVER, sidecar("s1")))
        await bench.clock.advance(4)
        # Not before everything has stopped is the pod shown as over.
        assert bench.phase(uid) == "Running"
        await bench.clock.advance(2)
        assert bench.phase(uid) == "Succeeded"
        assert bench.container(uid, "s1").state.terminated.exit_code == 143


async def test_a_sidecar_that_ends_is_restarted_alone(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["s1"] = [Program(1, 1), Program()]
        uid = await bench.run(a_pod(NEVER, sidecar("s1")))
        await bench.clock.advance(2)
        assert bench.runtime.names_of("start_container") == ["s1", "c1", "s1"]
        assert bench.container(uid, "s1").restart_count == 1
        assert bench.phase(uid) == "Running"


async def test_a_startup_probe_gates_the_next_container(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.exec_results["probe"] = [ExecSyncResult(exit_code=1), ExecSyncResult(exit_code=0)]
        probe = exec_probe(period_seconds=5, failure_threshold=3)
        uid = await bench.run(a_pod(ALWAYS, sidecar("s1"), with_fields("s1", startup_probe=probe)))
        await bench.clock.advance(6)
        assert bench.runtime.running() == ["s1"]
        assert bench.container(uid, "s1").started is False
        await bench.clock.advance(10)
        assert bench.runtime.running() == ["s1", "c1"]
        assert bench.container(uid, "s1").started is True
        assert bench.phase(uid) == "Running"


# --- the end ----------------------------------------------------------------------------------------


async def test_deletion_waits_for_the_grace_period(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        uid = await bench.run(a_pod(ALWAYS))
        await bench.kubelet.delete_pod(uid)
        await bench.clock.advance(29)
        assert bench.runtime.running() == ["c1"]
        meta = bench.kubelet.pod(uid).metadata
        assert (meta.deletion_grace_period_seconds, meta.deletion_timestamp) == (30, "2026-11-23T20:00:30Z")
        assert "Killing Stopping container c1" in bench.told()
        await bench.clock.advance(2)
        assert bench.runtime.running() == []
        assert bench.kubelet.pods() == []
        assert stops(bench) == [("c1", 30, 0)]


async def test_a_grace_period_can_become_shorter(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        uid = await bench.run(a_pod(ALWAYS))
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(5)
        await bench.kubelet.delete_pod(uid, 3)
        await bench.clock.advance(4)
        assert bench.kubelet.pods() == []
        assert stops(bench) == [("c1", 30, 0), ("c1", 3, 5)]
        assert len(bench.events("Killing")) == 1


async def test_a_grace_period_cannot_become_longer(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        uid = await bench.run(a_pod(ALWAYS))
        await bench.kubelet.delete_pod(uid, 3)
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(4)
        assert bench.kubelet.pods() == []


async def test_zero_kills_at_once(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        uid = await bench.run(a_pod(ALWAYS, pre_stop("c1", 5)))
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(1)
        await bench.kubelet.delete_pod(uid, 0)
        await settle()
        assert bench.kubelet.pods() == []
        assert stops(bench) == [("c1", 0, 1)]


async def test_one_second_is_one_second(tmp_path: Path) -> None:
    # Here podlite differs: minimumGracePeriodInSeconds in pkg/kubelet/kuberuntime makes two of it.
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        uid = await bench.run(a_pod(ALWAYS))
        await bench.kubelet.delete_pod(uid, 1)
        await settle()
        assert stops(bench) == [("c1", 1, 0)]


@pytest.mark.parametrize(("hook", "timeout"), [(10, 20), (40, 2)])
async def test_pre_stop_shares_the_grace_period(tmp_path: Path, hook: int, timeout: int) -> None:
    # "The countdown for the Pod's termination grace period begins before the PreStop hook is executed":
    # https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS, pre_stop("c1", hook)))
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(31)
        assert stops(bench) == [("c1", timeout, min(hook, 30))]
        assert bench.kubelet.pods() == []


async def test_a_hook_is_run_once_though_the_grace_period_is_shortened(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        hook = Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=["bye"])))
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", lifecycle=hook)))
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(1)
        await bench.kubelet.delete_pod(uid, 5)
        await bench.clock.advance(6)
        assert bench.runtime.names_of("exec_sync") == ["bye"]
        assert bench.kubelet.pods() == []


async def test_a_failed_pre_stop_hook_is_told_and_the_container_stopped(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        hook = Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=["bye"])))
        bench.runtime.exec_results["bye"] = [ExecSyncResult(exit_code=1, stderr=b"secret")]
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", lifecycle=hook)))
        await bench.kubelet.delete_pod(uid, 30)
        await bench.clock.advance(3)
        assert "FailedPreStopHook PreStopHook failed" in bench.told()
        assert bench.kubelet.pods() == []


async def test_a_deadline_ends_the_pod(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(stop_seconds=3)]
        uid = await bench.run(a_pod(ALWAYS, active_deadline_seconds=10))
        await bench.clock.advance(9)
        assert bench.phase(uid) == "Running"
        await bench.clock.advance(2)
        assert stops(bench) == [("c1", 30, 10)]
        assert bench.phase(uid) == "Running"  # as long as a container may run
        await bench.clock.advance(3)
        status = bench.status(uid)
        assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
        assert status.message == "Pod was active on the node longer than the specified deadline"
        assert bench.container(uid, "c1").state.terminated.exit_code == 143
        assert [each.type for each in bench.events("DeadlineExceeded")] == ["Normal"]
        assert starts(bench) == [0]


async def test_a_deadline_can_be_set_later(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS))
        await bench.clock.advance(100)
        pod = bench.kubelet.pod(uid)
        await bench.kubelet.update_pod(structs.replace(pod, spec=structs.replace(pod.spec, active_deadline_seconds=5)))
        await bench.clock.advance(1)
        assert bench.status(uid).reason == "DeadlineExceeded"


async def test_deletion_during_a_pull_cancels_it(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.images.pulls["big:1"] = [60.0]
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", image="big:1")))
        await bench.clock.advance(5)
        await bench.kubelet.delete_pod(uid)
        await settle()
        assert bench.images.cancelled == ["big:1"]
        assert bench.kubelet.pods() == []
        assert bench.runtime.sandboxes == {}


async def test_deletion_while_the_sandbox_is_being_made(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.delays["run_pod_sandbox"] = 10
        uid = await bench.run(a_pod(ALWAYS))
        await bench.kubelet.delete_pod(uid)
        await settle()
        assert bench.kubelet.pods() == []
        assert not (tmp_path / "state/pods" / uid).exists()
        assert bench.runtime.sandboxes == {}


async def test_deletion_during_a_post_start_hook(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.delays["exec_sync:hello"] = 60
        uid = await bench.run(a_pod(ALWAYS, post_start_exec("c1", "hello")))
        assert bench.runtime.running() == ["c1"]
        await bench.kubelet.delete_pod(uid, 10)
        await bench.clock.advance(1)
        assert bench.runtime.running() == []
        assert bench.kubelet.pods() == []


async def test_a_pod_cannot_be_killed_at_first(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS))
        bench.runtime.failures["stop_container"] = [CRIError("the process does not end")]
        bench.runtime.failures["stop_pod_sandbox"] = [CRIError("nor does the sandbox")]
        await bench.kubelet.delete_pod(uid, 5)
        await bench.clock.advance(1)
        failed = bench.events("FailedKillPod")[0].message
        assert failed == (
            'error killing pod: [failed to "KillContainer" for "c1" with KillContainerError: "the process does not '
            f'end", failed to "KillPodSandbox" for "{UID}" with KillPodSandboxError: "nor does the sandbox"]'
        )
        assert bench.runtime.running() == ["c1"]
        await bench.clock.advance(15)
        assert bench.kubelet.pods() == []


# --- what goes wrong --------------------------------------------------------------------------------


async def test_a_sandbox_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    # backOffPeriod is 10 s, with up to half of it added at random (pkg/kubelet/pod_workers.go).
    async with a_bench(tmp_path) as bench:
        bench.runtime.failures["run_pod_sandbox"] = [NetworkSetupError("no address is left")]
        uid = await bench.run(a_pod(ALWAYS))
        assert bench.told() == ["FailedCreatePodSandBox Failed to create pod sandbox: no address is left"]
        assert bench.phase(uid) == "Pending"
        await bench.clock.advance(9.9)
        assert calls(bench).count("run_pod_sandbox") == 1
        await bench.clock.advance(5.2)
        assert bench.phase(uid) == "Running"


async def test_a_command_that_does_not_exist_never(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        error = StartError('exec: "nope": executable file not found in $PATH', exit_code=127)
        bench.runtime.failures["start_container"] = [error]
        uid = await bench.run(a_pod(NEVER))
        assert bench.phase(uid) == "Failed"
        ended = bench.container(uid, "c1").state.terminated
        assert (ended.exit_code, ended.reason) == (128, "StartError")
        assert bench.events("Failed")[0].message == 'Error: exec: "nope": executable file not found in $PATH'
        assert hopeless(bench.kubelet.pod(uid)) == ("c1", "StartError", ended.message)


async def test_a_command_that_does_not_exist_always(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.failures["start_container"] = [StartError("no such file") for _ in range(3)]
        uid = await bench.run(a_pod(ALWAYS))
        # The first restart has no delay; from then on it is like any container that ends.
        status = bench.container(uid, "c1")
        assert len(starts(bench)) == 2
        assert status.state.waiting.reason == "CrashLoopBackOff"
        assert (status.last_state.terminated.exit_code, status.last_state.terminated.reason) == (128, "StartError")
        assert hopeless(bench.kubelet.pod(uid)) is None
        await bench.clock.advance(10.1)
        assert len(starts(bench)) == 3
        await bench.clock.advance(20.1)
        assert bench.phase(uid) == "Running"
        assert bench.events("Failed")[0].count == 3


async def test_a_container_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.failures["start_container"] = [CRIError("the shim is gone")]
        uid = await bench.run(a_pod(ALWAYS))
        waiting = bench.container(uid, "c1").state.waiting
        assert (waiting.reason, waiting.message) == ("RunContainerError", "the shim is gone")


async def test_a_container_that_cannot_be_created(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.failures["create_container"] = [CRIError("the disk is full")]
        uid = await bench.run(a_pod(NEVER))
        waiting = bench.container(uid, "c1").state.waiting
        assert (waiting.reason, waiting.message) == ("CreateContainerError", "the disk is full")
        assert "Failed Error: the disk is full" in bench.told()
        assert hopeless(bench.kubelet.pod(uid)) == ("c1", "CreateContainerError", "the disk is full")
        await bench.clock.advance(16)
        assert bench.phase(uid) == "Running"


async def test_a_key_that_is_missing_and_comes(tmp_path: Path) -> None:
    source = EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name="settings", key="color"))
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER, with_fields("c1", env=[EnvVar(name="COLOR", value_from=source)])))
        waiting = bench.container(uid, "c1").state.waiting
        assert (waiting.reason, waiting.message) == ("CreateContainerConfigError", 'configmap "settings" not found')
        assert hopeless(bench.kubelet.pod(uid)) == ("c1", waiting.reason, waiting.message)
        settings = ConfigMap(metadata=ObjectMeta(name="settings", namespace="default"), data={"color": "red"})
        bench.kubelet.objects.update([settings])
        await settle()
        assert bench.phase(uid) == "Running"
        envs = {each.key: each.value for each in bench.runtime.container("c1").config.envs}
        assert envs["COLOR"] == b"red"


async def test_a_volume_that_is_missing_is_tried_again_ever_slower(tmp_path: Path) -> None:
    volume = Volume(name="cfg", config_map=ConfigMapVolumeSource(name="settings"))
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER, volumes=[volume]))
        event = bench.events("FailedMount")[0]
        assert event.message == 'MountVolume.SetUp failed for volume "cfg" : configmap "settings" not found'
        assert bench.phase(uid) == "Pending"
        await bench.clock.advance(0.6)
        assert bench.events("FailedMount")[0].count == 2
        await bench.clock.advance(0.9)
        assert bench.events("FailedMount")[0].count == 2
        await bench.clock.advance(0.2)
        assert bench.events("FailedMount")[0].count == 3
        bench.kubelet.objects.update([ConfigMap(metadata=ObjectMeta(name="settings", namespace="default"))])
        await settle()
        assert bench.phase(uid) == "Running"


async def test_a_post_start_hook_that_fails_kills_the_container(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.exec_results["hello"] = [ExecSyncResult(exit_code=1, stderr=b"secret")]
        uid = await bench.run(a_pod(ALWAYS, post_start_exec("c1", "hello")))
        await bench.clock.advance(0.5)
        told = bench.told()
        assert "FailedPostStartHook PostStartHook failed" in told
        assert "Killing FailedPostStartHook" in told
        assert not any("secret" in each for each in told)
        assert bench.container(uid, "c1").last_state.terminated.exit_code == 143


async def test_a_post_start_hook_that_fails_is_why_the_container_waits(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        reasons = []
        with bench.kubelet.watch() as changes:
            bench.runtime.exec_results["hello"] = [ExecSyncResult(exit_code=1, stderr=b"secret")]
            await bench.kubelet.add_pod(a_pod(ALWAYS, post_start_exec("c1", "hello")))
            async for change in changes:
                waiting = change.pod.status.container_statuses[0].state.waiting
                reasons.append(waiting.reason if waiting is not None else "")
                if reasons[-1] == "PostStartHookError":
                    assert waiting is not None
                    assert waiting.message.startswith("Exec lifecycle hook ([hello]) for Container")
                    break
        assert "CrashLoopBackOff" not in reasons


async def test_bugs_in_one_pod_leave_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(tmp_path) as bench:
        failed = []

        async def broken(*_: Any) -> None:
            failed.append(1)
            raise ZeroDivisionError("a bug")

        original = bench.kubelet.runtime.run_pod_sandbox
        monkeypatch.setattr(bench.runtime, "run_pod_sandbox", broken)
        monkeypatch.setattr("podlite.log.error", lambda *_, **__: None)
        uid = await bench.run(a_pod(NEVER))
        monkeypatch.setattr(bench.runtime, "run_pod_sandbox", original)
        other = await bench.run(a_pod(NEVER, name="other", uid="other"))
        assert (bench.phase(uid), bench.phase(other), failed) == ("Pending", "Running", [1])
        await bench.clock.advance(16)
        assert bench.phase(uid) == "Running"


# --- images -----------------------------------------------------------------------------------------


async def test_an_image_that_cannot_be_pulled(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        error = ImageError("registry.example/x: not found")
        bench.images.pulls["registry.example/x:1"] = [error, error, error, 0.5]
        uid = await bench.run(a_pod(NEVER, with_fields("c1", image="registry.example/x:1")))
        waiting = bench.container(uid, "c1").state.waiting
        assert (waiting.reason, waiting.message) == ("ErrImagePull", "registry.example/x: not found")
        # For whoever waits in the foreground; the pod's own worker goes on trying.
        assert hopeless(bench.kubelet.pod(uid)) == ("c1", waiting.reason, waiting.message)
        assert bench.told() == [
            'Pulling Pulling image "registry.example/x:1"',
            'Failed Failed to pull image "registry.example/x:1": registry.example/x: not found',
            "Failed Error: ErrImagePull",
        ]
        # Tried again after 10 to 15 s, 20 s and 40 s, each time when the pod is synced next.
        await bench.clock.advance(15.1)
        assert len(bench.images.pulled) == 2
        await bench.clock.advance(15.1)
        waiting = bench.container(uid, "c1").state.waiting
        assert waiting.reason == "ImagePullBackOff"
        assert waiting.message == (
            'Back-off pulling image "registry.example/x:1": ErrImagePull: registry.example/x: not found'
        )
        assert 'BackOff Back-off pulling image "registry.example/x:1"' in bench.told()
        await bench.clock.advance(100)
        assert bench.phase(uid) == "Running"
        pulled = bench.events("Pulled")[0].message
        assert pulled == (
            'Successfully pulled image "registry.example/x:1" in 500ms (500ms including waiting). '
            "Image size: 1000 bytes."
        )


@pytest.mark.parametrize(
    ("image", "pull_policy", "reason", "message"),
    [
        (
            "absent:1",
            "Never",
            "ErrImageNeverPull",
            'Container image "absent:1" is not present with pull policy of Never',
        ),
        (
            "podlite.local/other:1",
            "Always",
            "ErrImageNeverPull",
            'Container image "podlite.local/other:1" is not present with pull policy of Never',
        ),
        (
            "NOT/an:image:name",
            "Always",
            "InvalidImageName",
            'Failed to apply default image tag "NOT/an:image:name": couldn\'t parse image name "NOT/an:image:name": '
            "invalid reference format",
        ),
    ],
)
async def test_images_that_are_hopeless(
    tmp_path: Path, image: str, pull_policy: str, reason: str, message: str
) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", image=image, image_pull_policy=pull_policy)))
        waiting = bench.container(uid, "c1").state.waiting
        assert (waiting.reason, waiting.message) == (reason, message)
        assert bench.images.pulled == []
        assert hopeless(bench.kubelet.pod(uid)) == ("c1", reason, message)
        assert f"Failed Error: {reason}" in bench.told()


async def test_an_image_that_comes_later(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", image="absent:1", image_pull_policy="Never")))
        bench.images.add("absent:1")
        await bench.clock.advance(16)
        assert bench.phase(uid) == "Running"


# --- probes -----------------------------------------------------------------------------------------


async def test_a_failed_liveness_probe_restarts_the_container(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.exec_results["probe"] = [ExecSyncResult(exit_code=1)]
        bench.runtime.programs["c1"] = [Program(stop_seconds=None)]
        probe = exec_probe(period_seconds=10, failure_threshold=3, termination_grace_period_seconds=4)
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", liveness_probe=probe)))
        await bench.clock.advance(60)
        assert "Killing Container c1 failed liveness probe, will be restarted" in bench.told()
        # The probe's own grace period goes before the pod's.
        name, timeout, when = stops(bench)[0]
        assert (name, timeout) == ("c1", 4)
        assert 20 <= when <= 30
        assert bench.container(uid, "c1").restart_count == 1
        assert [each.type for each in bench.events("Unhealthy")] == ["Warning"]


async def test_a_readiness_probe_makes_ready_and_unready(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        good, bad = ExecSyncResult(), ExecSyncResult(exit_code=1)
        probe = exec_probe(period_seconds=5, failure_threshold=1)
        bench.runtime.exec_results["probe"] = [bad]
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", readiness_probe=probe)))
        for result, ready in ((bad, "False"), (good, "True"), (bad, "False"), (good, "True")):
            bench.runtime.exec_results["probe"] = [result]
            await bench.clock.advance(5.1)
            assert bench.container(uid, "c1").ready is (ready == "True")
            assert bench.condition(uid, "Ready").status == ready
            assert bench.condition(uid, "ContainersReady").status == ready
        assert starts(bench) == [0]


async def test_an_exec_probe_that_takes_too_long_fails(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.exec_results["probe"] = [DeadlineExceededError("command timed out")]
        probe = exec_probe(period_seconds=5, failure_threshold=1)
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", liveness_probe=probe)))
        await bench.clock.advance(12)
        assert bench.container(uid, "c1").restart_count >= 1


# --- admission --------------------------------------------------------------------------------------


async def test_a_pod_that_is_not_admitted(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        context = PodSecurityContext(sysctls=[Sysctl(name="kernel.msgmax", value="1")])
        uid = await bench.run(a_pod(ALWAYS, security_context=context))
        status = bench.status(uid)
        assert (status.phase, status.reason) == ("Failed", "SysctlForbidden")
        assert status.message == 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted'
        assert bench.told() == ['SysctlForbidden forbidden sysctl: "kernel.msgmax" not allowlisted']
        assert bench.runtime.calls == []
        assert (await bench.kubelet.wait_terminated(uid)).status.phase == "Failed"
        await bench.kubelet.delete_pod(uid)
        await settle()
        assert bench.kubelet.pods() == []


async def test_a_host_port_that_is_taken(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        ports = [ContainerPort(container_port=80, host_port=8080)]
        first = await bench.run(a_pod(ALWAYS, with_fields("c1", ports=ports)))
        second = await bench.run(a_pod(ALWAYS, with_fields("c1", ports=ports), name="other", uid="other"))
        assert (bench.phase(first), bench.phase(second)) == ("Running", "Failed")
        assert bench.status(second).reason == "NodePorts"
        await bench.kubelet.delete_pod(first, 1)
        await bench.clock.advance(3)
        third = await bench.run(a_pod(ALWAYS, with_fields("c1", ports=ports), name="third", uid="third"))
        assert bench.phase(third) == "Running"


# --- ends from outside ------------------------------------------------------------------------------


async def test_a_volume_that_grows_too_large_ends_the_pod(tmp_path: Path) -> None:
    # https://kubernetes.io/docs/concepts/storage/volumes/#emptydir, sizeLimit; pkg/kubelet/eviction.
    async with a_bench(tmp_path) as bench:
        volume = Volume(name="scratch", empty_dir=EmptyDirVolumeSource(size_limit="1Ki"))
        uid = await bench.run(a_pod(ALWAYS, volumes=[volume]))
        directory = tmp_path / "state/pods" / uid / "volumes/kubernetes.io~empty-dir/scratch"
        (directory / "file").write_bytes(b"x" * 100_000)
        await bench.clock.advance(15)
        status = bench.status(uid)
        assert (status.phase, status.reason) == ("Failed", "Evicted")
        assert status.message == 'Usage of EmptyDir volume "scratch" exceeds the limit "1Ki". '
        assert [each.type for each in bench.events("Evicted")] == ["Warning"]
        assert stops(bench) == [("c1", 1, 10)]
        assert bench.kubelet.pods() != []


async def test_a_pod_can_be_stopped_and_kept(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS))
        await bench.kubelet.stop_pod(uid, 5)
        await bench.clock.advance(1)
        assert bench.phase(uid) == "Failed"
        assert bench.container(uid, "c1").state.terminated.exit_code == 143
        assert len(bench.runtime.containers) == 1


async def test_readiness_gates(tmp_path: Path) -> None:
    gate = "example.com/served"
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS, readiness_gates=[PodReadinessGate(condition_type=gate)]))
        assert bench.condition(uid, "Ready").reason == "ReadinessGatesNotReady"
        bench.kubelet.set_pod_condition(uid, PodCondition(type=gate, status="True"))
        await settle()
        assert bench.condition(uid, "Ready").status == "True"
        assert bench.condition(uid, gate).last_transition_time == "2026-11-23T20:00:00Z"
        with pytest.raises(ValueError, match="the condition Ready is the kubelet's own"):
            bench.kubelet.set_pod_condition(uid, PodCondition(type="Ready", status="True"))


# --- debugging, files, watching ---------------------------------------------------------------------


async def test_ephemeral_containers(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["debug"] = [Program(5, 1)]
        uid = await bench.run(a_pod(ALWAYS))
        target = bench.runtime.container("c1").id
        debug = EphemeralContainer(name="debug", image="img:1", target_container_name="c1")
        await bench.kubelet.add_ephemeral_container(uid, debug)
        await settle()
        assert bench.runtime.running() == ["c1", "debug"]
        linux = bench.runtime.container("debug").config.linux
        assert linux is not None
        assert linux.security_context is not None
        assert linux.security_context.namespace_options is not None
        assert linux.security_context.namespace_options.target_id == target
        await bench.clock.advance(30)
        # It is never restarted, and has no part in the phase.
        assert bench.container(uid, "debug").state.terminated.exit_code == 1
        assert bench.phase(uid) == "Running"
        with pytest.raises(PodExists):
            await bench.kubelet.add_ephemeral_container(uid, debug)


async def test_an_ephemeral_container_for_a_target_that_is_not_there(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS))
        debug = EphemeralContainer(name="debug", image="img:1", target_container_name="nope")
        await bench.kubelet.add_ephemeral_container(uid, debug)
        await settle()
        waiting = bench.container(uid, "debug").state.waiting
        assert (waiting.reason, waiting.message) == (
            "CreateContainerConfigError",
            "unable to find target container nope",
        )


async def test_other_terminals_see_the_pod(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(5)]
        uid = await bench.run(a_pod(NEVER))
        # Written down before anything was made, and then now and again.
        assert read_pods(f"{tmp_path}/run")[0].metadata.uid == uid
        await bench.clock.advance(0.05)
        [seen] = read_pods(f"{tmp_path}/run")
        assert seen == bench.kubelet.pod(uid)
        assert seen.status.phase == "Running"
        await bench.clock.advance(6)
        assert read_pods(f"{tmp_path}/run")[0].status.phase == "Succeeded"
        await bench.kubelet.delete_pod(uid)
        await settle()
        assert read_pods(f"{tmp_path}/run") == []


async def test_a_pod_is_written_down_before_anything_is_made(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        written: list[list[str]] = []
        cgroups: Any = bench.kubelet._cgroups
        cgroups.create = lambda pod: written.append([each.metadata.uid for each in read_pods(f"{tmp_path}/run")])
        uid = await bench.run(a_pod(NEVER))
        assert written == [[uid]]


async def test_everything_is_written_when_the_kubelet_ends(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER))
        pod = bench.kubelet.pod(uid)
    assert read_pods(f"{tmp_path}/run") == [pod]


async def test_watching(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(5)]
        with bench.kubelet.watch() as changes, bench.kubelet.watch() as slow:
            uid = await bench.run(a_pod(NEVER))
            first = await anext(changes)
            assert (first.type, first.pod.metadata.uid) == ("ADDED", uid)
            assert first.pod.status.phase == "Running"  # what was not read in time is not told
            await bench.clock.advance(6)
            second = await anext(changes)
            assert (second.type, second.pod.status.phase) == ("MODIFIED", "Succeeded")
            assert int(second.pod.metadata.resource_version) > int(first.pod.metadata.resource_version)
            await bench.kubelet.delete_pod(uid)
            await settle()
            third = await anext(changes)
            assert (third.type, third.pod.status.phase) == ("DELETED", "Succeeded")
            assert (await anext(slow)).type == "DELETED"
        assert [each async for each in changes] == []


async def test_watching_from_the_beginning(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.run(a_pod(NEVER))
        with bench.kubelet.watch(initial=True) as changes:
            assert (await anext(changes)).type == "ADDED"


async def test_an_own_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with a_bench(tmp_path) as bench:
            await bench.run(a_pod(ALWAYS))
            raise ZeroDivisionError


# --- adoption ---------------------------------------------------------------------------------------


async def test_pods_are_adopted(tmp_path: Path) -> None:
    clock = FakeClock()
    async with FakeRuntime(clock) as runtime:
        first = Bench(clock, runtime, FakeImages(clock, "img:1"), tmp_path)
        runtime.programs["c1"] = [Program(1, 1), Program()]
        probe = exec_probe(period_seconds=5)
        async with first.kubelet:
            await first.run(a_pod(ALWAYS, with_fields("c1", readiness_probe=probe)))
            await clock.advance(12)
            ready = first.condition(UID, "Ready")
            assert ready.status == "True"
        # The first one is gone, and the container runs on.
        await clock.advance(60)
        bench = Bench(clock, runtime, first.images, tmp_path)
        async with bench.kubelet as successor:
            adopted = await adopt_all(successor)
            assert [each.metadata.uid for each in adopted] == [UID]
            await settle()
            # Nothing was started, and nothing about it has changed.
            assert bench.phase(UID) == "Running"
            assert len(starts(bench)) == 2
            assert bench.condition(UID, "Ready") == ready
            assert bench.container(UID, "c1").restart_count == 1
            assert await adopt_all(successor) == []
            runtime.exit("c1", 1)
            await clock.advance(1)
            assert bench.container(UID, "c1").restart_count == 2
            await successor.delete_pod(UID)
            await clock.advance(3)
            assert successor.pods() == []
            assert runtime.sandboxes == {}


async def test_what_happened_while_nobody_looked(tmp_path: Path) -> None:
    clock = FakeClock()
    async with FakeRuntime(clock) as runtime:
        first = Bench(clock, runtime, FakeImages(clock, "img:1"), tmp_path)
        async with first.kubelet:
            await first.run(a_pod(NEVER))
        runtime.exit("c1", 3)
        bench = Bench(clock, runtime, first.images, tmp_path)
        async with bench.kubelet as successor:
            await adopt_all(successor)
            await settle()
            assert bench.phase(UID) == "Failed"
            assert bench.container(UID, "c1").state.terminated.exit_code == 3


async def test_a_pod_that_was_over_stays_over(tmp_path: Path) -> None:
    clock = FakeClock()
    async with FakeRuntime(clock) as runtime:
        first = Bench(clock, runtime, FakeImages(clock, "img:1"), tmp_path)
        runtime.programs["c1"] = [Program(1)]
        async with first.kubelet:
            await first.run(a_pod(NEVER))
            await clock.advance(2)
            before = first.status(UID)
        bench = Bench(clock, runtime, first.images, tmp_path)
        async with bench.kubelet as successor:
            await adopt_all(successor)
            await successor.wait_terminated(UID)
            assert bench.status(UID) == before
            assert starts(bench) == [0]


async def test_a_deletion_that_was_under_way_is_finished(tmp_path: Path) -> None:
    clock = FakeClock()
    async with FakeRuntime(clock) as runtime:
        first = Bench(clock, runtime, FakeImages(clock, "img:1"), tmp_path)
        runtime.programs["c1"] = [Program(stop_seconds=None)]
        async with first.kubelet:
            await first.run(a_pod(ALWAYS))
            await first.kubelet.delete_pod(UID, 20)
            await clock.advance(5)
        bench = Bench(clock, runtime, first.images, tmp_path)
        async with bench.kubelet as successor:
            await adopt_all(successor)
            await clock.advance(25)
            assert successor.pods() == []
            assert [each[:2] for each in stops(bench)] == [("c1", 20), ("c1", 20)]


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_step_of_the_wall_clock(tmp_path: Path, hours: int) -> None:
    """Somebody sets the clock: what runs is left alone, probes go on, and a container that ends is started again."""
    async with a_bench(tmp_path) as bench:
        probe = exec_probe(period_seconds=5)
        bench.runtime.programs["c1"] = [Program(), Program(), Program()]
        uid = await bench.run(a_pod(ALWAYS, with_fields("c1", liveness_probe=probe)))
        await bench.clock.advance(20)
        bench.clock.step(hours * 3600)
        await bench.clock.advance(60)
        assert bench.phase(uid) == "Running"
        assert bench.container(uid, "c1").restart_count == 0
        bench.runtime.exit("c1", 1)
        await bench.clock.advance(1)
        assert bench.container(uid, "c1").restart_count == 1
        # The second end has a back-off of ten seconds, whatever the clock said before.
        bench.runtime.exit("c1", 1)
        await bench.clock.advance(1)
        bench.clock.step(-hours * 3600)
        await bench.clock.advance(400)
        assert bench.container(uid, "c1").restart_count == 2
        await bench.kubelet.delete_pod(uid, 1)
        await bench.clock.advance(5)
        assert bench.kubelet.pods() == []
