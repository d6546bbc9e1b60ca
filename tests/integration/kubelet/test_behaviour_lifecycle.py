"""Starts, ends and restarts: hooks, sidecars, restart policies, signals, messages, standard input.

Sources: https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/,
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/, .../sidecar-containers/,
https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/, pkg/kubelet/kuberuntime.
"""

from __future__ import annotations

import os

import anyio
import pytest

from podlite.kubelet.kubelet import Kubelet
from tests.support.behaviours import Behaviour, check, ended, load, log_of, reached, told
from tests.support.pod_server import server_command

pytestmark = [pytest.mark.root, pytest.mark.anyio]

# Writes down what happens, in a volume that all containers share.
SHARED = "volumes: [{name: v, emptyDir: {}}]"
MOUNT = "volumeMounts: [{name: v, mountPath: /v}]"
ON_TERM = "trap 'echo {0} >> /v/order; exit 0' TERM; echo up; while :; do sleep 0.02; done"

TABLE = [
    Behaviour(
        "postStart-that-fails",
        "the container is killed, and started again by its policy; the message stays out of the event",
        """
terminationGracePeriodSeconds: 1
containers:
- {c: c, command: [sleep, "1000"], lifecycle: {postStart: {exec: {command: [sh, -c, 'echo secret; exit 3']}}}}
""",
        until={
            "containerStatuses[c].restartCount": 1,
            "containerStatuses[c].lastState.terminated.exitCode": 137,
        },
        events=(
            "Warning FailedPostStartHook PostStartHook failed",
            "Normal Killing FailedPostStartHook",
        ),
    ),
    Behaviour(
        "postStart-runs-beside-the-container",
        "there is no order between hook and entrypoint, but the pod goes on only when the hook has ended",
        f"""
restartPolicy: Never
{SHARED}
containers:
- {{c: a, {MOUNT}, command: [sh, -c, 'while [ ! -e /v/hook ]; do sleep 0.02; done; echo a >> /v/order'],
   lifecycle: {{postStart: {{exec: {{command: [sh, -c, 'sleep 0.2; touch /v/hook; echo hook >> /v/order']}}}}}}}}
- {{c: b, {MOUNT}, command: [sh, -c, 'head -1 /v/order']}}
""",
        status={"phase": "Succeeded"},
        logs={"b": "hook\n"},
    ),
    Behaviour(
        "a-hook-by-tcpSocket",
        "deprecated: accepted by the API, and it fails at run time",
        """
terminationGracePeriodSeconds: 1
containers:
- {c: c, command: [sleep, "1000"], lifecycle: {postStart: {tcpSocket: {port: 80}}}}
""",
        until={"containerStatuses[c].restartCount": 1},
        events=("Warning FailedPostStartHook PostStartHook failed",),
    ),
    Behaviour(
        "termination-messages",
        "a file of any path; 12 KiB shared by the containers; the log if the file is empty and the container failed",
        """
restartPolicy: Never
containers:
- {c: file, terminationMessagePath: /tmp/said, command: [sh, -c, 'printf because > /tmp/said; exit 1']}
- {c: long, command: [sh, -c, 'head -c 10000 /dev/zero | tr "\\\\0" x > /dev/termination-log']}
- {c: log, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo from the log; exit 1']}
- {c: fine, terminationMessagePolicy: FallbackToLogsOnError, command: [echo, not this]}
""",
        status={
            "phase": "Failed",
            "containerStatuses[file].state.terminated.message": "because",
            "containerStatuses[long].state.terminated.message": "x" * 3072,
            "containerStatuses[log].state.terminated.message": "from the log\n",
            "containerStatuses[fine].state.terminated.message": None,
        },
    ),
    Behaviour(
        "restart-policies-of-containers",
        "KEP-5307: a container's own policy goes before the pod's",
        f"""
restartPolicy: Never
{SHARED}
containers:
- {{c: again, restartPolicy: OnFailure, {MOUNT},
   command: [sh, -c, 'test -e /v/again || {{ touch /v/again; exit 1; }}']}}
- {{c: once, {MOUNT}, command: [sh, -c, 'echo once; exit 0']}}
""",
        status={
            "phase": "Succeeded",
            "containerStatuses[again].restartCount": 1,
            "containerStatuses[once].restartCount": 0,
        },
    ),
    Behaviour(
        "an-init-container-that-fails",
        "with restartPolicy Never the pod has failed, and no app container is started",
        """
restartPolicy: Never
initContainers: [{c: i, command: [sh, -c, 'exit 5']}]
containers: [{c: c, command: ["true"]}]
""",
        status={
            "phase": "Failed",
            "initContainerStatuses[i].state.terminated.exitCode": 5,
            "containerStatuses[c].state.waiting.reason": "PodInitializing",
            "conditions[Initialized].status": "False",
            "conditions[Initialized].reason": "ContainersNotInitialized",
            "conditions[Initialized].message": "containers with incomplete status: [i]",
        },
    ),
    Behaviour(
        "an-init-container-that-is-tried-again",
        "with another policy it is started again, and the app waits",
        f"""
restartPolicy: OnFailure
{SHARED}
initContainers: [{{c: i, {MOUNT}, command: [sh, -c, 'test -e /v/x || {{ touch /v/x; exit 1; }}']}}]
containers: [{{c: c, command: ["true"]}}]
""",
        status={"phase": "Succeeded", "initContainerStatuses[i].restartCount": 1},
    ),
    Behaviour(
        "crash-loop",
        "a container that ends again and again waits, as CrashLoopBackOff",
        """
containers: [{c: c, command: ["false"]}]
""",
        until={
            "containerStatuses[c].state.waiting.reason": "CrashLoopBackOff",
            "containerStatuses[c].lastState.terminated.exitCode": 1,
            "phase": "Running",
        },
        events=(r"Warning BackOff Back-off restarting failed container c in pod web_default\(.{36}\)",),
    ),
    Behaviour(
        "a-command-that-is-not-there",
        "StartError, 128, as containerd has it",
        """
restartPolicy: Never
containers: [{c: c, command: [/no/such]}]
""",
        status={
            "phase": "Failed",
            "containerStatuses[c].state.terminated.exitCode": 128,
            "containerStatuses[c].state.terminated.reason": "StartError",
        },
        events=("Normal Created .*", "Warning Failed Error: .*/no/such.*"),
        absent=("Started",),
    ),
    Behaviour(
        "an-image-that-is-not-there",
        "ErrImageNeverPull, and its event",
        """
containers: [{name: c, image: "example.com/none:1", imagePullPolicy: Never}]
""",
        until={"containerStatuses[c].state.waiting.reason": "ErrImageNeverPull"},
        status={
            "phase": "Pending",
            "containerStatuses[c].state.waiting.message": 'Container image "example.com/none:1" is not present with '
            "pull policy of Never",
        },
        events=(
            'Warning ErrImageNeverPull Container image "example.com/none:1" is not present with pull policy of Never',
            "Warning Failed Error: ErrImageNeverPull",
        ),
    ),
    Behaviour(
        "a-deadline",
        "activeDeadlineSeconds: Failed, DeadlineExceeded, whatever the restart policy",
        """
activeDeadlineSeconds: 1
terminationGracePeriodSeconds: 1
containers: [{c: c, command: [sleep, "1000"]}]
""",
        status={
            "phase": "Failed",
            "reason": "DeadlineExceeded",
            "message": "Pod was active on the node longer than the specified deadline",
        },
        events=("Normal DeadlineExceeded Pod was active on the node longer than the specified deadline",),
    ),
    Behaviour(
        "stopSignal",
        "KEP-4960: the container's own stop signal, shown in its status; it needs spec.os.name",
        f"""
restartPolicy: Never
os: {{name: linux}}
activeDeadlineSeconds: 1
{SHARED}
containers:
- {{c: c, {MOUNT}, lifecycle: {{stopSignal: SIGUSR1}},
   command: [sh, -c, 'trap "echo usr1; exit 0" USR1; trap "echo term" TERM; while :; do sleep 0.02; done']}}
""",
        status={"containerStatuses[c].stopSignal": "SIGUSR1", "containerStatuses[c].state.terminated.exitCode": 0},
        logs={"c": "usr1\n"},
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_lifecycle(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)


class Order:
    """The lines that a pod's containers have written to /v/order, in a file that is held open."""

    def __init__(self, kubelet: Kubelet, uid: str) -> None:
        path = f"{kubelet.config.state_dir}/pods/{uid}/volumes/kubernetes.io~empty-dir/v/order"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def lines(self) -> list[str]:
        try:
            return os.pread(self._fd, 1 << 16, 0).decode().split()
        finally:
            os.close(self._fd)


async def up(kubelet: Kubelet, uid: str, *names: str) -> None:
    """Returns when each of these containers has said `up`."""
    with anyio.fail_after(60):
        for name in names:
            while "up\n" not in await log_of(kubelet, kubelet.pod(uid), name):
                await anyio.sleep(0.02)


async def test_preStop_hooks_come_first_and_share_the_grace_period(kubelet: Kubelet) -> None:
    """ "Termination of Pods": the countdown begins before the hook; what it takes is taken from the rest."""
    [pod] = load(f"""
terminationGracePeriodSeconds: 2
{SHARED}
containers:
- {{c: quick, {MOUNT}, command: [sh, -c, "{ON_TERM.format("quick")}"],
   lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo hook >> /v/order']}}}}}}}}
- {{c: slow, {MOUNT}, command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 0.02; done"],
   lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}}}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await up(kubelet, uid, "quick", "slow")
    order = Order(kubelet, uid)
    await kubelet.stop_pod(uid)
    pod = await ended(kubelet, uid)
    assert order.lines() == ["hook", "quick"]
    codes = {
        each.name: each.state.terminated.exit_code for each in pod.status.container_statuses if each.state.terminated
    }
    assert codes == {"quick": 0, "slow": 137}


async def test_a_preStop_hook_that_fails(kubelet: Kubelet) -> None:
    """It is told, and the container is stopped all the same."""
    [pod] = load(f"""
{SHARED}
containers:
- {{c: c, {MOUNT}, command: [sh, -c, "{ON_TERM.format("term")}"],
   lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'exit 9']}}}}}}}}
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await up(kubelet, uid, "c")
    order = Order(kubelet, uid)
    await kubelet.stop_pod(uid)
    await ended(kubelet, uid)
    assert order.lines() == ["term"]
    await told(kubelet, uid, ["Warning FailedPreStopHook PreStopHook failed", "Normal Killing Stopping container c"])


