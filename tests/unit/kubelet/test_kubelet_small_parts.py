"""Labels, Go's durations, host ports, what is hopeless, watching: the small parts of the kubelet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.api.container import ContainerPort
from podlite.api.probes import ExecAction, Lifecycle, LifecycleHandler
from podlite.api.status import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    PodStatus,
)
from podlite.kubelet import labels
from podlite.kubelet.clock import Wake
from podlite.kubelet.container_start import restart_count_from_logs
from podlite.kubelet.gotime import duration, parse_rfc3339, rfc3339
from podlite.kubelet.hopeless import hopeless
from podlite.kubelet.host_ports import check_host_ports
from podlite.kubelet.kubelet import new_uid
from podlite.kubelet.paths import pod_uid_of_logs_dir
from podlite.kubelet.restart import restarts_after
from podlite.kubelet.status_manager import StatusManager
from podlite.kubelet.types import ObjectStore
from podlite.kubelet.watch import Broadcast
from tests.support.clock import START_NS, FakeClock
from tests.support.pods import UID, a_pod, container, container_policy, deleted, init, policy, with_fields
from tests.support.tables import table

# --- labels -----------------------------------------------------------------------------------------


def test_the_hash_is_the_kubelets_own() -> None:
    # pkg/kubelet/container/container_hash_test.go
    assert labels.hash_container(container("test_container", image="foo/image:v1", command=["x"])) == 0x8E45CBD0


def test_labels_and_annotations() -> None:
    # pkg/kubelet/kuberuntime/labels_test.go
    stop = LifecycleHandler(exec=ExecAction(command=["bye"]))
    pod = a_pod(
        with_fields("c1", lifecycle=Lifecycle(pre_stop=stop), ports=[ContainerPort(container_port=80, name="http")]),
        deleted(10),
    )
    pod.metadata.labels = {"app": "web"}
    one = pod.spec.containers[0]
    assert labels.pod_labels(pod) == {
        "app": "web",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": UID,
    }
    assert labels.container_labels(pod, one) == {
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": UID,
        "io.kubernetes.container.name": "c1",
    }
    assert labels.container_annotations(pod, one, 3) == {
        "io.kubernetes.container.hash": f"{labels.hash_container(one):x}",
        "io.kubernetes.container.restartCount": "3",
        "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy": "File",
        "io.kubernetes.container.preStopHandler": '{"exec":{"command":["bye"]}}',
        "io.kubernetes.container.ports": '[{"name":"http","containerPort":80,"protocol":"TCP"}]',
        "io.kubernetes.pod.deletionGracePeriod": "10",
        "io.kubernetes.pod.terminationGracePeriod": "30",
    }


def test_a_container_can_be_killed_by_its_labels_alone() -> None:
    stop = LifecycleHandler(exec=ExecAction(command=["bye"]))
    pod = a_pod(
        with_fields("c1", lifecycle=Lifecycle(pre_stop=stop), ports=[ContainerPort(container_port=80)]), deleted(10)
    )
    one = pod.spec.containers[0]
    found = labels.restore_pod(labels.container_labels(pod, one), labels.container_annotations(pod, one, 0))
    restored = found.spec.containers[0]
    assert (found.metadata.name, found.metadata.namespace, found.metadata.uid) == ("web", "default", UID)
    assert found.metadata.deletion_grace_period_seconds == 10
    assert found.spec.termination_grace_period_seconds == 30
    assert (restored.name, restored.ports) == ("c1", one.ports)
    assert restored.lifecycle is not None
    assert restored.lifecycle.pre_stop == stop


@pytest.mark.parametrize(
    "annotations", [{}, {labels.PRE_STOP_HANDLER: "{", labels.PORTS: "7", labels.RESTART_COUNT: "many"}]
)
def test_labels_that_cannot_be_read(annotations: dict[str, str]) -> None:
    restored = labels.restore_pod({}, annotations)
    assert restored.spec.containers[0].lifecycle is None
    assert restored.spec.containers[0].ports == []
    assert labels.number(annotations, labels.RESTART_COUNT) == 0


def test_uids() -> None:
    uids = {new_uid() for _ in range(100)}
    assert len(uids) == 100
    assert {(uid[14], uid[8], uid[19] in "89ab") for uid in uids} == {("4", "-", True)}
    assert pod_uid_of_logs_dir(f"default_web_{UID}") == UID
    assert pod_uid_of_logs_dir("default_web") == ""


# --- times ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        # https://pkg.go.dev/time#Duration.String
        (0, "0s"),
        (1.1e-9, "1ns"),
        (1.1e-6, "1.1µs"),
        (2.2e-3, "2.2ms"),
        (3.3, "3.3s"),
        (4 * 60 + 5, "4m5s"),
        (4 * 60 + 5.001, "4m5.001s"),
        (5 * 3600 + 6 * 60 + 7.001, "5h6m7.001s"),
        (300, "5m0s"),
        (160, "2m40s"),
        (3600, "1h0m0s"),
        (-1.5, "-1.5s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(-(10**9), 4 * 10**9))
def test_times_come_back(seconds: int) -> None:
    assert parse_rfc3339(rfc3339(seconds * 10**9 + 5)) == seconds * 10**9


def test_times() -> None:
    assert rfc3339(START_NS) == "2026-11-23T20:00:00Z"
    assert parse_rfc3339("2026-11-23T20:00:00.5Z") == START_NS + 5 * 10**8
    for text in ("", "2026-11-23", "2026-11-23T20:00:00+01:00", "2026-11-23T20:00:00.xZ"):
        with pytest.raises(ValueError, match=r".*"):
            parse_rfc3339(text)


# --- restarts ---------------------------------------------------------------------------------------

RESTARTS = [
    ("Always", "Always", None, 0, True),
    ("Always, failed", "Always", None, 1, True),
    ("OnFailure", "OnFailure", None, 0, False),
    ("OnFailure, failed", "OnFailure", None, 1, True),
    ("Never, failed", "Never", None, 1, False),
    ("own Always", "Never", "Always", 0, True),
    ("own OnFailure", "Always", "OnFailure", 0, False),
    ("own Never", "Always", "Never", 1, False),
    ("nothing that is known", "", None, 0, True),
]


@pytest.mark.parametrize(("of_pod", "own", "code", "expected"), table(RESTARTS))
def test_restarts(of_pod: str, own: str | None, code: int, expected: bool) -> None:
    pod = a_pod(policy(of_pod))
    pod.spec.restart_policy = of_pod
    assert restarts_after(container("c1", restart_policy=own), pod.spec, code) is expected


def test_restart_counts_from_logs(tmp_path: Any) -> None:
    # pkg/kubelet/kuberuntime/kuberuntime_container_test.go, TestRestartCountByLogDir
    assert restart_count_from_logs(str(tmp_path / "missing")) == 0
    assert restart_count_from_logs(str(tmp_path)) == 0
    for name in ("0.log", "2.log.rotated", "3.log.20201020-202020.gz", "10.txt", "x.log", "7log"):
        (tmp_path / name).touch()
    assert restart_count_from_logs(str(tmp_path)) == 4


# --- host ports -------------------------------------------------------------------------------------


def with_ports(*ports: tuple[int, str, str], name: str = "web") -> Any:
    found = [ContainerPort(container_port=1, host_port=port, protocol=kind, host_ip=ip) for port, kind, ip in ports]
    return a_pod(with_fields("c1", ports=found), name=name)


@pytest.mark.parametrize(
    ("taken", "wanted", "conflict"),
    [
        ((80, "TCP", ""), (80, "TCP", ""), True),
        ((80, "TCP", ""), (81, "TCP", ""), False),
        ((80, "TCP", ""), (80, "UDP", ""), False),
        ((80, "TCP", "127.0.0.1"), (80, "TCP", "127.0.0.2"), False),
        ((80, "TCP", "127.0.0.1"), (80, "TCP", "0.0.0.0"), True),
        ((80, "TCP", ""), (80, "TCP", "127.0.0.1"), True),
        ((0, "TCP", ""), (0, "TCP", ""), False),
    ],
)
def test_host_ports(taken: Any, wanted: Any, conflict: bool) -> None:
    rejection = check_host_ports(with_ports(wanted), [with_ports(taken, name="other")])
    assert (rejection is not None) is conflict
    if rejection is not None:
        assert rejection.reason == "NodePorts"
        assert "didn't have free ports for the requested pod ports" in rejection.message


# --- what is hopeless -------------------------------------------------------------------------------


def waiting(reason: str) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message="why"))


def over(reason: str) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=128, reason=reason, message="why"))


HOPELESS = [
    ("a bad name", "Always", waiting("InvalidImageName"), True),
    ("an image that is never pulled", "Always", waiting("ErrImageNeverPull"), True),
    ("a key that is missing", "Always", waiting("CreateContainerConfigError"), True),
    ("a command that is missing, Never", "Never", over("StartError"), True),
    ("a command that is missing, Always", "Always", over("StartError"), False),
    ("could not be created, Never", "Never", waiting("CreateContainerError"), True),
    ("could not be created, OnFailure", "OnFailure", waiting("CreateContainerError"), False),
    ("a pull that was tried again and again", "Always", waiting("ErrImagePull"), True),
    ("a registry that does not answer", "Never", waiting("RegistryUnavailable"), True),
    ("one that is waited for all the same", "Never", waiting("ImagePullBackOff"), False),
    ("it crashes", "Always", waiting("CrashLoopBackOff"), False),
    ("it failed by itself", "Never", over("Error"), False),
]


@pytest.mark.parametrize(("restart_policy", "state", "expected"), table(HOPELESS))
def test_hopeless(restart_policy: str, state: ContainerState, expected: bool) -> None:
    pod = a_pod(policy(restart_policy))
    pod.status = PodStatus(container_statuses=[ContainerStatus(name="c1", state=state)])
    found = hopeless(pod)
    reason = (state.waiting or state.terminated).reason  # type: ignore[union-attr]
    assert found == (("c1", reason, "why") if expected else None)


def test_init_containers_can_be_hopeless_by_their_own_policy() -> None:
    pod = a_pod(policy("Always"), init("i1"), container_policy("i1", "Never"))
    pod.status = PodStatus(init_container_statuses=[ContainerStatus(name="i1", state=over("StartError"))])
    assert hopeless(pod) == ("i1", "StartError", "why")


# --- objects ----------------------------------------------------------------------------------------


def test_objects() -> None:
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.meta import ObjectMeta

    first = ConfigMap(metadata=ObjectMeta(name="a", namespace="default"))
    second = ConfigMap(metadata=ObjectMeta(name="a", namespace="default"), data={"x": "y"})
    store = ObjectStore([first, Secret(metadata=ObjectMeta(name="a"))])
    store.update([second])
    assert store.config_map("default", "a") is second
    assert store.config_map("", "a") is second
    assert store.config_map("other", "a") is None
    assert store.secret("default", "a") is not None
    assert len(list(store)) == 2


# --- watching ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_slow_reader_gets_what_is_newest() -> None:
    broadcast: Broadcast[int] = Broadcast()
    with broadcast.subscribe() as slow, broadcast.subscribe() as fast:
        seen = []
        for value in range(5):
            broadcast.send("a", value)
            seen.append(await anext(fast))
        broadcast.send("b", 9)
        assert seen == [0, 1, 2, 3, 4]
        assert [await anext(slow), await anext(slow)] == [4, 9]
        broadcast.close()
        assert [each async for each in slow] == []
        assert [each async for each in fast] == [9]
    assert broadcast.readers == set()
    assert [each async for each in broadcast.subscribe()] == []


@pytest.mark.anyio
async def test_a_wake_is_not_forgotten() -> None:
    import anyio

    wake = Wake()
    wake.set()
    wake.set()
    assert wake.is_set()
    await wake.wait()
    with anyio.move_on_after(0):
        await wake.wait()
        raise AssertionError("it was told only once")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wake.wait)
        await anyio.lowlevel.checkpoint()
        wake.set()


# --- the status manager -----------------------------------------------------------------------------


def manager(pod: Any) -> StatusManager:
    result = StatusManager(FakeClock())
    result.add(pod)
    return result


def test_versions_grow_with_what_is_shown() -> None:
    pod = a_pod()
    it = manager(pod)
    assert it.version(UID) == 0
    assert it.set(pod, PodStatus(phase="Pending"))
    assert not it.set(pod, PodStatus(phase="Pending"))
    assert it.version(UID) == 1
    assert it.set(pod, PodStatus(phase="Running"))
    assert it.version(UID) == 2
    shown = it.pod(UID)
    assert shown is not None
    assert (shown.metadata.resource_version, shown.status.phase) == ("2", "Running")
    assert pod.metadata.resource_version == ""


def test_unknown_pods() -> None:
    it = manager(a_pod())
    assert not it.set(a_pod(uid="other"), PodStatus(phase="Pending"))
    assert it.pod("other") is None
    assert it.get("other") is None
    assert not it.set_container_readiness("other", "x", True)
    assert not it.set_container_startup("other", "x", True)
    it.remove("other")
    it.terminate("other")
    it.set_stopped("other")


def test_probe_results_are_shown_without_a_sync() -> None:
    pod = a_pod()
    it = manager(pod)
    status = ContainerStatus(name="c1", container_id="podlite://abc", ready=False, started=False)
    it.set(pod, PodStatus(phase="Running", container_statuses=[status]))
    assert it.set_container_startup(UID, "abc", True)
    assert it.set_container_readiness(UID, "abc", True)
    assert not it.set_container_readiness(UID, "abc", True)
    assert not it.set_container_readiness(UID, "other", True)
    shown = it.pod(UID)
    assert shown is not None
    assert (shown.status.container_statuses[0].ready, shown.status.container_statuses[0].started) == (True, True)
    assert status.ready is False


def test_a_status_that_goes_backwards_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    pod = a_pod(policy("Never"))
    it = manager(pod)
    done = PodStatus(phase="Running", container_statuses=[ContainerStatus(name="c1", state=over("Error"))])
    it.set(pod, done)
    again = PodStatus(phase="Running", container_statuses=[ContainerStatus(name="c1", state=waiting("x"))])
    assert not it.set(pod, again)
    assert it.get(UID) is done


def test_the_end_is_shown_when_nothing_runs_any_more() -> None:
    pod = a_pod(policy("Never"))
    it = manager(pod)
    it.set(pod, PodStatus(phase="Running"))
    it.set(pod, PodStatus(phase="Failed", reason="DeadlineExceeded"))
    assert it.pod(UID).status.phase == "Running"  # type: ignore[union-attr]
    assert it.get(UID).phase == "Failed"  # type: ignore[union-attr]
    it.set_stopped(UID)
    assert it.pod(UID).status.reason == "DeadlineExceeded"  # type: ignore[union-attr]
    assert [each.metadata.uid for each in it.pods()] == [UID]
