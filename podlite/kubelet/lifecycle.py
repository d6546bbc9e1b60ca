"""postStart and preStop handlers.

Source: pkg/kubelet/lifecycle/handlers.go, Kubernetes 1.36. tcpSocket is deprecated as a handler: the API accepts it,
and running it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.gotext import quote
from podlite.cri.errors import CRIError
from podlite.kubelet.clock import SystemClock
from podlite.kubelet.labels import POD_UID, format_pod
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.probes import HTTPGetAction, LifecycleHandler
    from podlite.cri.services import RuntimeService
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.prober.http_request import Request

    # Records an event of the pod: its type, reason and message.
    Record = Callable[[str, str, str], None]


class HookError(KubeletError):
    """A handler failed. The message may hold what a command printed: it is not for events."""

    reason = "PostStartHookError"


async def run_handler(
    runtime: RuntimeService,
    container_id: str,
    pod: Pod,
    container: Container,
    handler: LifecycleHandler,
    *,
    clock: Clock | None = None,
    pod_ips: Sequence[str] | None = None,
    record: Record | None = None,
) -> None:
    """Runs a handler in, or against, a running container; there is no time limit but the caller's.

    Without `pod_ips` the runtime is asked for the pod's address where it is needed. Raises HookError with the
    kubelet's message. May be cancelled: a command that is running then is killed by the runtime.
    """
    about = f'for Container "{container.name}" in Pod "{format_pod(pod)}" failed - error'
    if handler.exec is not None:
        await _run_command(runtime, container_id, handler.exec.command, about)
    elif handler.http_get is not None:
        try:
            await _request(runtime, pod, container, handler.http_get, pod_ips, record)
        except HookError as error:
            raise HookError(f"HTTP lifecycle hook ({handler.http_get.path}) {about}: {error.message}") from error
    elif handler.sleep is not None:
        await (clock or SystemClock()).sleep(handler.sleep.seconds)
    else:
        raise HookError(
            "Cannot run handler: invalid handler: a tcpSocket or empty handler cannot be run",
            hint="use exec or httpGet",
        )


async def _run_command(runtime: RuntimeService, container_id: str, command: list[str], about: str) -> None:
    shown = " ".join(command)
    what = f"Exec lifecycle hook ([{shown}]) {about}"
    try:
        result = await runtime.exec_sync(container_id, command, 0)
    except CRIError as error:
        raise HookError(f'{what}: {error.message}, message: ""') from error
    if result.exit_code != 0:
        errors = result.stderr.decode("utf-8", "replace")
        output = (result.stdout + result.stderr).decode("utf-8", "replace")
        raise HookError(f"{what}: command '{shown}' exited with {result.exit_code}: {errors}, message: {quote(output)}")


async def _request(
    runtime: RuntimeService,
    pod: Pod,
    container: Container,
    action: HTTPGetAction,
    pod_ips: Sequence[str] | None,
    record: Record | None,
) -> None:
    """Any answer will do, whatever its status. An HTTPS server that speaks HTTP is asked again in HTTP."""
    from podlite.kubelet.prober.http_client import RequestFailedError
    from podlite.kubelet.prober.http_probe import get
    from podlite.kubelet.prober.http_request import BadProbeError, make_request

    host = action.host
    if not host:
        found = pod_ips if pod_ips is not None else await _pod_ips(runtime, pod)
        if not found:
            raise HookError("failed to find networking container: the pod has no address")
        host = found[0]
    try:
        request = make_request(action, container, host, "lifecycle")
    except BadProbeError as error:
        raise HookError(str(error)) from error
    try:
        await get(request)
    except RequestFailedError as error:
        if not request.tls or "server gave HTTP response to HTTPS client" not in str(error):
            raise HookError(str(error)) from error
        await _request_again(request, error, record)


async def _request_again(request: Request, first: Exception, record: Record | None) -> None:
    from podlite.kubelet.prober.http_client import RequestFailedError, endpoint
    from podlite.kubelet.prober.http_probe import get
    from podlite.kubelet.prober.http_request import build

    plain = build(
        tls=False,
        host=request.host,
        port=request.port,
        target=request.target,
        # What was meant for an encrypted connection stays out of this one.
        headers=tuple(header for header in request.headers if header[0] != "Authorization"),
        own_host_header=request.own_host_header,
    )
    try:
        await get(plain)
    except RequestFailedError:
        raise HookError(str(first)) from first
    if record is not None:
        place = endpoint(request.host, request.port)
        record(
            "Warning",
            "LifecycleHTTPFallback",
            f"request to HTTPS lifecycle hook {place} got HTTP response, retry with HTTP succeeded",
        )


async def _pod_ips(runtime: RuntimeService, pod: Pod) -> list[str]:
    """The addresses of the pod's newest sandbox; those of its status for one with the host's network."""
    from podlite.cri.types import PodSandboxFilter, PodSandboxState

    if pod.spec.host_network:
        return [each.ip for each in pod.status.pod_ips] or [each for each in (pod.status.host_ip,) if each]
    ready = PodSandboxFilter(state=PodSandboxState.SANDBOX_READY, label_selector={POD_UID: pod.metadata.uid})
    try:
        sandboxes = await runtime.list_pod_sandbox(ready)
        if not sandboxes:
            return []
        newest = max(sandboxes, key=lambda each: each.metadata.attempt)
        status = await runtime.pod_sandbox_status(newest.id)
    except CRIError as error:
        raise HookError(f"unable to get pod status, event handlers may be invalid: {error.message}") from error
    network = status.network
    return [] if network is None else [each for each in (network.ip, *network.additional_ips) if each]