async def test_hooks_by_http(networked: Kubelet) -> None:
    """Both kinds ask the pod's own address; any answer will do."""
    [pod] = load(f"""
terminationGracePeriodSeconds: 2
containers:
- {{c: other, command: {server_command()}}}
- {{c: c, command: [sh, -c, 'sleep 1000'],
   lifecycle: {{postStart: {{httpGet: {{path: /status/404, port: 8080}}}},
               preStop: {{httpGet: {{path: /ok?before, port: 8080}}}}}}}}
""").pods  # fmt: skip
    pod.spec.containers[0].lifecycle = None
    uid = (await networked.add_pod(pod)).metadata.uid
    with anyio.fail_after(60):
        while "serving\n" not in await log_of(networked, networked.pod(uid), "other"):
            await anyio.sleep(0.02)
    await reached(networked, uid, {"containerStatuses[c].state.running": ...})
    with anyio.fail_after(60):
        while "/status/404" not in await log_of(networked, networked.pod(uid), "other"):
            await anyio.sleep(0.02)
    await networked.stop_pod(uid)
    pod = await ended(networked, uid)
    assert "/ok?before\n" in await log_of(networked, pod, "other")


async def test_a_deletion_in_the_middle_of_a_grace_period(kubelet: Kubelet) -> None:
    """ "Forced Pod termination": a shorter grace period takes the place of the longer one."""
    [pod] = load(f"""
terminationGracePeriodSeconds: 3600
{SHARED}
containers: [{{c: c, {MOUNT}, command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 0.02; done"]}}]
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await up(kubelet, uid, "c")
    await kubelet.delete_pod(uid)
    shown = kubelet.pod(uid).metadata
    assert shown.deletion_grace_period_seconds == 3600
    assert shown.deletion_timestamp is not None
    await told(kubelet, uid, ["Normal Killing Stopping container c"])
    await kubelet.delete_pod(uid, 0)
    with anyio.fail_after(60):
        await kubelet.wait_removed(uid)


# --- sidecars -----------------------------------------------------------------------------------------


async def test_a_sidecars_startup_probe_holds_up_the_next(kubelet: Kubelet) -> None:
    """ "Sidecar containers and startup probes": what comes after waits until it has started."""
    [pod] = load(f"""
terminationGracePeriodSeconds: 1
{SHARED}
initContainers:
- {{c: s, restartPolicy: Always, {MOUNT}, command: [sh, -c, 'echo s >> /v/order; sleep 1000'],
   startupProbe: {{periodSeconds: 1, failureThreshold: 100, exec: {{command: [test, -e, /v/go]}}}}}}
- {{c: i, {MOUNT}, command: [sh, -c, 'echo i >> /v/order']}}
containers: [{{c: c, {MOUNT}, command: [sh, -c, 'echo c >> /v/order; sleep 1000']}}]
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await reached(
        kubelet,
        uid,
        {
            "initContainerStatuses[s].state.running": ...,
            "initContainerStatuses[s].started": False,
            "initContainerStatuses[i].state.waiting.reason": "PodInitializing",
            "conditions[Initialized].status": "False",
        },
    )
    order = Order(kubelet, uid)
    await told(kubelet, uid, ["Warning Unhealthy Startup probe failed: "])
    os.close(os.open(f"{kubelet.config.state_dir}/pods/{uid}/volumes/kubernetes.io~empty-dir/v/go", os.O_CREAT))
    await reached(kubelet, uid, {"containerStatuses[c].state.running": ..., "initContainerStatuses[s].started": True})
    await reached(kubelet, uid, {"conditions[Initialized].status": "True", "conditions[Ready].status": "True"})
    with anyio.fail_after(60):
        while len(os.pread(order._fd, 100, 0).split()) < 3:
            await anyio.sleep(0.02)
    assert order.lines() == ["s", "i", "c"]


async def test_a_sidecar_that_ends_is_started_again(kubelet: Kubelet) -> None:
    """Whatever the pod's policy and its own exit code are; and it does not keep the pod from completing."""
    [pod] = load(f"""
restartPolicy: Never
terminationGracePeriodSeconds: 2
{SHARED}
initContainers:
- {{c: s, restartPolicy: Always, {MOUNT},
   command: [sh, -c, 'test -e /v/x && touch /v/y; touch /v/x; test -e /v/y && sleep 1000']}}
containers: [{{c: c, {MOUNT}, command: [sh, -c, 'while [ ! -e /v/y ]; do sleep 0.02; done']}}]
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    pod = await ended(kubelet, uid)
    assert pod.status.phase == "Succeeded"
    assert pod.status.init_container_statuses[0].restart_count == 1


async def test_sidecars_end_in_reverse_with_their_hooks(kubelet: Kubelet) -> None:
    """ "Termination with sidecars": after the app containers, the last one first, each with its preStop hook."""

    def sidecar(name: str) -> str:
        return (
            f'- {{c: {name}, restartPolicy: Always, {MOUNT}, command: [sh, -c, "{ON_TERM.format(name)}"],\n'
            f"   lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo hook-{name} >> /v/hooks']}}}}}}}}"
        )

    [pod] = load(f"""
terminationGracePeriodSeconds: 10
{SHARED}
initContainers:
{sidecar("s1")}
{sidecar("s2")}
containers: [{{c: c, {MOUNT}, command: [sh, -c, "{ON_TERM.format("c")}"]}}]
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await up(kubelet, uid, "s1", "s2", "c")
    order = Order(kubelet, uid)
    await kubelet.stop_pod(uid)
    pod = await ended(kubelet, uid)
    assert order.lines() == ["c", "s2", "s1"]
    assert pod.status.phase == "Succeeded"
    codes = {each.name: each.state.terminated for each in pod.status.init_container_statuses}
    assert {name: state.exit_code for name, state in codes.items() if state} == {"s1": 0, "s2": 0}


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("once", [True, False])
async def test_standard_input(kubelet: Kubelet, once: bool) -> None:
    """stdinOnce: the end of the first client's input is the end of the container's; otherwise it stays open."""
    [pod] = load(
        f"restartPolicy: Never\ncontainers: [{{c: c, stdin: true, stdinOnce: {str(once).lower()},"
        " command: [sh, -c, 'echo up; while read line; do echo got $line; done; echo end']}]"
    ).pods
    uid = (await kubelet.add_pod(pod)).metadata.uid
    await up(kubelet, uid, "c")
    for word in ("one",) if once else ("one", "two"):
        stream = await kubelet.streams.attach(kubelet.pod(uid), "c", stdin=True, stdout=True, stderr=False)
        async with stream:
            assert stream.stdin is not None
            assert stream.stdout is not None
            await stream.stdin.send(f"{word}\n".encode())
            with anyio.fail_after(60):
                assert await stream.stdout.receive() == f"got {word}\n".encode()
            await stream.stdin.aclose()
    if once:
        pod = await ended(kubelet, uid)
        assert await log_of(kubelet, pod, "c") == "up\ngot one\nend\n"
    else:
        assert kubelet.pod(uid).status.container_statuses[0].state.running is not None
        assert await log_of(kubelet, kubelet.pod(uid), "c") == "up\ngot one\ngot two\n"


async def test_a_terminal(kubelet: Kubelet) -> None:
    """tty: the container's streams are one terminal, which can be resized."""
    [pod] = load("""
restartPolicy: Never
containers: [{c: c, stdin: true, tty: true, command: [sh, -c, 'tty; echo up; read line; stty size; echo err >&2']}]
""").pods  # fmt: skip
    uid = (await kubelet.add_pod(pod)).metadata.uid
    with anyio.fail_after(60):
        while "up" not in await log_of(kubelet, kubelet.pod(uid), "c"):
            await anyio.sleep(0.02)
    stream = await kubelet.streams.attach(kubelet.pod(uid), "c", stdin=True, stdout=True, stderr=False)
    async with stream:
        assert stream.stdin is not None
        await stream.resize(100, 30)
        await stream.stdin.send(b"go\n")
        pod = await ended(kubelet, uid)
    said = (await log_of(kubelet, pod, "c")).replace("\r", "")
    assert said == "/dev/pts/0\nup\ngo\n30 100\nerr\n"
