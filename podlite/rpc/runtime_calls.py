"""runtime.v1.RuntimeService on the wire: each call's request taken apart, and its answer put together.

A method per call, by its name in snake case; `podlite.rpc.server` finds them by the .proto.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from podlite.cri import stats as cri_stats
from podlite.cri import types as cri
from podlite.cri.errors import FailedPreconditionError, InvalidArgumentError
from podlite.rpc.translate import from_wire, resources, to_dict, to_wire
from podlite.rpc.wire import runtime_pb2 as wire

if TYPE_CHECKING:
    from podlite.cri.services import RuntimeService
    from podlite.rpc.streaming.server import StreamingServer

# What ExecSync may answer with, both streams together: clients receive 16 MiB at the most (cri-client, kubelet).
EXEC_SYNC_LIMIT = (16 << 20) - 4096
# Objects in one message of the streaming lists, so that it stays well below that.
PAGE = 500


class RuntimeCalls:
    """The calls, in front of one runtime; exec, attach and port-forward are answered with URLs of `streaming`."""

    def __init__(self, runtime: RuntimeService, streaming: StreamingServer) -> None:
        self._runtime = runtime
        self._streaming = streaming

    # --- the runtime itself -----------------------------------------------------------------------

    async def version(self, request: Any) -> Any:
        return to_wire(await self._runtime.version())

    async def status(self, request: Any) -> Any:
        return to_wire(await self._runtime.status(verbose=request.verbose))

    async def runtime_config(self, request: Any) -> Any:
        return to_wire(await self._runtime.runtime_config())

    async def update_runtime_config(self, request: Any) -> Any:
        await self._runtime.update_runtime_config(from_wire(cri.RuntimeConfig, request.runtime_config))
        return wire.UpdateRuntimeConfigResponse()

    # --- sandboxes --------------------------------------------------------------------------------

    async def run_pod_sandbox(self, request: Any) -> Any:
        config = from_wire(cri.PodSandboxConfig, request.config)
        if request.runtime_handler:
            known = [each.name for each in (await self._runtime.status()).runtime_handlers]
            if request.runtime_handler not in known:
                raise InvalidArgumentError(f"this runtime has no handler {request.runtime_handler!r}")
        id = await self._runtime.run_pod_sandbox(config, request.runtime_handler)
        return wire.RunPodSandboxResponse(pod_sandbox_id=id)

    async def stop_pod_sandbox(self, request: Any) -> Any:
        await self._runtime.stop_pod_sandbox(_id(request.pod_sandbox_id, "sandbox"))
        return wire.StopPodSandboxResponse()

    async def remove_pod_sandbox(self, request: Any) -> Any:
        await self._runtime.remove_pod_sandbox(_id(request.pod_sandbox_id, "sandbox"))
        return wire.RemovePodSandboxResponse()

    async def pod_sandbox_status(self, request: Any) -> Any:
        status = await self._runtime.pod_sandbox_status(request.pod_sandbox_id, verbose=request.verbose)
        # No timestamp: to a kubelet that listens to events (EventedPLEG) one says that the containers' statuses are
        # in the answer too, and so that a pod without them has none. Without one it asks for each, as others do.
        return wire.PodSandboxStatusResponse(status=to_dict(status), info=status.info)

    async def list_pod_sandbox(self, request: Any) -> Any:
        found = await self._runtime.list_pod_sandbox(from_wire(cri.PodSandboxFilter, request.filter))
        return wire.ListPodSandboxResponse(items=[to_dict(each) for each in found])

    async def stream_pod_sandboxes(self, request: Any) -> AsyncIterator[Any]:
        for page in _pages(await self._runtime.list_pod_sandbox(from_wire(cri.PodSandboxFilter, request.filter))):
            yield wire.StreamPodSandboxesResponse(pod_sandboxes=page)

    async def update_pod_sandbox_resources(self, request: Any) -> Any:
        await self._runtime.update_pod_sandbox_resources(
            request.pod_sandbox_id,
            resources(request.overhead) if request.HasField("overhead") else None,
            resources(request.resources) if request.HasField("resources") else None,
        )
        return wire.UpdatePodSandboxResourcesResponse()

    # --- containers -------------------------------------------------------------------------------

    async def create_container(self, request: Any) -> Any:
        config = from_wire(cri.ContainerConfig, request.config)
        sandbox_config = from_wire(cri.PodSandboxConfig, request.sandbox_config)
        id = await self._runtime.create_container(_id(request.pod_sandbox_id, "sandbox"), config, sandbox_config)
        return wire.CreateContainerResponse(container_id=id)

    async def start_container(self, request: Any) -> Any:
        await self._runtime.start_container(request.container_id)
        return wire.StartContainerResponse()

    async def stop_container(self, request: Any) -> Any:
        await self._runtime.stop_container(_id(request.container_id, "container"), request.timeout)
        return wire.StopContainerResponse()

    async def remove_container(self, request: Any) -> Any:
        await self._runtime.remove_container(_id(request.container_id, "container"))
        return wire.RemoveContainerResponse()

    async def list_containers(self, request: Any) -> Any:
        found = await self._runtime.list_containers(from_wire(cri.ContainerFilter, request.filter))
        return wire.ListContainersResponse(containers=[to_dict(each) for each in found])

    async def stream_containers(self, request: Any) -> AsyncIterator[Any]:
        for page in _pages(await self._runtime.list_containers(from_wire(cri.ContainerFilter, request.filter))):
            yield wire.StreamContainersResponse(containers=page)

    async def container_status(self, request: Any) -> Any:
        status = await self._runtime.container_status(request.container_id, verbose=request.verbose)
        return wire.ContainerStatusResponse(status=to_dict(status), info=status.info)

    async def update_container_resources(self, request: Any) -> Any:
        await self._runtime.update_container_resources(request.container_id, resources(request.linux))
        return wire.UpdateContainerResourcesResponse()

    async def reopen_container_log(self, request: Any) -> Any:
        await self._runtime.reopen_container_log(request.container_id)
        return wire.ReopenContainerLogResponse()

    async def checkpoint_container(self, request: Any) -> Any:
        await self._runtime.checkpoint_container(request.container_id, request.location, request.timeout)
        return wire.CheckpointContainerResponse()

    # --- execs and streams ------------------------------------------------------------------------

    async def exec_sync(self, request: Any) -> Any:
        result = await self._runtime.exec_sync(request.container_id, list(request.cmd), request.timeout)
        # What is too much is discarded, with no error (api.proto on ExecSyncResponse, CVE-2022-1708).
        stdout = result.stdout[:EXEC_SYNC_LIMIT]
        stderr = result.stderr[: EXEC_SYNC_LIMIT - len(stdout)]
        return wire.ExecSyncResponse(stdout=stdout, stderr=stderr, exit_code=result.exit_code)

    async def exec(self, request: Any) -> Any:
        _check_streams(request)
        if not request.cmd:
            raise InvalidArgumentError("there is no command to execute")
        await self._check_running(request.container_id)
        return wire.ExecResponse(url=self._streaming.exec_url(request))

    async def attach(self, request: Any) -> Any:
        _check_streams(request)
        await self._check_running(request.container_id)
        return wire.AttachResponse(url=self._streaming.attach_url(request))

    async def port_forward(self, request: Any) -> Any:
        status = await self._runtime.pod_sandbox_status(request.pod_sandbox_id)
        if status.state != cri.PodSandboxState.SANDBOX_READY:
            raise FailedPreconditionError(f"sandbox {status.id} is not ready")
        return wire.PortForwardResponse(url=self._streaming.port_forward_url(request))

    async def _check_running(self, container_id: str) -> None:
        status = await self._runtime.container_status(container_id)
        if status.state != cri.ContainerState.CONTAINER_RUNNING:
            raise FailedPreconditionError(f"container {status.id} is not running: {status.state.name}")

    # --- stats, metrics, events -------------------------------------------------------------------

    async def container_stats(self, request: Any) -> Any:
        return wire.ContainerStatsResponse(stats=to_dict(await self._runtime.container_stats(request.container_id)))

    async def list_container_stats(self, request: Any) -> Any:
        found = await self._runtime.list_container_stats(from_wire(cri_stats.ContainerStatsFilter, request.filter))
        return wire.ListContainerStatsResponse(stats=[to_dict(each) for each in found])

    async def stream_container_stats(self, request: Any) -> AsyncIterator[Any]:
        filter = from_wire(cri_stats.ContainerStatsFilter, request.filter)
        for page in _pages(await self._runtime.list_container_stats(filter)):
            yield wire.StreamContainerStatsResponse(container_stats=page)

    async def pod_sandbox_stats(self, request: Any) -> Any:
        stats = await self._runtime.pod_sandbox_stats(request.pod_sandbox_id)
        return wire.PodSandboxStatsResponse(stats=to_dict(stats))

    async def list_pod_sandbox_stats(self, request: Any) -> Any:
        filter = from_wire(cri_stats.PodSandboxStatsFilter, request.filter)
        found = await self._runtime.list_pod_sandbox_stats(filter)
        return wire.ListPodSandboxStatsResponse(stats=[to_dict(each) for each in found])

    async def stream_pod_sandbox_stats(self, request: Any) -> AsyncIterator[Any]:
        filter = from_wire(cri_stats.PodSandboxStatsFilter, request.filter)
        for page in _pages(await self._runtime.list_pod_sandbox_stats(filter)):
            yield wire.StreamPodSandboxStatsResponse(pod_sandbox_stats=page)

    async def list_metric_descriptors(self, request: Any) -> Any:
        found = await self._runtime.list_metric_descriptors()
        return wire.ListMetricDescriptorsResponse(descriptors=[to_dict(each) for each in found])

    async def list_pod_sandbox_metrics(self, request: Any) -> Any:
        found = await self._runtime.list_pod_sandbox_metrics()
        return wire.ListPodSandboxMetricsResponse(pod_metrics=[to_dict(each) for each in found])

    async def stream_pod_sandbox_metrics(self, request: Any) -> AsyncIterator[Any]:
        for page in _pages(await self._runtime.list_pod_sandbox_metrics()):
            yield wire.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=page)

    async def get_container_events(self, request: Any) -> AsyncIterator[Any]:
        async with self._runtime.get_container_events() as events:
            yield None  # subscribed: no event after this is missed
            async for event in events:
                yield to_wire(event)


def _id(text: str, kind: str) -> str:
    """Stopping and removing what is unknown succeeds, but an empty id is a mistake of the caller's."""
    if not text:
        raise InvalidArgumentError(f"the request has no {kind} id")
    return text


def _check_streams(request: Any) -> None:
    """The rules of ExecRequest and AttachRequest in api.proto."""
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidArgumentError("one of stdin, stdout and stderr must be set")
    if request.tty and request.stderr:
        raise InvalidArgumentError("tty and stderr cannot both be set")


def _pages(items: list[Any]) -> list[list[Any]]:
    """At least one page: an empty list is an answer too."""
    return [[to_dict(each) for each in items[start : start + PAGE]] for start in range(0, max(1, len(items)), PAGE)]
