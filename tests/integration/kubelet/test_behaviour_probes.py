"""Probes of real containers over real networks, and what they do to the pod.

Sources: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/,
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-probes and #pod-readiness-gate, pkg/probe
and pkg/kubelet/prober for texts. What depends on time is in tests/unit/kubelet/test_kubelet_prober.py, on a clock that
stands still.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from podlite.api.status import PodCondition
from podlite.kubelet.kubelet import Kubelet
from tests.support.behaviours import Behaviour, check, load, log_of, reached, told
from tests.support.pod_server import server_command

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def served(probes: str, **spec: str) -> str:
    """A pod with the server of tests.support.pod_server, and probes."""
    more = "".join(f"{key}: {value}\n" for key, value in spec.items())
    return f"""
terminationGracePeriodSeconds: 1
{more}containers:
- {{c: c, command: {server_command()}, ports: [{{containerPort: 8080, name: web}}],
   {probes}}}
"""


def ready(path: str, port: str = "8080", more: str = "") -> str:
    return f"readinessProbe: {{periodSeconds: 1, httpGet: {{path: {path}, port: {port}{more}}}}}"


READY = {"conditions[Ready].status": "True"}
TABLE = [
    Behaviour(
        "a-named-port",
        "httpGet.port is a number or the name of a port of the container",
        ready("/ok", "web"),
        until=READY,
        status={
            "phase": "Running",
            "containerStatuses[c].ready": True,
            "containerStatuses[c].started": True,
            "conditions[ContainersReady].status": "True",
        },
    ),
    Behaviour(
        "headers",
        "httpHeaders are sent",
        ready("/header", more=", httpHeaders: [{name: X-Custom-Header, value: Awesome}]"),
        until=READY,
    ),
    Behaviour(
        "a-redirect-on-the-same-host",
        "pkg/probe/http: followed",
        ready("/to/ok"),
        until=READY,
        absent=("ProbeWarning",),
    ),
    Behaviour(
        "a-redirect-elsewhere",
        "pkg/probe/http: not followed, a warning, and success",
        ready("/away"),
        until=READY,
        events=("Warning ProbeWarning Readiness probe warning: Probe terminated redirects, Response body: gone away",),
    ),
    Behaviour(
        "a-status-that-is-none",
        "200 to 399 is success",
        ready("/status/399"),
        until=READY,
    ),
    Behaviour(
        "a-bad-status",
        "anything else is failure, and the pod is not ready",
        ready("/status/503"),
        until={"phase": "Running", "conditions[Ready].status": "False"},
        status={
            "conditions[Ready].reason": "ContainersNotReady",
            "conditions[Ready].message": "containers with unready status: [c]",
            "containerStatuses[c].ready": False,
            "containerStatuses[c].started": True,
        },
        events=("Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 503",),
    ),
    Behaviour(
        "tcpSocket",
        "a connection is success",
        "readinessProbe: {periodSeconds: 1, tcpSocket: {port: web}}",
        until=READY,
    ),
    Behaviour(
        "tcpSocket-where-nobody-listens",
        "pkg/probe/tcp: Go's error",
        "readinessProbe: {periodSeconds: 1, tcpSocket: {port: 9}}",
        until={"phase": "Running"},
        events=(
            r"Warning Unhealthy Readiness probe failed: dial tcp 10\.199\.\d+\.\d+:9: connect: connection refused",
        ),
    ),
    Behaviour(
        "exec",
        "exit code 0 is success, anything else failure with what was printed",
        "readinessProbe: {periodSeconds: 1, exec: {command: [sh, -c, 'echo not yet; exit 1']}}",
        until={"phase": "Running"},
        events=("Warning Unhealthy Readiness probe failed: not yet\n",),
    ),
    Behaviour(
        "exec-that-takes-too-long",
        "timeoutSeconds, 1 by default",
        "readinessProbe: {periodSeconds: 1, exec: {command: [sleep, '1000']}}",
        until={"phase": "Running"},
        events=('Warning Unhealthy Readiness probe failed: .*"?sleep 1000"? timed out.*',),
    ),
    Behaviour(
        "liveness",
        "a failed liveness probe restarts the container, and says so",
        "livenessProbe: {periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1,"
        " httpGet: {path: /status/500, port: 8080}}",
        until={"containerStatuses[c].restartCount": 1, "containerStatuses[c].lastState.terminated": ...},
        events=(
            "Warning Unhealthy Liveness probe failed: HTTP probe failed with statuscode: 500",
            "Normal Killing Container c failed liveness probe, will be restarted",
        ),
    ),
    Behaviour(
        "liveness-without-restart",
        "with restartPolicy Never nothing of the pod is kept (computePodActions): all of it is stopped, and has failed",
        "restartPolicy: Never\nlivenessProbe: {periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1,"
        " httpGet: {path: /status/500, port: 8080}}",
        status={"phase": "Failed", "containerStatuses[c].restartCount": 0},
        events=("Normal Killing Stopping container c",),
    ),
    Behaviour(
        "startup-before-the-others",
        "until the startup probe has succeeded there are no other probes, and the container has not started",
        "startupProbe: {periodSeconds: 1, failureThreshold: 100, exec: {command: [test, -e, /tmp/never]}},"
        " livenessProbe: {periodSeconds: 1, failureThreshold: 1, httpGet: {path: /status/500, port: 8080}},"
        " readinessProbe: {periodSeconds: 1, httpGet: {path: /ok, port: 8080}}",
        until={"phase": "Running", "containerStatuses[c].started": False},
        status={"containerStatuses[c].ready": False, "containerStatuses[c].restartCount": 0},
        events=("Warning Unhealthy Startup probe failed: ",),
        absent=("Killing",),
    ),
    Behaviour(
        "startup-that-fails",
        "the container is killed and subject to the restart policy",
        "startupProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: ['false']}}",
        until={"containerStatuses[c].restartCount": 1},
        events=("Normal Killing Container c failed startup probe, will be restarted",),
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_probes(networked: Kubelet, row: Behaviour) -> None:
    policy, newline, probes = row.manifest.rpartition("\n")
    spec = {"restartPolicy": policy.partition(": ")[2]} if newline else {}
    await check(networked, row._replace(manifest=served(probes, **spec)))


async def test_what_a_server_sees_of_a_probe(networked: Kubelet) -> None:
    """pkg/probe/http: `User-Agent: kube-probe/MAJOR.MINOR`, the pod's address as host."""
    [pod] = load(served(ready("/ok"))).pods
    uid = (await networked.add_pod(pod)).metadata.uid
    pod = await reached(networked, uid, READY)
    async with await networked.streams.exec(
        pod, "c", ["sh", "-c", "busybox wget -qO- http://127.0.0.1:8080/seen || curl -s http://127.0.0.1:8080/seen"],
        tty=False, stdin=False, stdout=True, stderr=False,
    ) as stream:  # fmt: skip
        assert stream.stdout is not None
        said = b"".join([each async for each in stream.stdout]).decode()
    target, agent, host = said.splitlines()[0].split()
    assert target == "/ok"
    assert agent.startswith("kube-probe/1.")
    assert host == f"{pod.status.pod_ip}:8080"


