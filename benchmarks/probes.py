"""What probes cost: `python benchmarks/probes.py [--seconds 20]`.

Needs no root. One process answers on loopback; this one probes, with the kubelet's own probe manager and nothing
else, and its CPU time, the kernel's part included, is set against the time that passed. Prints for each case:

    cpu       per cent of one core, in all; of it the share without a single probe is the interpreter's own
    per probe microseconds of CPU time for one request and answer
    late      how long after its time a probe began, median and 99th percentile, in milliseconds

benchmarks/probed_pods.py measures whole pods. The bars: one pod with HTTP liveness and readiness every second, at
most 0.5 % of one core; 300 pods with HTTP liveness and readiness every 10 s, at most 15 % with everything else that a
kubelet does.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import statistics
import time
from typing import Any

import anyio

from podlite.api.container import Container
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.probes import HTTPGetAction, Probe, TCPSocketAction
from podlite.cri.types import ContainerState
from podlite.kubelet.clock import SystemClock
from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus
from podlite.kubelet.prober import manager as prober
from podlite.kubelet.prober.manager import ProbeManager
from podlite.kubelet.prober.worker import Worker

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def serve(listening: socket.socket) -> None:
    """Answers every connection, one after the other, for ever."""
    while True:
        connection, _ = listening.accept()
        try:
            if connection.recv(65536):
                connection.sendall(ANSWER)
        except OSError:
            pass
        connection.close()


def start_server() -> tuple[int, int]:
    """The pid and the port of a process that answers."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port: int = listening.getsockname()[1]
    pid = os.fork()
    if pid == 0:
        try:
            serve(listening)
        finally:
            os._exit(0)
    listening.close()
    return pid, port


def make_pod(number: int, port: int, period: int, action: str) -> Pod:
    def probe() -> Probe:
        probe = Probe(timeout_seconds=1, period_seconds=period, success_threshold=1, failure_threshold=3)
        if action == "tcp":
            probe.tcp_socket = TCPSocketAction(port=port)
        else:
            probe.http_get = HTTPGetAction(path="/healthz", port=port, scheme="HTTP")
        return probe

    container = Container(name="c", liveness_probe=probe(), readiness_probe=probe())
    return Pod(
        metadata=ObjectMeta(name=f"pod-{number}", namespace="default", uid=f"uid-{number}"),
        spec=PodSpec(containers=[container], restart_policy="Always"),
    )


class Meter:
    """Counts probes and how late they begin, from outside of the manager."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._tick = ProbeManager._tick
        meter = self

        def tick(manager: ProbeManager, worker: Worker, now: float) -> None:
            meter.late.append(time.monotonic() - worker.due)
            meter._tick(manager, worker, now)

        prober.ProbeManager._tick = tick  # type: ignore[method-assign]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(pods: int, period: int, action: str, port: int, seconds: float, meter: Meter) -> dict[str, Any]:
    failures: list[str] = []
    async with anyio.create_task_group() as tasks:
        manager = ProbeManager(
            tasks,
            None,  # type: ignore[arg-type]
            SystemClock(),
            lambda *_: None,
            lambda pod, container, type, reason, message: failures.append(message),  # noqa: A006
        )
        for number in range(pods):
            pod = make_pod(number, port, period, action)
            manager.add_pod(pod)
            status = RuntimeContainerStatus(
                id=str(number), name="c", state=ContainerState.CONTAINER_RUNNING, started_at=time.time_ns()
            )
            manager.observe(pod, RuntimePodStatus(uid=pod.metadata.uid, containers=(status,)), ("127.0.0.1",))
            # Pods come one after the other, not all in the same instant.
            await anyio.sleep(period / pods)
        await anyio.sleep(1)
        meter.late.clear()
        cpu, wall = cpu_seconds(), time.monotonic()
        await anyio.sleep(seconds)
        cpu, wall = cpu_seconds() - cpu, time.monotonic() - wall
        late, probes = sorted(meter.late), len(meter.late)
        tasks.cancel_scope.cancel()
    return {
        "cpu %": round(100 * cpu / wall, 3),
        "probes/s": round(probes / wall, 1),
        "per probe µs": round(1e6 * cpu / probes) if probes else 0,
        "late p50 ms": round(1e3 * statistics.median(late), 2) if late else 0,
        "late p99 ms": round(1e3 * late[int(len(late) * 0.99)], 2) if late else 0,
        "failed": len(failures),
    }


async def run(arguments: argparse.Namespace, port: int) -> None:
    meter = Meter()
    for label, pods, period, action in (
        ("no pod", 0, 1, "http"),
        ("1 pod, HTTP every 1 s", 1, 1, "http"),
        ("1 pod, TCP every 1 s", 1, 1, "tcp"),
        ("300 pods, HTTP every 10 s", 300, 10, "http"),
        ("300 pods, HTTP every 1 s", 300, 1, "http"),
    ):
        found = await measure(pods, period, action, port, arguments.seconds, meter)
        print(f"{label:28}", "  ".join(f"{name} {value}" for name, value in found.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20, help="how long each case is measured")
    arguments = parser.parse_args()
    pid, port = start_server()
    try:
        anyio.run(run, arguments, port)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
