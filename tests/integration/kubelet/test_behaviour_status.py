"""Statuses as a whole, conditions and their times, events and their counts, and what is kept of what has ended.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ (phases, container states, conditions),
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodStatus, pkg/kubelet/status/generate.go
for reasons, client-go's events_cache.go for counts, and "Container garbage collection"
(https://kubernetes.io/docs/concepts/architecture/garbage-collection/).
"""

from __future__ import annotations

import os
import re

import anyio
import pytest
from msgspec import structs

from podlite.api import encode
from podlite.kubelet.housekeeping import Housekeeping
from podlite.kubelet.kubelet import Kubelet
from tests.support.behaviours import Behaviour, check, ended, load, reached, told

pytestmark = [pytest.mark.root, pytest.mark.anyio]

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
CONDITIONS = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]

TABLE = [
    Behaviour(
        "Succeeded",
        "generate.go: a pod that is over is not ready, for the reason PodCompleted",
        """
restartPolicy: Never
containers: [{c: c, command: ["true"]}]
""",
        status={
            "phase": "Succeeded",
            "conditions[PodReadyToStartContainers].status": "False",
            "conditions[Initialized].status": "True",
            "conditions[Initialized].reason": "PodCompleted",
            "conditions[Ready].status": "False",
            "conditions[Ready].reason": "PodCompleted",
            "conditions[ContainersReady].status": "False",
            "conditions[ContainersReady].reason": "PodCompleted",
            "conditions[PodScheduled].status": "True",
            "containerStatuses[c].ready": False,
            "containerStatuses[c].started": False,
            "containerStatuses[c].state.terminated.reason": "Completed",
            "containerStatuses[c].state.terminated.exitCode": 0,
        },
    ),
    Behaviour(
        "Failed",
        "generate.go: PodFailed",
        """
restartPolicy: Never
containers: [{c: c, command: [sh, -c, "exit 3"]}, {c: d, command: ["true"]}]
""",
        status={
            "phase": "Failed",
            "conditions[Ready].reason": "PodFailed",
            "conditions[ContainersReady].reason": "PodFailed",
            "containerStatuses[c].state.terminated.exitCode": 3,
            "containerStatuses[c].state.terminated.reason": "Error",
            "containerStatuses[d].state.terminated.reason": "Completed",
        },
    ),
    Behaviour(
        "ended-by-a-signal",
        "128 and the signal's number",
        """
restartPolicy: Never
containers: [{c: c, command: [sh, -c, "sh -c 'kill -9 $$$$'"]}]
""",
        status={"phase": "Failed", "containerStatuses[c].state.terminated.exitCode": 137},
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_ends(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)


async def test_the_whole_status_of_a_running_pod(networked: Kubelet) -> None:
    """Every field of PodStatus and ContainerStatus that a kubelet sets for such a pod, and no other."""
    [pod] = load("""
volumes: [{name: v, emptyDir: {}}]
containers:
- {c: c, command: [sleep, "1000"], resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {memory: 64Mi}},
   volumeMounts: [{name: v, mountPath: /v, readOnly: true}]}
""").pods  # fmt: skip
    uid = (await networked.add_pod(pod)).metadata.uid
    pod = await reached(networked, uid, {"conditions[Ready].status": "True"})
    status = encode.to_builtins(pod)["status"]
    ip4, ip6 = (each["ip"] for each in status["podIPs"])
    assert re.fullmatch(r"10\.199\.\d+\.\d+", ip4)
    assert ip6.startswith("fd85:77::")
    started = status["startTime"]
    assert re.fullmatch(TIME, started)
    [container] = status["containerStatuses"]
    assert re.fullmatch(r"podlite://[0-9a-f]{64}", container["containerID"])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", container["imageID"])
    assert re.fullmatch(TIME, container["state"]["running"]["startedAt"])
    assert container == {
        "name": "c",
        "state": {"running": {"startedAt": container["state"]["running"]["startedAt"]}},
        "lastState": {},
        "ready": True,
        "restartCount": 0,
        "image": "podlite.local/host:1",
        "imageID": container["imageID"],
        "containerID": container["containerID"],
        "started": True,
        "allocatedResources": {"cpu": "10m", "memory": "8Mi"},
        "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "8Mi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Disabled"}],
        "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
    }
    conditions = status["conditions"]
    assert [each["type"] for each in conditions] == CONDITIONS
    for each in conditions:
        assert re.fullmatch(TIME, each.pop("lastTransitionTime"))
        assert each == {"type": each["type"], "status": "True", "observedGeneration": 1, "lastProbeTime": None}
    assert {key: value for key, value in status.items() if key not in ("containerStatuses", "conditions")} == {
        "observedGeneration": 1,
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip4,
        "podIPs": [{"ip": ip4}, {"ip": ip6}],
        "startTime": started,
        "qosClass": "Burstable",
    }


async def test_generations_are_observed(kubelet: Kubelet) -> None:
    """KEP-5067: status.observedGeneration, and that of each condition, follow metadata.generation."""
    [pod] = load("terminationGracePeriodSeconds: 1\ncontainers: [{c: c, command: [sleep, '1000']}]").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await reached(kubelet, uid, {"phase": "Running", "observedGeneration": 1})
    spec = structs.replace(pod.spec, active_deadline_seconds=3600)
    changed = await kubelet.update_pod(structs.replace(pod, spec=spec))
    assert changed.metadata.generation == 2
    await reached(kubelet, uid, {"observedGeneration": 2, "conditions[Ready].observedGeneration": 2})


async def test_events_are_counted(kubelet: Kubelet) -> None:
    """The same event again is one event with a count and two times; its message does not name instances."""
    [pod] = load("terminationGracePeriodSeconds: 0\ncontainers: [{c: c, command: ['false']}]").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    with anyio.fail_after(60), kubelet.watch_events() as events:
        async for event in events:
            if event.reason == "Started" and event.count == 3:
                break
    assert event.message == "Container started"
    assert event.involved_object.field_path == "spec.containers{c}"
    assert event.involved_object.uid == uid
    assert event.source.component == "kubelet"
    assert event.first_timestamp is not None
    assert event.last_timestamp is not None
    assert event.first_timestamp <= event.last_timestamp
    assert len([each for each in kubelet.events(uid) if each.reason == "Started"]) == 1
    assert next(each for each in kubelet.events(uid) if each.reason == "BackOff").count >= 1


async def test_what_has_ended_is_kept_once(kubelet: Kubelet) -> None:
    """maxPerPodContainer is 1: of a container that was started again and again the last dead instance is kept, with its
    log, and nothing of those before."""
    [pod] = load("""
restartPolicy: OnFailure
volumes: [{name: v, emptyDir: {}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'echo x >> /v/count; test $(wc -l < /v/count) -gt 3 && sleep 1000; exit 1']}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await reached(kubelet, uid, {"containerStatuses[c].restartCount": 3, "containerStatuses[c].state.running": ...})
    await Housekeeping(kubelet, kubelet._workers, kubelet._pleg, kubelet._parts).collect_containers()
    containers = await kubelet.runtime.list_containers()
    assert sorted(each.metadata.attempt for each in containers) == [2, 3]
    logs = f"{kubelet.config.log_dir}/default_web_{uid}/c"
    assert sorted(os.listdir(logs)) == ["2.log", "3.log"]


async def test_old_logs_are_rotated_away(kubelet: Kubelet) -> None:
    """containerLogMaxFiles: the oldest rotated file goes; containerLogMaxSize says when to rotate."""
    config = structs.replace(kubelet.config, container_log_max_size=10_000, container_log_max_files=3)
    async with Kubelet(kubelet.runtime, kubelet.images, config) as other:
        [pod] = load("containers: [{c: c, command: [sh, -c, 'while :; do seq 2000; sleep 0.02; done']}]").pods
        uid = (await other.add_pod(pod)).metadata.uid
        await reached(other, uid, {"phase": "Running"})
        house = Housekeeping(other, other._workers, other._pleg, other._parts)
        logs = f"{config.log_dir}/default_web_{uid}/c"
        rotations: set[str] = set()
        with anyio.fail_after(60):
            while len(rotations) < 5:
                await house.rotate_logs()
                rotations.update(name for name in os.listdir(logs) if name != "0.log")
                await anyio.sleep(0.1)
        assert len(os.listdir(logs)) <= 3
        assert "0.log" in os.listdir(logs)
        await other.delete_pod(uid, 0)
        await other.wait_removed(uid)


async def test_a_pod_that_is_not_admitted(kubelet: Kubelet) -> None:
    """kubelet.go, rejectPod: Failed, with reason and message, and nothing was made for it."""
    [pod] = load("containers: [{c: c, resources: {requests: {cpu: '100000'}}}]").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await ended(kubelet, uid)
    status = encode.to_builtins(pod)["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["message"].startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 100000000, used: 0, capacity: "
    )
    await told(kubelet, uid, ["Warning OutOfcpu Node didn't have enough resource: cpu, .*"])
    assert await kubelet.runtime.list_pod_sandbox() == []
    assert not os.path.exists(f"{kubelet.config.state_dir}/pods/{uid}")