async def test_the_probes_own_grace_period(networked: Kubelet) -> None:
    """ "Probe-level terminationGracePeriodSeconds": it counts for a container that is killed by that probe."""
    [pod] = load("""
terminationGracePeriodSeconds: 3600
containers:
- {c: c, command: [sh, -c, 'trap "" TERM; while :; do sleep 0.1; done'],
   livenessProbe: {periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1, exec: {command: ["false"]}}}
""").pods  # fmt: skip
    uid = (await networked.add_pod(pod)).metadata.uid
    pod = await reached(networked, uid, {"containerStatuses[c].restartCount": 1})
    last = pod.status.container_statuses[0].last_state.terminated
    assert last is not None
    assert last.exit_code == 137


async def test_readiness_comes_and_goes(networked: Kubelet) -> None:
    """The container stays, the conditions follow, and transition times change with them."""
    [pod] = load(served(f"{ready('/sick')}".replace("periodSeconds: 1", "periodSeconds: 1, failureThreshold: 1"))).pods
    uid = (await networked.add_pod(pod)).metadata.uid
    pod = await reached(networked, uid, READY)
    await asks(networked, uid, "/fall")
    pod = await reached(
        networked, uid, {"conditions[Ready].status": "False", "conditions[ContainersReady].status": "False"}
    )
    assert pod.status.container_statuses[0].restart_count == 0
    assert pod.status.phase == "Running"
    await told(networked, uid, ["Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 500"])


