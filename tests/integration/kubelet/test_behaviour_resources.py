"""Requests and limits: QoS classes, their cgroups, and that each limit is enforced by the kernel.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/,
https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/, pkg/kubelet/cm and
pkg/kubelet/lifecycle/predicate.go, cgroups(7).
"""

from __future__ import annotations

import os
import re

import anyio
import pytest
from msgspec import structs

from podlite.kubelet.housekeeping import Housekeeping
from podlite.kubelet.kubelet import Kubelet
from podlite.linux.cgroups import Cgroups
from tests.support.behaviours import Behaviour, check, ended, load, log_of, reached

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def needs(controller: str, kubelet: Kubelet) -> Cgroups:
    cgroups = Cgroups.detect(kubelet.config.cgroup_root)
    if not cgroups.version_of(controller):
        pytest.skip(f"no {controller} controller here")
    return cgroups


TABLE = [
    Behaviour(
        "Guaranteed",
        "every container has limits of both, and requests that are not stated or the same",
        """
restartPolicy: Never
containers:
- {c: c, resources: {limits: {cpu: 100m, memory: 64Mi}}, command: [cat, /proc/self/oom_score_adj]}
""",
        status={
            "phase": "Succeeded",
            "qosClass": "Guaranteed",
            "containerStatuses[c].resources.limits": {"cpu": "100m", "memory": "64Mi"},
            "containerStatuses[c].allocatedResources": {"cpu": "100m", "memory": "64Mi"},
        },
        logs={"c": "-997\n|0\n"},  # 0 where nobody may lower it
    ),
    Behaviour(
        "BestEffort",
        "no container has any; oom_score_adj 1000",
        """
restartPolicy: Never
containers: [{c: c, command: [cat, /proc/self/oom_score_adj]}]
""",
        status={"phase": "Succeeded", "qosClass": "BestEffort"},
        logs={"c": "1000\n"},
    ),
    Behaviour(
        "Burstable",
        "anything between; oom_score_adj is 1000 - 1000 x request / capacity, from 3 to 999",
        """
restartPolicy: Never
containers:
- {c: c, resources: {requests: {memory: 1Ki}}, command: [cat, /proc/self/oom_score_adj]}
""",
        status={"phase": "Succeeded", "qosClass": "Burstable"},
        logs={"c": "999\n"},
    ),
    Behaviour(
        "more-memory-than-there-is",
        "pkg/kubelet/lifecycle/predicate.go: OutOfmemory",
        """
containers: [{c: c, resources: {requests: {memory: 1Pi}}}]
""",
        status={"phase": "Failed", "reason": "OutOfmemory"},
        events=(r"Warning OutOfmemory Node didn't have enough resource: memory, requested: 1125899906842624, .*",),
    ),
    Behaviour(
        "huge-pages-that-are-not-there",
        "the same, for a size of which the machine has no pages",
        """
containers: [{c: c, resources: {limits: {hugepages-16Gi: 16Gi, cpu: 1m, memory: 1Mi}}}]
""",
        status={"phase": "Failed", "reason": "OutOfhugepages-16Gi"},
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_resources(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)


async def test_cpu_is_throttled(kubelet: Kubelet) -> None:
    """A limit of 100m is 10 ms in each 100 ms: cpu.stat counts the periods in which it was used up."""
    cgroups = needs("cpu", kubelet)
    [pod] = load("""
restartPolicy: Never
volumes: [{name: cg, hostPath: {path: /sys/fs/cgroup}}]
containers:
- {c: c, resources: {limits: {cpu: 100m}}, volumeMounts: [{name: cg, mountPath: /cg, readOnly: true}],
   command: [sh, -c, 'f=$(ls -d /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null | head -1);
      cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null;
      while ! grep -q "nr_throttled [1-9]" $f; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done;
      grep nr_throttled $f']}
""").pods  # fmt: skip
    assert cgroups is not None
    pod = await ended(kubelet, (await kubelet.add_pod(pod)).metadata.uid)
    said = await log_of(kubelet, pod, "c")
    assert re.fullmatch(r"(10000|10000 100000)\nnr_throttled [1-9]\d*\n", said), said


async def test_memory_ends_the_right_container(kubelet: Kubelet) -> None:
    """OOMKilled, 137; the other containers of the pod go on; an OnFailure pod starts it again."""
    needs("memory", kubelet)
    [pod] = load("""
restartPolicy: OnFailure
containers:
- {c: small, resources: {limits: {memory: 24Mi}}, command: [sh, -c, 'head -c 200000000 /dev/zero | tail']}
- {c: other, resources: {limits: {memory: 64Mi}}, command: [sleep, "1000"]}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await reached(
        kubelet,
        uid,
        {
            "containerStatuses[small].lastState.terminated.reason": "OOMKilled",
            "containerStatuses[other].state.running": ...,
        },
    )
    other = next(each for each in pod.status.container_statuses if each.name == "other")
    assert other.restart_count == 0


async def test_memory_that_ran_out_in_an_init_container(kubelet: Kubelet) -> None:
    """It has failed, whatever its own process returned: isInitContainerFailed in pkg/kubelet/kuberuntime/helpers.go."""
    needs("memory", kubelet)
    await check(
        kubelet,
        Behaviour(
            "OOM",
            "",
            """
restartPolicy: Never
initContainers: [{c: i, resources: {limits: {memory: 24Mi}}, command: [sh, -c, 'tail /dev/zero; exit 0']}]
containers: [{c: c, command: ["true"]}]
""",
            status={
                "phase": "Failed",
                "reason": None,
                "initContainerStatuses[i].state.terminated.reason": "OOMKilled",
                "containerStatuses[c].state.waiting.reason": "PodInitializing",
            },
        ),
    )


async def test_pids_are_limited(kubelet: Kubelet) -> None:
    """podPidsLimit: the pod's cgroup takes no more processes than that."""
    needs("pids", kubelet)
    config = structs.replace(kubelet.config, pod_pids_limit=20)
    async with Kubelet(kubelet.runtime, kubelet.images, config) as other:
        [pod] = load("""
restartPolicy: Never
containers:
- {c: c, command: [sh, -c, 'for i in $(seq 40); do sleep 1000 & done; echo all']}
""").pods  # fmt: skip
        uid = (await other.add_pod(pod)).metadata.uid
        pod = await ended(other, uid)
        assert "Resource temporarily unavailable" in await log_of(other, pod, "c") or "fork" in await log_of(
            other, pod, "c"
        )
        assert pod.status.phase == "Failed"
        await other.delete_pod(uid, 0)
        await other.wait_removed(uid)


@pytest.mark.parametrize(
    ("resources", "below"),
    [
        ("{limits: {cpu: 100m, memory: 64Mi}}", "kubepods/pod"),
        ("{requests: {cpu: 100m}}", "kubepods/burstable/pod"),
        ("{}", "kubepods/besteffort/pod"),
    ],
)
async def test_cgroups_of_the_classes(kubelet: Kubelet, resources: str, below: str) -> None:
    """pkg/kubelet/cm/qos_container_manager_linux.go: Guaranteed pods directly below kubepods, the others each in
    their class's cgroup."""
    needs("memory", kubelet)
    [pod] = load(f"containers: [{{c: c, resources: {resources}, command: [sleep, '1000']}}]").pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await reached(kubelet, uid, {"phase": "Running"})
    [container] = kubelet.runtime_status(uid).running_containers()
    wanted = f"{kubelet.config.cgroup_root}/{below}{uid}/{container.id}"
    found = [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(wanted)]
    assert found, wanted


@pytest.mark.parametrize(
    ("script", "limits", "message"),
    [
        (
            "head -c 3000000 /dev/urandom > /big",
            ("1Mi", "1Gi"),
            'Container c exceeded its local ephemeral storage limit "1Mi". ',
        ),
        (
            "head -c 3000000 /dev/urandom | base64",
            ("2Mi", "1Gi"),
            'Container c exceeded its local ephemeral storage limit "2Mi". ',
        ),
        (
            "head -c 3000000 /dev/urandom > /v/big",
            ("1Mi", "1Mi"),
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
        ),
    ],
)
async def test_local_storage_is_limited(kubelet: Kubelet, script: str, limits: tuple[str, str], message: str) -> None:
    """What a container writes to its own files and to its log counts, for the pod also what is in emptyDirs."""
    [pod] = load(f"""
volumes: [{{name: v, emptyDir: {{}}}}]
containers:
- {{c: c, resources: {{limits: {{ephemeral-storage: {limits[0]}}}}}, volumeMounts: [{{name: v, mountPath: /v}}],
   command: [sh, -c, '{script}; touch /v/done; sleep 1000']}}
- {{c: d, resources: {{limits: {{ephemeral-storage: {limits[1]}}}}}, command: [sleep, "1000"]}}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await reached(kubelet, uid, {"phase": "Running"})
    path = f"{kubelet.config.state_dir}/pods/{uid}/volumes/kubernetes.io~empty-dir/v/done"
    with anyio.fail_after(60):
        while not os.path.exists(path):
            await anyio.sleep(0.02)
    await Housekeeping(kubelet, kubelet._workers, kubelet._pleg, kubelet._parts).check_storage()
    pod = await ended(kubelet, uid)
    assert (pod.status.phase, pod.status.reason, pod.status.message) == ("Failed", "Evicted", message)
