"""The decision of each sync, as tables: a pod and what runs of it → the whole plan.

Expected plans are those of the Kubernetes documentation (Pod Lifecycle, Init Containers, Sidecar Containers) and of
pkg/kubelet/kuberuntime/kuberuntime_manager_test.go (TestComputePodActions…), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.kubelet.actions import ContainerToKill, PodActions, compute_pod_actions
from podlite.kubelet.pod_status import RuntimePodStatus
from podlite.kubelet.types import ProbeResult, ProbeResults
from tests.support.pods import (
    UID,
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
    a_sandbox,
    created,
    exited,
    running,
    states,
    unknown,
    with_sandboxes,
)

OK, BAD = ProbeResult.SUCCESS, ProbeResult.FAILURE
HERE: dict[str, Any] = {"sandbox_id": "sandbox-0", "attempt": 0}
ALWAYS, ON_FAILURE, NEVER = policy("Always"), policy("OnFailure"), policy("Never")


def plan(**fields: Any) -> PodActions:
    return PodActions(**{**HERE, **fields})


def kill(name: str, message: str, reason: str = "", id: str = "") -> ContainerToKill:
    return ContainerToKill(id or f"{name}-0", name, message, reason)


def check(pod: Any, changes: list[Any], expected: PodActions, probes: ProbeResults | None = None) -> None:
    assert compute_pod_actions(pod, states(pod, *changes), probes or ProbeResults()) == expected


TWO = {"containers": 2}

APP_CASES = [
    ("all run", [ALWAYS], [running("c1"), running("c2")], plan()),
    ("none was started", [ALWAYS], [], plan(containers_to_start=("c1", "c2"))),
    ("one was started", [ALWAYS], [running("c2")], plan(containers_to_start=("c1",))),
    ("Always, one failed", [ALWAYS], [exited("c1", 1), running("c2")], plan(containers_to_start=("c1",))),
    ("Always, one succeeded", [ALWAYS], [exited("c1"), running("c2")], plan(containers_to_start=("c1",))),
    ("Always, all ended", [ALWAYS], [exited("c1"), exited("c2", 1)], plan(containers_to_start=("c1", "c2"))),
    ("OnFailure, one failed", [ON_FAILURE], [exited("c1", 1), running("c2")], plan(containers_to_start=("c1",))),
    ("OnFailure, one succeeded", [ON_FAILURE], [exited("c1"), running("c2")], plan()),
    ("OnFailure, all succeeded", [ON_FAILURE], [exited("c1"), exited("c2")], plan(kill_pod=True)),
    ("Never, one failed", [NEVER], [exited("c1", 1), running("c2")], plan()),
    ("Never, all ended", [NEVER], [exited("c1", 1), exited("c2")], plan(kill_pod=True)),
    ("Never, one was not started", [NEVER], [exited("c1", 1)], plan(containers_to_start=("c2",))),
    ("created but not started", [NEVER], [created("c1"), running("c2")], plan(containers_to_start=("c1",))),
    (
        "lost",
        [NEVER],
        [unknown("c1"), running("c2")],
        plan(
            containers_to_start=("c1",),
            containers_to_kill=(
                kill("c1", 'Container is in "unknown" state, try killing it before restart', "Unknown"),
            ),
        ),
    ),
    (
        "the newest instance counts",
        [ON_FAILURE],
        [exited("c1", 1), exited("c1", 0), running("c2")],
        plan(),
    ),
    (
        "changed image, whatever the policy",
        [NEVER],
        [running("c1", hash=1), running("c2")],
        plan(
            containers_to_start=("c1",),
            containers_to_kill=(kill("c1", "Container c1 definition changed, will be restarted"),),
        ),
    ),
    # KEP-5307 and Pod v1: a container's own restartPolicy goes before the pod's.
    (
        "own policy Never in an Always pod",
        [ALWAYS, container_policy("c1", "Never")],
        [exited("c1", 1), running("c2")],
        plan(),
    ),
    (
        "own policy Always in a Never pod",
        [NEVER, container_policy("c1", "Always")],
        [exited("c1"), exited("c2")],
        plan(containers_to_start=("c1",)),
    ),
    (
        "own policy OnFailure in a Never pod",
        [NEVER, container_policy("c1", "OnFailure"), container_policy("c2", "OnFailure")],
        [exited("c1"), exited("c2", 3)],
        plan(containers_to_start=("c2",)),
    ),
    ("nothing is started in a deleted pod", [ALWAYS, deleted()], [exited("c1"), running("c2")], plan()),
    ("an ephemeral container", [ALWAYS, ephemeral("e1")], [running("c1"), running("c2")],
     plan(ephemeral_containers_to_start=("e1",))),
    ("an ephemeral container is never restarted", [ALWAYS, ephemeral("e1")],
     [running("c1"), running("c2"), exited("e1", 1)], plan()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mutators", "changes", "expected"), [case[1:] for case in APP_CASES], ids=[c[0] for c in APP_CASES]
)
def test_app_containers(mutators: list[Any], changes: list[Any], expected: PodActions) -> None:
    check(a_pod(*mutators, containers=2), changes, expected)


PROBE_CASES = [
    ("liveness, Always", ALWAYS, {"liveness": {"c1-0": BAD}}, "failed liveness probe", "LivenessProbe", True),
    ("liveness, OnFailure", ON_FAILURE, {"liveness": {"c1-0": BAD}}, "failed liveness probe", "LivenessProbe", True),
    ("liveness, Never", NEVER, {"liveness": {"c1-0": BAD}}, "failed liveness probe", "LivenessProbe", False),
    ("startup, Always", ALWAYS, {"startup": {"c1-0": BAD}}, "failed startup probe", "StartupProbe", True),
    ("startup, Never", NEVER, {"startup": {"c1-0": BAD}}, "failed startup probe", "StartupProbe", False),
]


@pytest.mark.parametrize(
    ("restarts", "probes", "what", "reason", "again"), [c[1:] for c in PROBE_CASES], ids=[c[0] for c in PROBE_CASES]
)
def test_failed_probes(restarts: Any, probes: Any, what: str, reason: str, again: bool) -> None:
    message = f"Container c1 {what}, will be restarted" if again else f"Container c1 {what}"
    expected = plan(containers_to_kill=(kill("c1", message, reason),), containers_to_start=("c1",) if again else ())
    check(a_pod(restarts, containers=2), [running("c1"), running("c2")], expected, ProbeResults(**probes))


@pytest.mark.parametrize(
    "probes",
    [
        {"liveness": {"c1-0": OK}},
        {"liveness": {"c1-0": ProbeResult.UNKNOWN}},
        {"startup": {"c1-0": ProbeResult.UNKNOWN}},
        {"readiness": {"c1-0": BAD}},
        {"liveness": {"c1-older": BAD}},
    ],
)
def test_what_probes_do_not_kill(probes: Any) -> None:
    check(a_pod(ALWAYS), [running("c1")], plan(), ProbeResults(**probes))


def test_a_container_killed_for_good_ends_the_pod() -> None:
    probes = ProbeResults(liveness={"c1-0": BAD})
    expected = plan(
        kill_pod=True, containers_to_kill=(kill("c1", "Container c1 failed liveness probe", "LivenessProbe"),)
    )
    check(a_pod(NEVER), [running("c1")], expected, probes)


# --- the sandbox ----------------------------------------------------------------------------------

NEW = {"kill_pod": True, "create_sandbox": True}
DEAD = with_sandboxes(a_sandbox(0, ready=False))

SANDBOX_CASES = [
    ("the first one", [ALWAYS], [with_sandboxes()],
     PodActions(**NEW, containers_to_start=("c1", "c2"))),
    ("the first one, Never", [NEVER], [with_sandboxes()],
     PodActions(**NEW, containers_to_start=("c1", "c2"))),
    ("dead, Always", [ALWAYS], [exited("c1"), exited("c2", 1), DEAD],
     PodActions(**NEW, attempt=1, sandbox_id="sandbox-0", containers_to_start=("c1", "c2"))),
    ("dead, OnFailure", [ON_FAILURE], [exited("c1"), exited("c2", 1), DEAD],
     PodActions(**NEW, attempt=1, sandbox_id="sandbox-0", containers_to_start=("c2",))),
    ("dead, OnFailure, all succeeded", [ON_FAILURE], [exited("c1"), exited("c2"), DEAD],
     PodActions(kill_pod=True, attempt=1, sandbox_id="sandbox-0")),
    ("dead, Never", [NEVER], [exited("c1"), running("c2"), DEAD],
     PodActions(kill_pod=True, attempt=1, sandbox_id="sandbox-0")),
    ("dead, Never, nothing was ever started", [NEVER], [DEAD],
     PodActions(**NEW, attempt=1, sandbox_id="sandbox-0", containers_to_start=("c1", "c2"))),
    ("two are ready", [ALWAYS], [running("c1"), running("c2"), with_sandboxes(a_sandbox(0), a_sandbox(1))],
     PodActions(**NEW, attempt=2, sandbox_id="sandbox-1", containers_to_start=("c1", "c2"))),
    ("an older one is still ready", [ALWAYS], [with_sandboxes(a_sandbox(0), a_sandbox(1, ready=False))],
     PodActions(**NEW, attempt=2, sandbox_id="sandbox-1", containers_to_start=("c1", "c2"))),
    ("no address", [ALWAYS], [running("c1"), running("c2"), with_sandboxes(a_sandbox(0, ip=""))],
     PodActions(**NEW, attempt=1, sandbox_id="sandbox-0", containers_to_start=("c1", "c2"))),
    ("on the host's network now", [ALWAYS], [running("c1"), running("c2"), with_sandboxes(a_sandbox(0, host=True))],
     PodActions(**NEW, attempt=1, containers_to_start=("c1", "c2"))),
    ("with init containers it begins with the first", [ALWAYS, init("i1", "i2")], [running("c1"), DEAD],
     PodActions(**NEW, attempt=1, sandbox_id="sandbox-0", init_containers_to_start=("i1",))),
    ("with init containers, all done", [ON_FAILURE, init("i1")], [exited("i1"), exited("c1"), exited("c2"), DEAD],
     PodActions(kill_pod=True, attempt=1, sandbox_id="sandbox-0")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mutators", "changes", "expected"), [c[1:] for c in SANDBOX_CASES], ids=[c[0] for c in SANDBOX_CASES]
)
def test_sandboxes(mutators: list[Any], changes: list[Any], expected: PodActions) -> None:
    check(a_pod(*mutators, containers=2), changes, expected)


def test_a_pod_on_the_hosts_network_needs_no_address() -> None:
    pod = a_pod(ALWAYS, host_network=True)
    check(pod, [running("c1"), with_sandboxes(a_sandbox(0, ip="", host=True))], plan())


# --- init containers ------------------------------------------------------------------------------

INIT_CASES = [
    ("none was started", [ALWAYS], [], plan(init_containers_to_start=("i1",))),
    ("the first runs", [ALWAYS], [running("i1")], plan()),
    ("the first has completed", [ALWAYS], [exited("i1")], plan(init_containers_to_start=("i2",))),
    ("the last runs", [ALWAYS], [exited("i1"), running("i3")], plan()),
    ("all have completed", [ALWAYS], [exited("i1"), exited("i2"), exited("i3")], plan(containers_to_start=("c1",))),
    ("only the last is still known", [ALWAYS], [exited("i3")], plan(containers_to_start=("c1",))),
    ("only the second is still known", [ALWAYS], [exited("i2")], plan(init_containers_to_start=("i3",))),
    ("an app container runs", [ALWAYS], [running("c1")], plan()),
    ("an app container was created", [ALWAYS], [created("c1")], plan(containers_to_start=("c1",))),
    ("an app container has ended with an earlier sandbox", [ALWAYS], [exited("c1")],
     plan(init_containers_to_start=("i1",))),
    ("Always, it failed", [ALWAYS], [exited("i1"), exited("i2", 1)], plan(init_containers_to_start=("i2",))),
    ("OnFailure, it failed", [ON_FAILURE], [exited("i1", 1)], plan(init_containers_to_start=("i1",))),
    ("Never, it failed", [NEVER], [exited("i1"), exited("i2", 1)], plan(kill_pod=True)),
    ("Never, killed for memory though it returned 0", [NEVER], [exited("i1", 0, reason="OOMKilled")],
     plan(kill_pod=True)),
    ("OnFailure, killed for memory though it returned 0", [ON_FAILURE], [exited("i1", 0, reason="OOMKilled")],
     plan(init_containers_to_start=("i1",))),
    ("created but not started", [ALWAYS], [created("i1")], plan(init_containers_to_start=("i1",))),
    ("lost, Always", [ALWAYS], [unknown("i1")],
     plan(init_containers_to_start=("i1",), containers_to_kill=(
         kill("i1", 'Init container is in "unknown" state, try killing it before restart', "Unknown"),))),
    ("lost, Never", [NEVER], [unknown("i1")], plan(kill_pod=True)),
    ("own policy Never in an Always pod", [ALWAYS, container_policy("i1", "Never")], [exited("i1", 1)],
     plan(kill_pod=True)),
    ("own policy OnFailure in a Never pod", [NEVER, container_policy("i1", "OnFailure")], [exited("i1", 1)],
     plan(init_containers_to_start=("i1",))),
    ("ephemeral containers do not wait for them", [ALWAYS, ephemeral("e1")], [running("i1")],
     plan(ephemeral_containers_to_start=("e1",))),
    ("ephemeral containers come before", [ALWAYS, ephemeral("e1")], [],
     plan(ephemeral_containers_to_start=("e1",), init_containers_to_start=("i1",))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mutators", "changes", "expected"), [c[1:] for c in INIT_CASES], ids=[c[0] for c in INIT_CASES]
)
def test_init_containers(mutators: list[Any], changes: list[Any], expected: PodActions) -> None:
    check(a_pod(init("i1", "i2", "i3"), *mutators), changes, expected)


# --- sidecars -------------------------------------------------------------------------------------

SIDECAR_CASES = [
    ("none was started", [ALWAYS], [], {}, plan(init_containers_to_start=("s1",))),
    ("the first runs, so the second may", [ALWAYS], [running("s1")], {}, plan(init_containers_to_start=("s2",))),
    ("all run", [ALWAYS], [running("s1"), running("s2")], {}, plan(containers_to_start=("c1",))),
    ("all and the app run", [ALWAYS], [running("s1"), running("s2"), running("c1")], {}, plan()),
    ("one ended before the app was started", [ALWAYS], [exited("s1"), running("s2")], {},
     plan(init_containers_to_start=("s1",), containers_to_start=("c1",))),
    ("one ended while the app runs", [ALWAYS], [exited("s1", 1), running("s2"), running("c1")], {},
     plan(init_containers_to_start=("s1",))),
    ("it is restarted whatever the pod's policy", [NEVER], [running("s1"), exited("s2"), running("c1")], {},
     plan(init_containers_to_start=("s2",))),
    ("it was removed from the runtime", [ALWAYS], [running("s2"), running("c1")], {},
     plan(init_containers_to_start=("s1",))),
    ("they do not keep the pod alive", [NEVER], [running("s1"), running("s2"), exited("c1")], {},
     plan(kill_pod=True)),
    ("nor are they restarted at its end", [ON_FAILURE], [exited("s1"), running("s2"), created("c1"), exited("c1")], {},
     plan(kill_pod=True)),
    ("changed image", [ALWAYS], [running("s1", hash=1), running("s2"), running("c1")], {},
     plan(init_containers_to_start=("s1",),
          containers_to_kill=(kill("s1", "Init container s1 definition changed"),))),
    ("lost", [NEVER], [unknown("s1"), running("s2"), running("c1")], {},
     plan(init_containers_to_start=("s1",), containers_to_kill=(
         kill("s1", 'Init container is in "unknown" state, try killing it before restart', "Unknown"),))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mutators", "changes", "probes", "expected"), [c[1:] for c in SIDECAR_CASES], ids=[c[0] for c in SIDECAR_CASES]
)
def test_sidecars(mutators: list[Any], changes: list[Any], probes: Any, expected: PodActions) -> None:
    check(a_pod(sidecar("s1", "s2"), *mutators), changes, expected, ProbeResults(**probes))


STARTUP = with_fields("s1", startup_probe=exec_probe())
LIVENESS = with_fields("s1", liveness_probe=exec_probe())

SIDECAR_PROBE_CASES = [
    ("startup has not been probed", [STARTUP], [running("s1")], {}, plan()),
    ("startup is undecided", [STARTUP], [running("s1")], {"startup": {"s1-0": ProbeResult.UNKNOWN}}, plan()),
    ("startup succeeded", [STARTUP], [running("s1")], {"startup": {"s1-0": OK}},
     plan(init_containers_to_start=("s2",))),
    ("startup failed", [STARTUP], [running("s1")], {"startup": {"s1-0": BAD}},
     plan(init_containers_to_start=("s1",), containers_to_kill=(
         kill("s1", "Init container s1 failed startup probe", "StartupProbe"),))),
    ("liveness does not gate the next", [LIVENESS], [running("s1")], {}, plan(init_containers_to_start=("s2",))),
    ("liveness failed", [LIVENESS], [running("s1"), running("s2"), running("c1")], {"liveness": {"s1-0": BAD}},
     plan(init_containers_to_start=("s1",), containers_to_kill=(
         kill("s1", "Init container s1 failed liveness probe", "LivenessProbe"),))),
    ("both at once, in the order of the specification", [LIVENESS], [running("s1")], {"liveness": {"s1-0": BAD}},
     plan(init_containers_to_start=("s1", "s2"), containers_to_kill=(
         kill("s1", "Init container s1 failed liveness probe", "LivenessProbe"),))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mutators", "changes", "probes", "expected"),
    [c[1:] for c in SIDECAR_PROBE_CASES],
    ids=[c[0] for c in SIDECAR_PROBE_CASES],
)
def test_probed_sidecars(mutators: list[Any], changes: list[Any], probes: Any, expected: PodActions) -> None:
    check(a_pod(sidecar("s1", "s2"), *mutators), changes, expected, ProbeResults(**probes))


def test_sidecars_and_init_containers_take_turns() -> None:
    pod = a_pod(init("i1"), sidecar("s1"), init("i2"))
    check(pod, [exited("i1")], plan(init_containers_to_start=("s1",)))
    check(pod, [exited("i1"), running("s1")], plan(init_containers_to_start=("i2",)))
    check(pod, [exited("i1"), exited("s1", 1), running("i2")], plan(init_containers_to_start=("s1",)))
    check(pod, [exited("i1"), running("s1"), exited("i2")], plan(containers_to_start=("c1",)))


def test_a_plan_knows_when_there_is_nothing_to_do() -> None:
    pod = a_pod()
    assert compute_pod_actions(pod, states(pod, running("c1")), ProbeResults()).idle
    assert not compute_pod_actions(pod, states(pod), ProbeResults()).idle
    assert not compute_pod_actions(pod, RuntimePodStatus(uid=UID), ProbeResults()).idle
