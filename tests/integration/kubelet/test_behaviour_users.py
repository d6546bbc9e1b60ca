"""`hostUsers: false`: pods with users of their own.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/, KEP-127, user_namespaces(7): 65536 ids for
each pod, which overlap with no other pod's; the container's root is nobody special on the host; volumes are mapped.
"""

from __future__ import annotations

import os
import re

import anyio
import pytest

from podlite.api.container import EphemeralContainer
from podlite.kubelet.kubelet import Kubelet
from podlite.linux import probe
from tests.support.behaviours import Behaviour, check, ended, load, log_of, reached
from tests.support.containers import HOST_IMAGE

pytestmark = [pytest.mark.root, pytest.mark.anyio]

MAP = r"\s*0\s+(\d+)\s+65536\n"

TABLE = [
    Behaviour(
        "ids",
        "root in the pod, with all the ids that 16 bits can name; files of the image are root's",
        """
hostUsers: false
restartPolicy: Never
containers:
- {c: c, command: [sh, -c, 'cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /x;
     stat -c %u:%g /x /etc/passwd']}
""",
        status={"phase": "Succeeded"},
        logs={"c": MAP + MAP + "0\n0:0\n0:0\n"},
    ),
    Behaviour(
        "another-user",
        "runAsUser is one of the pod's own users",
        """
hostUsers: false
restartPolicy: Never
securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
volumes: [{name: v, emptyDir: {}},
          {name: d, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}, {name: d, mountPath: /d}],
   command: [sh, -c, 'id -u; id -G; touch /v/x; stat -c %u:%g /v /v/x; cat /d/name; echo why > /dev/termination-log']}
""",
        status={"phase": "Succeeded", "containerStatuses[c].state.terminated.message": "why\n"},
        logs={"c": "1000\n1000 2000\n0:2000\n1000:2000\nweb"},
    ),
    Behaviour(
        "capabilities-are-those-of-the-pod",
        "with NET_ADMIN and SYS_ADMIN the pod's own network and mounts can be changed, and nothing of the host's",
        """
hostUsers: false
restartPolicy: Never
containers:
- {c: c, securityContext: {capabilities: {add: [SYS_ADMIN, NET_ADMIN]}},
   command: [sh, -c, 'ip link set lo down && echo down; mount -t tmpfs none /mnt && echo mounted;
     hostname changed && hostname; echo 1 2>/dev/null > /proc/sys/kernel/panic || echo refused;
     mknod /sda b 8 0 2>/dev/null || echo no device']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "down\nmounted\nchanged\nrefused\nno device\n"},
    ),
    Behaviour(
        "procMount-Unmasked",
        "only for pods with users of their own: nothing of /proc is hidden or read-only",
        """
hostUsers: false
restartPolicy: Never
containers:
- {c: c, securityContext: {procMount: Unmasked}, command: [sh, -c, 'grep -c " /proc/" /proc/self/mountinfo']}
- {c: d, command: [sh, -c, 'test $(grep -c " /proc/" /proc/self/mountinfo) -gt 3 && echo masked']}
""",
        logs={"c": "0\n", "d": "masked\n"},
    ),
    Behaviour(
        "sysctls-and-shared-processes",
        "the pod's ipc, net and pid namespaces belong to its users too",
        """
hostUsers: false
restartPolicy: Never
shareProcessNamespace: true
securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"},
                            {name: net.ipv4.ping_group_range, value: "0 5"}]}
containers:
- {c: c, command: [sh, -c, 'cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ping_group_range;
     tr "\\\\0" " " < /proc/1/cmdline; ps -e | wc -l | grep -q "[3-9]" && echo shared']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "1\n0\t5\npodlite: pause *shared\n"},
    ),
]


@pytest.fixture(autouse=True, scope="module")
def user_namespaces() -> None:
    """Both are needed; a container that runs the tests may have neither."""
    missing = {
        each: why for each, why in probe.probe().items() if each in ("user namespaces", "id-mapped mounts") and why
    }
    if missing:
        pytest.skip(f"this machine cannot do it: {missing}")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_users(networked: Kubelet, row: Behaviour) -> None:
    await check(networked, row)


