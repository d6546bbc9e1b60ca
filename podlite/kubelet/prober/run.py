"""One attempt of a probe, by whichever action it has.

Source: pkg/kubelet/prober/prober.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.labels import format_pod
from podlite.kubelet.prober.outcome import Outcome, ProbeError

if TYPE_CHECKING:
    from podlite.cri.services import RuntimeService
    from podlite.kubelet.prober.worker import Worker

# Of attempts that could not be made, one after the other, before the kubelet says so.
MAX_ATTEMPTS = 3


async def attempt(worker: Worker, runtime: RuntimeService, pod_ip: str) -> Outcome:
    """Asks the container once, or, while that cannot be done, up to three times. Raises ProbeError."""
    for left in range(MAX_ATTEMPTS - 1, -1, -1):
        try:
            return await _attempt(worker, runtime, pod_ip)
        except ProbeError:
            if not left:
                raise
    raise AssertionError("unreachable")


async def _attempt(worker: Worker, runtime: RuntimeService, pod_ip: str) -> Outcome:
    spec, container = worker.spec, worker.container
    timeout = float(spec.timeout_seconds or 1)
    if spec.http_get is not None:
        from podlite.kubelet.prober.http_probe import probe_http
        from podlite.kubelet.prober.http_request import BadProbeError, make_request

        if worker.request is None or worker.request[0] != pod_ip:
            try:
                worker.request = (pod_ip, make_request(spec.http_get, container, pod_ip))
            except BadProbeError as error:
                raise ProbeError(str(error)) from error
        return await probe_http(worker.request[1], timeout)
    if spec.exec is not None:
        from podlite.kubelet.expansion import expand_all, static_variables
        from podlite.kubelet.prober.exec_probe import probe_exec

        command = expand_all(spec.exec.command, static_variables(container.env))
        return await probe_exec(runtime, worker.container_id, command, timeout)
    if spec.tcp_socket is not None:
        from podlite.kubelet.prober.http_request import BadProbeError, resolve_port
        from podlite.kubelet.prober.tcp_probe import probe_tcp

        try:
            port = resolve_port(spec.tcp_socket.port, container)
        except BadProbeError as error:
            raise ProbeError(str(error)) from error
        return await probe_tcp(spec.tcp_socket.host or pod_ip, port, timeout)
    if spec.grpc is not None:
        from podlite.kubelet.prober.grpc_probe import probe_grpc

        return await probe_grpc(pod_ip, spec.grpc.port, spec.grpc.service or "", timeout)
    raise ProbeError(f"missing probe handler for {format_pod(worker.pod)}:{container.name}")