async def asks(kubelet: Kubelet, uid: str, path: str) -> None:
    command = ["busybox", "wget", "-qO", "/dev/null", f"http://127.0.0.1:8080{path}"]
    stream = await kubelet.streams.exec(
        kubelet.pod(uid), "c", command, tty=False, stdin=False, stdout=True, stderr=False
    )
    async with stream:
        assert await stream.wait() == 0


async def test_readiness_gates(networked: Kubelet) -> None:
    """pkg/kubelet/status: a gate without its condition, with a false one, with a true one."""
    [pod] = load(
        "readinessGates: [{conditionType: example.com/lb}]\ncontainers: [{c: c, command: [sleep, '1000']}]"
    ).pods
    uid = (await networked.add_pod(pod)).metadata.uid
    pod = await reached(
        networked,
        uid,
        {"conditions[ContainersReady].status": "True", "conditions[Ready].reason": "ReadinessGatesNotReady"},
    )
    condition = next(each for each in pod.status.conditions if each.type == "Ready")
    assert condition.message == 'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
    networked.set_pod_condition(uid, PodCondition(type="example.com/lb", status="False"))
    text = 'the status of pod readiness gate "example.com/lb" is not "True", but False'
    await reached(networked, uid, {"conditions[Ready].message": text})
    networked.set_pod_condition(uid, PodCondition(type="example.com/lb", status="True"))
    await reached(networked, uid, READY)


@pytest.mark.parametrize(
    ("service", "line"),
    [
        ("", None),
        ("sleepy", 'Warning Unhealthy Readiness probe failed: service unhealthy .responded with "NOT_SERVING"."?'),
        ("unknown", r"Warning Unhealthy Readiness probe failed: error: health rpc probe failed: .*code = NotFound.*"),
    ],
)
async def test_grpc(networked: Kubelet, service: str, line: str | None) -> None:
    """The gRPC health checking protocol; the pod is on the host's network, where the test serves."""
    async with grpc_health({"": 1, "sleepy": 2}) as port:
        [pod] = load(
            f"hostNetwork: true\ncontainers:\n- {{c: c, command: [sleep, '1000'],"
            f" readinessProbe: {{periodSeconds: 1, grpc: {{port: {port}, service: '{service}'}}}}}}"
        ).pods
        uid = (await networked.add_pod(pod)).metadata.uid
        if line is None:
            await reached(networked, uid, READY)
        else:
            await told(networked, uid, [line])


@asynccontextmanager
async def grpc_health(services: dict[str, int]) -> AsyncIterator[int]:
    """A server of grpc.health.v1.Health/Check; the port."""
    import grpc.aio

    async def check(request: bytes, context: object) -> bytes:
        name = request[2:].decode()
        if name not in services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")  # type: ignore[attr-defined]
        return bytes((8, services[name]))

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        with anyio.CancelScope(shield=True):
            await server.stop(None)


async def test_sidecars_are_probed_while_the_app_ends(networked: Kubelet) -> None:
    """prober_manager.go, StopLivenessAndStartup: while a pod ends, its app containers are not restarted."""
    [pod] = load("""
terminationGracePeriodSeconds: 4
containers:
- {c: c, command: [sh, -c, 'trap "touch /tmp/ending; sleep 3; echo ended; exit 0" TERM; echo up;
     while :; do sleep 0.1; done'],
   livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [test, "!", -e, /tmp/ending]}}}
""").pods  # fmt: skip
    uid = (await networked.add_pod(pod)).metadata.uid
    await reached(networked, uid, {"phase": "Running"})
    await until_said(networked, uid, "up")
    await networked.stop_pod(uid)
    with anyio.fail_after(60):
        pod = await networked.wait_terminated(uid)
    assert await log_of(networked, pod, "c") == "up\nended\n"
    assert pod.status.container_statuses[0].restart_count == 0


async def until_said(kubelet: Kubelet, uid: str, text: str) -> None:
    with anyio.fail_after(60):
        while text not in await log_of(kubelet, kubelet.pod(uid), "c"):
            await anyio.sleep(0.02)
