"""Another CRI runtime, driven: `podlite.cri.services` over gRPC, for containerd, CRI-O, or podlite itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import grpc
import grpc.aio
from anyio.abc import ByteStream, TaskGroup
from google.protobuf.message_factory import GetMessageClass

from podlite.cri import types as cri
from podlite.cri.errors import CRIError, DeadlineExceededError, ImageError, NotFoundError, UnavailableError
from podlite.rpc.codes import cri_error, no_answer
from podlite.rpc.server import MAX_MESSAGE
from podlite.rpc.streaming.dial import RemoteExec, dial_command, dial_port
from podlite.rpc.translate import from_wire, to_dict, to_wire
from podlite.rpc.wire import runtime_pb2 as wire

if TYPE_CHECKING:
    from podlite.cri import stats as cri_stats

# The kubelet's: runtimeRequestTimeout is 2 minutes, and RunPodSandbox has twice that. Pulls have no limit.
CALL_SECONDS = 120.0
SANDBOX_SECONDS = 240.0
# Beyond the time that the process itself has, for the runtime to say so.
_MARGIN_SECONDS = 10.0
_SUBSCRIBE_SECONDS = 0.2

# grpc's own reconnection waits up to two minutes; a runtime that was restarted is there again sooner.
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE * 2),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3000),
)


class RemoteRuntime:
    """Implements `RuntimeService`; `images` implements `ImageService`. Open it as an async context manager: inside
    it there is a connection, and a task for each stream that is open."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is a socket's path, or `unix:///path`."""
        self.endpoint = endpoint if endpoint.startswith("unix:") else f"unix://{endpoint}"
        self.images = RemoteImages(self)
        self._methods: dict[str, Any] = {}
        self._channel: Any = None
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> RemoteRuntime:
        self._channel = grpc.aio.insecure_channel(self.endpoint, options=_OPTIONS)
        for service in wire.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                make = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
                self._methods[method.name] = make(
                    f"/{service.full_name}/{method.name}",
                    request_serializer=GetMessageClass(method.input_type).SerializeToString,
                    response_deserializer=GetMessageClass(method.output_type).FromString,
                )
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            with anyio.CancelScope(shield=True):
                await self._channel.close()

    async def call(self, name: str, request: Any, timeout: float | None = CALL_SECONDS) -> Any:
        """One call of either service. Raises CRIError."""
        try:
            return await self._methods[name](request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        except asyncio.CancelledError:
            # grpc's own, which no cancel scope would take for its cancellation: whose it is raises one here.
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise

    def _error(self, error: Any) -> CRIError:
        details = str(error.details() or "")
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return no_answer(self.endpoint, details)
        return cri_error(error.code(), details)

    async def wait_ready(self, seconds: float) -> cri.VersionResponse:
        """Waits until the runtime answers. Raises UnavailableError after that time."""
        with anyio.move_on_after(seconds):
            while True:
                try:
                    return await self.version()
                except UnavailableError:
                    await anyio.sleep(0.1)
        return await self.version()

    # --- RuntimeService -------------------------------------------------------------------------

    async def version(self) -> cri.VersionResponse:
        return from_wire(cri.VersionResponse, await self.call("Version", wire.VersionRequest(version="0.1.0")))

    async def status(self, *, verbose: bool = False) -> cri.RuntimeStatus:
        return from_wire(cri.RuntimeStatus, await self.call("Status", wire.StatusRequest(verbose=verbose)))

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, runtime_handler: str = "") -> str:
        request = wire.RunPodSandboxRequest(config=to_dict(config), runtime_handler=runtime_handler)
        return str((await self.call("RunPodSandbox", request, SANDBOX_SECONDS)).pod_sandbox_id)

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await self._unless_gone("StopPodSandbox", wire.StopPodSandboxRequest(pod_sandbox_id=pod_sandbox_id))

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await self._unless_gone("RemovePodSandbox", wire.RemovePodSandboxRequest(pod_sandbox_id=pod_sandbox_id))

    async def _unless_gone(self, name: str, request: Any, timeout: float | None = CALL_SECONDS) -> None:
        """Stopping and removing what is gone succeeds here, whatever the runtime says."""
        try:
            await self.call(name, request, timeout)
        except NotFoundError:
            pass

    async def pod_sandbox_status(self, pod_sandbox_id: str, *, verbose: bool = False) -> cri.PodSandboxStatus:
        request = wire.PodSandboxStatusRequest(pod_sandbox_id=pod_sandbox_id, verbose=verbose)
        answer = await self.call("PodSandboxStatus", request)
        status = from_wire(cri.PodSandboxStatus, answer.status)
        status.info = dict(answer.info)
        return status

    async def list_pod_sandbox(self, filter: cri.PodSandboxFilter | None = None) -> list[cri.PodSandbox]:
        request = wire.ListPodSandboxRequest(filter=to_dict(filter) if filter is not None else None)
        answer = await self.call("ListPodSandbox", request)
        return [from_wire(cri.PodSandbox, each) for each in answer.items]

    async def create_container(
        self, pod_sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        request = wire.CreateContainerRequest(
            pod_sandbox_id=pod_sandbox_id, config=to_dict(config), sandbox_config=to_dict(sandbox_config)
        )
        return str((await self.call("CreateContainer", request)).container_id)

    async def start_container(self, container_id: str) -> None:
        await self.call("StartContainer", wire.StartContainerRequest(container_id=container_id))

    async def stop_container(self, container_id: str, timeout: int) -> None:
        request = wire.StopContainerRequest(container_id=container_id, timeout=timeout)
        await self._unless_gone("StopContainer", request, CALL_SECONDS + timeout)

    async def remove_container(self, container_id: str) -> None:
        await self._unless_gone("RemoveContainer", wire.RemoveContainerRequest(container_id=container_id))

    async def list_containers(self, filter: cri.ContainerFilter | None = None) -> list[cri.Container]:
        request = wire.ListContainersRequest(filter=to_dict(filter) if filter is not None else None)
        answer = await self.call("ListContainers", request)
        return [from_wire(cri.Container, each) for each in answer.containers]

    async def container_status(self, container_id: str, *, verbose: bool = False) -> cri.ContainerStatus:
        request = wire.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        answer = await self.call("ContainerStatus", request)
        status = from_wire(cri.ContainerStatus, answer.status)
        status.info = dict(answer.info)
        return status

    async def update_container_resources(self, container_id: str, linux: cri.LinuxContainerResources) -> None:
        request = wire.UpdateContainerResourcesRequest(container_id=container_id, linux=to_dict(linux))
        await self.call("UpdateContainerResources", request)

    async def reopen_container_log(self, container_id: str) -> None:
        await self.call("ReopenContainerLog", wire.ReopenContainerLogRequest(container_id=container_id))

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> cri.ExecSyncResult:
        # CRI has whole seconds, and 0 for none.
        seconds = max(1, round(timeout)) if timeout > 0 else 0
        request = wire.ExecSyncRequest(container_id=container_id, cmd=cmd, timeout=seconds)
        deadline = seconds + _MARGIN_SECONDS if seconds else None
        return from_wire(cri.ExecSyncResult, await self.call("ExecSync", request, deadline))

    async def exec(
        self, container_id: str, cmd: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> RemoteExec:
        streams = {"tty": tty, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty}
        answer = await self.call("Exec", wire.ExecRequest(container_id=container_id, cmd=cmd, **streams))
        return await dial_command(answer.url, self._open_tasks(), **streams)

    async def attach(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> RemoteExec:
        streams = {"tty": tty, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty}
        answer = await self.call("Attach", wire.AttachRequest(container_id=container_id, **streams))
        return await dial_command(answer.url, self._open_tasks(), **streams)

    async def port_forward(self, pod_sandbox_id: str, port: int) -> ByteStream:
        request = wire.PortForwardRequest(pod_sandbox_id=pod_sandbox_id, port=[port])
        return await dial_port((await self.call("PortForward", request)).url, port, self._open_tasks())

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("the remote runtime is not open: use it as an async context manager")
        return self._tasks

    async def container_stats(self, container_id: str) -> cri_stats.ContainerStats:
        from podlite.cri.stats import ContainerStats

        answer = await self.call("ContainerStats", wire.ContainerStatsRequest(container_id=container_id))
        return from_wire(ContainerStats, answer.stats)

    async def list_container_stats(
        self, filter: cri_stats.ContainerStatsFilter | None = None
    ) -> list[cri_stats.ContainerStats]:
        from podlite.cri.stats import ContainerStats

        request = wire.ListContainerStatsRequest(filter=to_dict(filter) if filter is not None else None)
        answer = await self.call("ListContainerStats", request)
        return [from_wire(ContainerStats, each) for each in answer.stats]

    async def pod_sandbox_stats(self, pod_sandbox_id: str) -> cri_stats.PodSandboxStats:
        from podlite.cri.stats import PodSandboxStats

        answer = await self.call("PodSandboxStats", wire.PodSandboxStatsRequest(pod_sandbox_id=pod_sandbox_id))
        return from_wire(PodSandboxStats, answer.stats)

    async def list_pod_sandbox_stats(
        self, filter: cri_stats.PodSandboxStatsFilter | None = None
    ) -> list[cri_stats.PodSandboxStats]:
        from podlite.cri.stats import PodSandboxStats

        request = wire.ListPodSandboxStatsRequest(filter=to_dict(filter) if filter is not None else None)
        answer = await self.call("ListPodSandboxStats", request)
        return [from_wire(PodSandboxStats, each) for each in answer.stats]

    async def list_metric_descriptors(self) -> list[cri_stats.MetricDescriptor]:
        from podlite.cri.stats import MetricDescriptor

        answer = await self.call("ListMetricDescriptors", wire.ListMetricDescriptorsRequest())
        return [from_wire(MetricDescriptor, each) for each in answer.descriptors]

    async def list_pod_sandbox_metrics(self) -> list[cri_stats.PodSandboxMetrics]:
        from podlite.cri.stats import PodSandboxMetrics

        answer = await self.call("ListPodSandboxMetrics", wire.ListPodSandboxMetricsRequest())
        return [from_wire(PodSandboxMetrics, each) for each in answer.pod_metrics]

    async def update_pod_sandbox_resources(
        self,
        pod_sandbox_id: str,
        overhead: cri.LinuxContainerResources | None,
        resources: cri.LinuxContainerResources | None,
    ) -> None:
        request = wire.UpdatePodSandboxResourcesRequest(
            pod_sandbox_id=pod_sandbox_id,
            overhead=to_dict(overhead) if overhead is not None else None,
            resources=to_dict(resources) if resources is not None else None,
        )
        await self.call("UpdatePodSandboxResources", request)

    async def update_runtime_config(self, config: cri.RuntimeConfig) -> None:
        await self.call("UpdateRuntimeConfig", wire.UpdateRuntimeConfigRequest(runtime_config=to_dict(config)))

    async def runtime_config(self) -> cri.RuntimeConfiguration:
        return from_wire(cri.RuntimeConfiguration, await self.call("RuntimeConfig", wire.RuntimeConfigRequest()))

    async def checkpoint_container(self, container_id: str, location: str, timeout: float = 0) -> None:
        request = wire.CheckpointContainerRequest(container_id=container_id, location=location, timeout=round(timeout))
        await self.call("CheckpointContainer", request, timeout + _MARGIN_SECONDS if timeout else None)

    @asynccontextmanager
    async def get_container_events(self) -> AsyncIterator[AsyncIterator[cri.ContainerEvent]]:
        """The subscription is asked for on entering; podlite says when it has begun, other runtimes only with their
        first event. Ends with the runtime."""
        stream = self._methods["GetContainerEvents"](wire.GetEventsRequest())
        begun = asyncio.ensure_future(stream.initial_metadata())
        try:
            await asyncio.wait((begun,), timeout=_SUBSCRIBE_SECONDS)
            yield self._events(stream)
        finally:
            stream.cancel()
            # Until both are over gRPC reports to this event loop, which may be closed the next moment.
            with anyio.CancelScope(shield=True):
                ending = asyncio.ensure_future(stream.code())
                await asyncio.wait((begun, ending), timeout=1)
                for each in (begun, ending):
                    each.cancel()

    async def _events(self, stream: Any) -> AsyncIterator[cri.ContainerEvent]:
        try:
            async for each in stream:
                yield from_wire(cri.ContainerEvent, each)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        except asyncio.CancelledError:
            await anyio.lowlevel.checkpoint_if_cancelled()
            # grpc raises this for a stream that was cancelled here, too: then it is just the end.
            if not stream.cancelled():
                raise


class RemoteImages:
    """Implements `ImageService`."""

    def __init__(self, runtime: RemoteRuntime) -> None:
        self._runtime = runtime

    async def list_images(self, filter: cri.ImageSpec | None = None) -> list[cri.Image]:
        request = wire.ListImagesRequest(filter={"image": to_dict(filter)} if filter is not None else None)
        answer = await self._runtime.call("ListImages", request)
        return [from_wire(cri.Image, each) for each in answer.images]

    async def image_status(self, image: cri.ImageSpec, *, verbose: bool = False) -> cri.Image | None:
        request = wire.ImageStatusRequest(image=to_dict(image), verbose=verbose)
        answer = await self._runtime.call("ImageStatus", request)
        if not answer.HasField("image"):
            return None
        found = from_wire(cri.Image, answer.image)
        found.info = dict(answer.info)
        return found

    async def pull_image(
        self,
        image: cri.ImageSpec,
        auth: cri.AuthConfig | None = None,
        sandbox_config: cri.PodSandboxConfig | None = None,
        *,
        timeout: float = 0,
    ) -> str:
        request = wire.PullImageRequest(
            image=to_dict(image),
            auth=to_wire(auth) if auth is not None else None,
            sandbox_config=to_dict(sandbox_config) if sandbox_config is not None else None,
        )
        try:
            return str((await self._runtime.call("PullImage", request, timeout or None)).image_ref)
        except (DeadlineExceededError, UnavailableError):
            raise
        except CRIError as error:
            raise ImageError(error.message) from None

    async def remove_image(self, image: cri.ImageSpec) -> None:
        try:
            await self._runtime.call("RemoveImage", wire.RemoveImageRequest(image=to_dict(image)))
        except NotFoundError:
            pass

    async def image_fs_info(self) -> list[cri.FilesystemUsage]:
        answer = await self._runtime.call("ImageFsInfo", wire.ImageFsInfoRequest())
        return [from_wire(cri.FilesystemUsage, each) for each in answer.image_filesystems]
