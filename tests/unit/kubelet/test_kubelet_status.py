"""Phase, conditions and container statuses of a pod.

Expected values are those of the Kubernetes documentation ("Pod Lifecycle": pod phase, container states, pod
conditions) and of pkg/kubelet/kubelet_pods_test.go and status/generate_test.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.pod import PodReadinessGate
from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    PodCondition,
    PodStatus,
)
from podlite.cri.types import LinuxContainerUser
from podlite.kubelet.status import (
    active_deadline,
    final_status,
    generate_api_pod_status,
    illegal_transition,
    past_active_deadline,
    published_status,
    rejected_status,
)
from podlite.kubelet.types import KubeletConfig, ProbeResult, ProbeResults, Waiting
from tests.support.clock import START_NS
from tests.support.pods import (
    a_pod,
    container_policy,
    deleted,
    ephemeral,
    exec_probe,
    init,
    policy,
    sidecar,
    with_fields,
)
from tests.support.runtime_states import (
    SECOND,
    a_sandbox,
    created,
    exited,
    running,
    states,
    unknown,
    with_sandboxes,
)
from tests.support.tables import table

NOW = "2026-11-23T20:00:00Z"
LATER = "2026-11-23T20:01:00Z"
CONFIG = KubeletConfig(host_ips=("192.0.2.1", "2001:db8::1"))
ALWAYS, ON_FAILURE, NEVER = policy("Always"), policy("OnFailure"), policy("Never")
OK, BAD = ProbeResult.SUCCESS, ProbeResult.FAILURE


def status_of(pod: Any, *changes: Any, before: PodStatus | None = None, **options: Any) -> PodStatus:
    options = {"waiting": {}, "probes": ProbeResults(), "now": NOW, "config": CONFIG, **options}
    runtime = states(pod, *changes)
    status = generate_api_pod_status(pod, runtime, before or pod.status, **options)
    # What podlite.kubelet.pod_record.Published rests on: from the same, with this as the status before, comes the same.
    assert generate_api_pod_status(pod, runtime, status, **{**options, "now": LATER}) == status
    return status


def container(status: PodStatus, name: str) -> Any:
    every = (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
    return next(each for each in every if each.name == name)


def condition(status: PodStatus, type: str) -> tuple[str, str, str]:
    found = next(each for each in status.conditions if each.type == type)
    return found.status, found.reason, found.message


# --- phase ----------------------------------------------------------------------------------------

PHASES = [
    ("nothing was started", [ALWAYS], [], "Pending"),
    ("one of two was started", [ALWAYS], [running("c1")], "Pending"),
    ("all run", [ALWAYS], [running("c1"), running("c2")], "Running"),
    ("Always, one ended", [ALWAYS], [running("c1"), exited("c2", 1)], "Running"),
    ("Always, all ended", [ALWAYS], [exited("c1"), exited("c2")], "Running"),
    ("Never, one ended", [NEVER], [running("c1"), exited("c2", 1)], "Running"),
    ("Never, all succeeded", [NEVER], [exited("c1"), exited("c2")], "Succeeded"),
    ("Never, one failed", [NEVER], [exited("c1"), exited("c2", 1)], "Failed"),
    ("OnFailure, all succeeded", [ON_FAILURE], [exited("c1"), exited("c2")], "Succeeded"),
    ("OnFailure, one failed", [ON_FAILURE], [exited("c1"), exited("c2", 1)], "Running"),
    ("created but not started", [NEVER], [created("c1"), running("c2")], "Pending"),
    ("own policies make it final", [ALWAYS, container_policy("c1", "Never"), container_policy("c2", "Never")],
     [exited("c1"), exited("c2", 1)], "Failed"),
    ("one's own policy keeps it", [NEVER, container_policy("c1", "OnFailure")], [exited("c1", 1), exited("c2")],
     "Running"),
]  # fmt: skip


@pytest.mark.parametrize(("mutators", "changes", "expected"), table(PHASES))
def test_phase(mutators: Any, changes: Any, expected: str) -> None:
    assert status_of(a_pod(*mutators, containers=2), *changes).phase == expected


INIT_PHASES = [
    ("it runs", [ALWAYS], [running("i1")], "Pending"),
    ("it has completed, the app was not started", [ALWAYS], [exited("i1")], "Pending"),
    ("it failed, Never", [NEVER], [exited("i1", 1)], "Failed"),
    ("it failed, OnFailure", [ON_FAILURE], [exited("i1", 1)], "Pending"),
    ("it failed, Always, by its own policy for good", [ALWAYS, container_policy("i1", "Never")], [exited("i1", 1)],
     "Failed"),
    ("the app runs", [ALWAYS], [exited("i1"), running("c1")], "Running"),
    # An init container that is killed for memory has failed (isInitContainerFailed), and nothing comes after it.
    ("memory ran out in it, Never", [NEVER], [exited("i1", 0, reason="OOMKilled")], "Failed"),
    ("memory ran out in it, OnFailure", [ON_FAILURE], [exited("i1", 0, reason="OOMKilled")], "Pending"),
]  # fmt: skip


@pytest.mark.parametrize(("mutators", "changes", "expected"), table(INIT_PHASES))
def test_phase_with_init_containers(mutators: Any, changes: Any, expected: str) -> None:
    assert status_of(a_pod(init("i1"), *mutators), *changes).phase == expected


SIDECAR_PHASES = [
    ("it runs, the app was not started", [ALWAYS], [running("s1")], "Pending"),
    ("both run", [ALWAYS], [running("s1"), running("c1")], "Running"),
    ("it restarts while the app runs", [ALWAYS], [exited("s1", 1), running("c1")], "Running"),
    ("it still runs when the app has succeeded", [NEVER], [running("s1"), exited("c1")], "Running"),
    ("both have ended", [NEVER], [exited("s1", 137), exited("c1")], "Succeeded"),
    ("its failure does not count", [NEVER], [exited("s1", 1), exited("c1", 1)], "Failed"),
]  # fmt: skip


@pytest.mark.parametrize(("mutators", "changes", "expected"), table(SIDECAR_PHASES))
def test_phase_with_sidecars(mutators: Any, changes: Any, expected: str) -> None:
    assert status_of(a_pod(sidecar("s1"), *mutators), *changes).phase == expected


def test_phase_of_a_pod_that_is_over_whatever_its_policy() -> None:
    pod = a_pod(ALWAYS, containers=2)
    assert status_of(pod, exited("c1"), exited("c2"), terminal=True).phase == "Succeeded"
    assert status_of(pod, exited("c1"), exited("c2", 143), terminal=True).phase == "Failed"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_terminal_phase_is_never_left(phase: str) -> None:
    before = PodStatus(phase=phase, reason="Because", message="it was so")
    status = status_of(a_pod(ALWAYS), running("c1"), before=before)
    assert (status.phase, status.reason, status.message) == (phase, "Because", "it was so")


def test_a_reason_goes_with_its_phase() -> None:
    before = PodStatus(phase="Pending", reason="Because", message="it was so")
    assert status_of(a_pod(ALWAYS), before=before).reason == "Because"
    assert status_of(a_pod(ALWAYS), running("c1"), before=before).reason == ""


# --- conditions -----------------------------------------------------------------------------------


def test_conditions_of_a_new_pod() -> None:
    status = status_of(a_pod(ALWAYS), with_sandboxes())
    assert [each.type for each in status.conditions] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    assert condition(status, "PodReadyToStartContainers") == ("False", "", "")
    assert condition(status, "Initialized") == ("True", "", "")
    unready = ("False", "ContainersNotReady", "containers with unready status: [c1]")
    assert condition(status, "Ready") == unready
    assert condition(status, "ContainersReady") == unready
    assert condition(status, "PodScheduled") == ("True", "", "")
    assert {each.last_transition_time for each in status.conditions} == {NOW}
    assert {each.observed_generation for each in status.conditions} == {1}


def test_conditions_of_a_running_pod() -> None:
    status = status_of(a_pod(ALWAYS), running("c1"))
    assert {each.type: each.status for each in status.conditions} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }


def test_conditions_name_what_is_missing() -> None:
    pod = a_pod(ALWAYS, init("i1", "i2"), containers=2)
    status = status_of(pod, running("i1"))
    assert condition(status, "Initialized") == (
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [i1 i2]",
    )
    assert condition(status, "Ready")[2] == "containers with unready status: [c1 c2]"


@pytest.mark.parametrize(("code", "reason"), [(0, "PodCompleted"), (1, "PodFailed")])
def test_conditions_of_a_pod_that_is_over(code: int, reason: str) -> None:
    status = status_of(a_pod(NEVER), exited("c1", code), with_sandboxes(a_sandbox(ready=False)))
    assert condition(status, "Ready") == ("False", reason, "")
    assert condition(status, "ContainersReady") == ("False", reason, "")
    assert condition(status, "Initialized")[:2] == ("True", "PodCompleted" if code == 0 else "")
    assert condition(status, "PodReadyToStartContainers")[0] == "False"


def test_a_sidecar_counts_once_it_has_started() -> None:
    pod = a_pod(ALWAYS, sidecar("s1"), with_fields("s1", startup_probe=exec_probe()))
    assert condition(status_of(pod, running("s1")), "Initialized")[0] == "False"
    started = ProbeResults(startup={"s1-0": OK})
    assert condition(status_of(pod, running("s1"), probes=started), "Initialized")[0] == "True"


def test_an_initialized_pod_stays_so_while_a_sidecar_restarts() -> None:
    status = status_of(a_pod(ALWAYS, sidecar("s1")), exited("s1", 1), running("c1"))
    assert condition(status, "Initialized") == ("True", "", "")
    assert condition(status, "Ready") == ("False", "ContainersNotReady", "containers with unready status: [s1]")


GATE = "example.com/load-balancer"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (
            [],
            (
                "False",
                "ReadinessGatesNotReady",
                f'corresponding condition of pod readiness gate "{GATE}" does not exist.',
            ),
        ),
        (
            [PodCondition(type=GATE, status="False")],
            (
                "False",
                "ReadinessGatesNotReady",
                f'the status of pod readiness gate "{GATE}" is not "True", but False',
            ),
        ),
        ([PodCondition(type=GATE, status="True")], ("True", "", "")),
    ],
)
def test_readiness_gates(conditions: list[PodCondition], expected: tuple[str, str, str]) -> None:
    pod = a_pod(ALWAYS, readiness_gates=[PodReadinessGate(condition_type=GATE)])
    status = status_of(pod, running("c1"), before=PodStatus(conditions=conditions))
    assert condition(status, "Ready") == expected
    assert condition(status, "ContainersReady") == ("True", "", "")


def test_transition_times_change_with_the_status_only() -> None:
    pod = a_pod(ALWAYS)
    before = status_of(pod, running("c1"), now=NOW)
    after = status_of(pod, exited("c1", 1), before=before, now=LATER)
    times = {each.type: each.last_transition_time for each in after.conditions}
    assert times["Ready"] == times["ContainersReady"] == LATER
    assert times["Initialized"] == times["PodScheduled"] == times["PodReadyToStartContainers"] == NOW


def test_conditions_of_others_are_left_alone() -> None:
    foreign = PodCondition(type="example.com/x", status="True", last_transition_time="2020-01-01T00:00:00Z")
    status = status_of(a_pod(ALWAYS), running("c1"), before=PodStatus(conditions=[foreign]))
    assert status.conditions[0] == foreign


# --- the pod's own fields -------------------------------------------------------------------------


def test_identity_and_addresses() -> None:
    pod = a_pod(ALWAYS)
    pod.metadata.generation = 7
    status = status_of(pod, running("c1"))
    assert (status.pod_ip, [each.ip for each in status.pod_ips]) == ("10.85.0.2", ["10.85.0.2"])
    assert (status.host_ip, [each.ip for each in status.host_ips]) == ("192.0.2.1", ["192.0.2.1", "2001:db8::1"])
    assert (status.observed_generation, status.qos_class, status.start_time) == (7, "BestEffort", NOW)


def test_addresses_are_one_of_each_family_the_hosts_first() -> None:
    pod = a_pod(ALWAYS)
    sandbox = a_sandbox(ip="fd85::2")
    assert sandbox.network is not None
    sandbox.network.additional_ips = ["10.85.0.2", "10.85.0.3", "fd85::3"]
    status = status_of(pod, with_sandboxes(sandbox))
    assert [each.ip for each in status.pod_ips] == ["10.85.0.2", "fd85::2"]
    six = KubeletConfig(host_ips=("2001:db8::1",))
    assert [each.ip for each in status_of(pod, with_sandboxes(sandbox), config=six).pod_ips] == ["fd85::2", "10.85.0.2"]


def test_a_pod_on_the_hosts_network_has_the_hosts_addresses() -> None:
    pod = a_pod(ALWAYS, host_network=True)
    status = status_of(pod, with_sandboxes(a_sandbox(ip="", host=True)))
    assert [each.ip for each in status.pod_ips] == ["192.0.2.1", "2001:db8::1"]


def test_start_time_stays() -> None:
    before = status_of(a_pod(ALWAYS), now=NOW)
    assert status_of(a_pod(ALWAYS), before=before, now=LATER).start_time == NOW


# --- containers -----------------------------------------------------------------------------------


def test_a_container_that_was_never_started() -> None:
    status = container(status_of(a_pod(ALWAYS)), "c1")
    assert status.state == ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
    assert (status.ready, status.started, status.restart_count) == (False, False, 0)
    assert (status.image, status.image_id, status.container_id) == ("img:1", "", "")


def test_containers_of_a_pod_that_initializes() -> None:
    status = status_of(a_pod(ALWAYS, init("i1")), running("i1"))
    assert container(status, "c1").state == ContainerState(waiting=ContainerStateWaiting(reason="PodInitializing"))
    assert container(status, "i1").state.running is not None


def test_a_running_container() -> None:
    status = container(status_of(a_pod(ALWAYS), running("c1", user=LinuxContainerUser(uid=1, gid=2))), "c1")
    assert status.state == ContainerState(running=ContainerStateRunning(started_at="2026-11-23T20:00:01Z"))
    assert (status.ready, status.started) == (True, True)
    assert (status.image_id, status.container_id) == ("sha256:1", "podlite://c1-0")
    assert (status.user.linux.uid, status.user.linux.gid) == (1, 2)
    assert status.last_state == ContainerState()


def test_a_container_that_has_ended() -> None:
    status = container(status_of(a_pod(NEVER), exited("c1", 137, reason="OOMKilled", message="no memory")), "c1")
    assert status.state == ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=137,
            reason="OOMKilled",
            message="no memory",
            started_at="2026-11-23T20:00:01Z",
            finished_at="2026-11-23T20:00:02Z",
            container_id="podlite://c1-0",
        )
    )
    assert (status.ready, status.started) == (False, False)


def test_a_container_that_could_not_be_started_began_at_the_epoch() -> None:
    # What kubectl describe shows of such a container: "Started: Thu, 01 Jan 1970 00:00:00 +0000".
    status = container(status_of(a_pod(NEVER), exited("c1", 128, reason="StartError", started_at=0)), "c1")
    assert status.state.terminated.started_at == "1970-01-01T00:00:00Z"


def test_the_last_state_is_that_of_the_instance_before() -> None:
    status = container(status_of(a_pod(ALWAYS), exited("c1", 3), running("c1")), "c1")
    assert status.state.running is not None
    assert (status.last_state.terminated.exit_code, status.restart_count) == (3, 1)


def test_crash_loop_back_off() -> None:
    message = "back-off 10s restarting failed container=c1 pod=web_default(12345678-1234-4234-8234-123456789012)"
    waiting = {"c1": Waiting("CrashLoopBackOff", message)}
    status = container(status_of(a_pod(ALWAYS), exited("c1", 3), waiting=waiting), "c1")
    assert status.state == ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff", message=message))
    assert status.last_state.terminated.exit_code == 3


def test_a_container_that_is_not_started_again_does_not_wait() -> None:
    waiting = {"c1": Waiting("RunContainerError", "no such file")}
    status = container(status_of(a_pod(NEVER), exited("c1", 128), waiting=waiting), "c1")
    assert status.state.terminated is not None


def test_nothing_waits_in_a_deleted_pod() -> None:
    waiting = {"c1": Waiting("CrashLoopBackOff", "")}
    status = container(status_of(a_pod(ALWAYS, deleted()), exited("c1", 1), waiting=waiting), "c1")
    assert status.state.terminated is not None


@pytest.mark.parametrize(("code", "ready"), [(0, True), (1, False)])
def test_init_containers_are_ready_once_they_have_completed(code: int, ready: bool) -> None:
    status = container(status_of(a_pod(ALWAYS, init("i1")), exited("i1", code)), "i1")
    assert (status.ready, status.started) == (ready, False)


def test_an_init_container_that_the_runtime_has_forgotten() -> None:
    status = container(status_of(a_pod(ALWAYS, init("i1")), running("c1")), "i1")
    assert status.state.terminated == ContainerStateTerminated(
        exit_code=0,
        reason="Completed",
        message="Unable to get init container status from container runtime and pod has been initialized, "
        "treat it as exited normally",
    )


def test_a_container_that_ran_and_was_lost() -> None:
    pod = a_pod(ALWAYS)
    before = status_of(pod, running("c1"))
    status = container(status_of(pod, unknown("c1"), before=before), "c1")
    assert (status.state.terminated.reason, status.state.terminated.exit_code) == ("ContainerStatusUnknown", 137)
    assert status.state.terminated.message == "The container could not be located when the pod was terminated"


def test_a_container_that_ran_and_is_gone() -> None:
    pod = a_pod(ALWAYS)
    before = status_of(pod, running("c1"))
    after = status_of(pod, before=before)
    status = container(after, "c1")
    assert status.state.waiting.reason == "ContainerCreating"
    assert (status.last_state.terminated.reason, status.restart_count) == ("ContainerStatusUnknown", 1)
    assert after.phase == "Running"


def test_restart_counts_survive_the_removal_of_dead_containers() -> None:
    pod = a_pod(ALWAYS)
    before = status_of(pod, exited("c1", 1, restart_count=5))
    after = container(status_of(pod, running("c1", restart_count=0, id="new"), before=before), "c1")
    assert after.restart_count == 6
    assert after.last_state.terminated.exit_code == 1


def test_statuses_are_in_order() -> None:
    pod = a_pod(init("z", "a"), ephemeral("y", "b"), containers=2)
    pod.spec.containers.reverse()
    status = status_of(pod)
    assert [each.name for each in status.init_container_statuses] == ["z", "a"]
    assert [each.name for each in status.container_statuses] == ["c1", "c2"]
    assert [each.name for each in status.ephemeral_container_statuses] == ["b", "y"]


def test_messages_share_twelve_kilobytes() -> None:
    # kubecontainer.MaxPodTerminationMessageLogLength, divided among the containers of the pod.
    status = status_of(a_pod(NEVER, containers=3), exited("c1", 1, message="ü" * 4000))
    assert container(status, "c1").state.terminated.message == "ü" * 2048


READINESS = with_fields("c1", readiness_probe=exec_probe())
STARTUP = with_fields("c1", startup_probe=exec_probe())

PROBE_CASES = [
    ("no probes", [], ProbeResults(), True, True),
    ("readiness was not probed", [READINESS], ProbeResults(), True, False),
    ("readiness failed", [READINESS], ProbeResults(readiness={"c1-0": BAD}), True, False),
    ("readiness succeeded", [READINESS], ProbeResults(readiness={"c1-0": OK}), True, True),
    ("of another instance", [READINESS], ProbeResults(readiness={"c1-9": OK}), True, False),
    ("startup was not probed", [STARTUP], ProbeResults(), False, False),
    ("startup is undecided", [STARTUP], ProbeResults(startup={"c1-0": ProbeResult.UNKNOWN}), False, False),
    ("startup succeeded", [STARTUP], ProbeResults(startup={"c1-0": OK}), True, True),
    ("ready counts only when started", [STARTUP, READINESS], ProbeResults(readiness={"c1-0": OK}), False, False),
]


@pytest.mark.parametrize(("mutators", "probes", "started", "ready"), table(PROBE_CASES))
def test_probes(mutators: Any, probes: ProbeResults, started: bool, ready: bool) -> None:
    status = container(status_of(a_pod(ALWAYS, *mutators), running("c1"), probes=probes), "c1")
    assert (status.started, status.ready) == (started, ready)


def test_a_started_container_stays_started_when_its_probe_has_ended() -> None:
    pod = a_pod(ALWAYS, STARTUP)
    before = status_of(pod, running("c1"), probes=ProbeResults(startup={"c1-0": OK}))
    assert container(status_of(pod, running("c1"), before=before), "c1").started
    again = status_of(pod, exited("c1", 1), running("c1"), before=before)
    assert not container(again, "c1").started


def test_resources_and_volume_mounts_are_shown() -> None:
    from podlite.api.container import ResourceRequirements, VolumeMount

    resources = ResourceRequirements(requests={"cpu": "100m"}, limits={"cpu": "200m"})
    mounts = [
        VolumeMount(name="a", mount_path="/a"),
        VolumeMount(name="b", mount_path="/b", read_only=True),
        VolumeMount(name="c", mount_path="/c", read_only=True, recursive_read_only="IfPossible"),
    ]
    pod = a_pod(with_fields("c1", resources=resources, volume_mounts=mounts))
    status = container(status_of(pod, running("c1")), "c1")
    assert status.resources == resources
    assert status.allocated_resources == {"cpu": "100m"}
    shown = [(each.name, each.mount_path, each.read_only, each.recursive_read_only) for each in status.volume_mounts]
    assert shown == [
        ("a", "/a", False, None),
        ("b", "/b", True, "Disabled"),
        ("c", "/c", True, "Enabled"),
    ]


# --- ends from outside, and the end ---------------------------------------------------------------


def test_deadline() -> None:
    pod = a_pod(active_deadline_seconds=10)
    status = PodStatus(start_time=NOW)
    assert active_deadline(pod, status) == START_NS + 10 * SECOND
    assert not past_active_deadline(pod, status, START_NS + 10 * SECOND - 1)
    assert past_active_deadline(pod, status, START_NS + 10 * SECOND)
    assert not past_active_deadline(a_pod(), status, START_NS + 10**6 * SECOND)
    assert not past_active_deadline(pod, PodStatus(), START_NS + 10**6 * SECOND)


def test_an_evicted_pod_fails() -> None:
    status = status_of(a_pod(ALWAYS), running("c1"), evicted=("DeadlineExceeded", "too long"))
    assert (status.phase, status.reason, status.message) == ("Failed", "DeadlineExceeded", "too long")
    over = status_of(a_pod(NEVER), exited("c1"), before=PodStatus(phase="Succeeded"), evicted=("Evicted", "x"))
    assert (over.phase, over.reason) == ("Succeeded", "")


def test_a_rejected_pod() -> None:
    status = rejected_status(a_pod(), "SysctlForbidden", "forbidden sysctl: x", NOW)
    assert (status.phase, status.reason) == ("Failed", "SysctlForbidden")
    assert status.message == "Pod was rejected: forbidden sysctl: x"
    assert status.qos_class == "BestEffort"


def test_the_final_status_leaves_nothing_open() -> None:
    # pkg/kubelet/status/status_manager_test.go, TestTerminatePod…
    pod = a_pod(ALWAYS, containers=2)
    final = final_status(pod, status_of(pod, exited("c1")))
    assert final.phase == "Failed"
    assert container(final, "c1").state.terminated.exit_code == 0
    lost = container(final, "c2").state.terminated
    assert (lost.exit_code, lost.reason) == (137, "ContainerStatusUnknown")


def test_the_final_status_of_a_pod_that_never_initialized() -> None:
    pod = a_pod(NEVER, init("i1", "i2"))
    final = final_status(pod, status_of(pod, exited("i1", 1)))
    assert container(final, "i1").state.terminated.exit_code == 1
    assert container(final, "i2").state.waiting is not None
    assert container(final, "c1").state.waiting is not None
    assert final.phase == "Failed"


def test_the_final_status_of_a_pod_that_began_nothing() -> None:
    pod = a_pod(NEVER, init("i1", "i2"))
    final = final_status(pod, status_of(pod))
    assert container(final, "i1").state.terminated.reason == "ContainerStatusUnknown"
    assert container(final, "i2").state.waiting is not None


def test_a_terminal_phase_is_shown_when_nothing_can_run_any_more() -> None:
    pod = a_pod(NEVER, sidecar("s1"))
    before = status_of(pod, running("s1"), running("c1"))
    over = status_of(pod, running("s1"), running("c1"), before=before, evicted=("DeadlineExceeded", "x"))
    shown = published_status(before, over, could_run=True, now=LATER)
    assert (shown.phase, shown.reason) == ("Running", "")
    shown = published_status(shown, over, could_run=False, now=LATER)
    assert (shown.phase, shown.reason) == ("Failed", "DeadlineExceeded")


def test_a_pod_that_is_over_is_not_shown_as_ready() -> None:
    ready = PodCondition(type="Ready", status="True", last_transition_time=NOW)
    status = PodStatus(phase="Failed", conditions=[ready])
    shown = published_status(PodStatus(phase="Failed", conditions=[ready]), status, could_run=False, now=LATER)
    assert condition(shown, "Ready") == ("False", "PodFailed", "")
    assert shown.conditions[0].last_transition_time == LATER


ILLEGAL = [
    ("Never", [NEVER], exited("c1", 1), "terminated container c1 attempted illegal transition to non-terminated state"),
    ("OnFailure, succeeded", [ON_FAILURE], exited("c1"),
     "terminated container c1 attempted illegal transition to non-terminated state"),
    ("OnFailure, failed", [ON_FAILURE], exited("c1", 1), ""),
    ("Always", [ALWAYS], exited("c1"), ""),
    ("own policy", [NEVER, container_policy("c1", "Always")], exited("c1"), ""),
]  # fmt: skip


@pytest.mark.parametrize(("mutators", "change", "expected"), table(ILLEGAL))
def test_containers_do_not_come_back(mutators: Any, change: Any, expected: str) -> None:
    pod = a_pod(*mutators)
    assert illegal_transition(pod, status_of(pod, change), status_of(pod, running("c1"))) == expected


def test_sidecars_may_come_back_and_init_containers_not() -> None:
    pod = a_pod(NEVER, init("i1"), sidecar("s1"))
    before = status_of(pod, exited("i1"), exited("s1", 1))
    assert illegal_transition(pod, before, status_of(pod, exited("i1"), running("s1"))) == ""
    problem = illegal_transition(pod, before, status_of(pod, running("i1")))
    assert problem == "terminated init container i1 attempted illegal transition to non-terminated state"