async def test_pods_have_different_ids_on_the_host(kubelet: Kubelet) -> None:
    """Ranges are allocated in blocks of 65536 above those of the host, and kept for as long as the pod is there."""
    firsts = []
    for name in ("one", "two"):
        [pod] = load("hostUsers: false\ncontainers: [{c: c, command: [sleep, '1000']}]", name=name).pods
        uid = (await kubelet.add_pod(pod)).metadata.uid
        await reached(kubelet, uid, {"phase": "Running"})
        [container] = kubelet.runtime_status(uid).running_containers()
        status = await kubelet.runtime.container_status(container.id)
        assert status.user is not None
        pids = await pids_of(kubelet, uid)
        with open(f"/proc/{pids[0]}/uid_map") as file:
            firsts.append(int(file.read().split()[1]))
        assert os.stat(f"/proc/{pids[0]}").st_uid == firsts[-1]
    assert firsts[0] != firsts[1]
    assert all(first >= 65536 and first % 65536 == 0 for first in firsts)


async def pids_of(kubelet: Kubelet, uid: str) -> list[int]:
    """The processes of a pod's containers, by their cgroup."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cgroup") as file, open(f"/proc/{name}/cmdline") as command:
                    if uid in file.read() and "sleep" in command.read():
                        found.append(int(name))
            except OSError:
                continue
    assert found, "no cgroups here to know the pod's processes by" if kubelet else ""
    return found


async def test_exec_terminals_and_debugging(kubelet: Kubelet) -> None:
    """What joins a pod with users of its own is one of these users."""
    [pod] = load("""
hostUsers: false
containers: [{c: c, stdin: true, tty: true, securityContext: {runAsUser: 7}, command: [sh, -c, 'tty; sleep 1000']}]
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await reached(kubelet, uid, {"phase": "Running"})
    with anyio.fail_after(60):
        while "/dev/pts/0" not in await log_of(kubelet, pod, "c"):
            await anyio.sleep(0.02)
    for tty in (False, True):
        command = ["sh", "-c", "id -u; cat /proc/self/uid_map; stat -Lc %u /proc/self/fd/1"]
        async with await kubelet.streams.exec(
            pod, "c", command, tty=tty, stdin=False, stdout=True, stderr=False
        ) as stream:
            assert stream.stdout is not None
            said = b"".join([each async for each in stream.stdout]).decode().replace("\r", "")
            assert await stream.wait() == 0
        assert re.fullmatch(rf"7\n{MAP}7\n", said), said
    debug = EphemeralContainer(
        name="debug",
        image=HOST_IMAGE,
        command=["sh", "-c", "cat /proc/self/uid_map; tr '\\0' ' ' < /proc/1/cmdline"],
        target_container_name="c",
        image_pull_policy="IfNotPresent",
        termination_message_path="/dev/termination-log",
    )
    await kubelet.add_ephemeral_container(uid, debug)
    pod = await reached(kubelet, uid, {"ephemeralContainerStatuses[debug].state.terminated": ...})
    assert re.fullmatch(MAP + "sh -c tty; sleep 1000 ", await log_of(kubelet, pod, "debug"))


async def test_a_container_that_is_started_again(kubelet: Kubelet) -> None:
    """In the same sandbox, with the same ids; what it wrote to a volume is still its own."""
    [pod] = load("""
hostUsers: false
restartPolicy: OnFailure
volumes: [{name: v, emptyDir: {}}]
containers:
- {c: c, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'test -e /v/map && { cmp /v/map /proc/self/uid_map && stat -c %u /v/map; exit; };
      cat /proc/self/uid_map > /v/map; exit 1']}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await ended(kubelet, uid)
    assert pod.status.phase == "Succeeded"
    assert await log_of(kubelet, pod, "c") == "0\n"
