"""The two services of CRI v1 as async protocols, call for call, and the stream objects of exec, attach
and port-forward.

A call takes its request's fields as arguments and returns what its response carries. Calls are
idempotent where CRI says so: stopping and removing what is stopped or gone succeeds. A cancelled call
undoes what it began before it re-raises. Failures are `podlite.cri.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream

from podlite.cri.types import (
    AuthConfig,
    Container,
    ContainerConfig,
    ContainerEvent,
    ContainerFilter,
    ContainerStatus,
    ExecSyncResult,
    FilesystemUsage,
    Image,
    ImageSpec,
    LinuxContainerResources,
    PodSandbox,
    PodSandboxConfig,
    PodSandboxFilter,
    PodSandboxStatus,
    RuntimeConfig,
    RuntimeConfiguration,
    RuntimeStatus,
    VersionResponse,
)

if TYPE_CHECKING:
    from podlite.cri.stats import (
        ContainerStats,
        ContainerStatsFilter,
        MetricDescriptor,
        PodSandboxMetrics,
        PodSandboxStats,
        PodSandboxStatsFilter,
    )


class ExecStream(Protocol):
    """A running exec, or an attachment to a container's own standard streams.

    Streams that were not asked for are None; with a terminal, `stderr` is None and `stdout` carries both.
    Leaving its context closes the streams; an exec whose process still runs is then killed, an attached
    container is not.
    """

    stdin: ByteSendStream | None
    stdout: ByteReceiveStream | None
    stderr: ByteReceiveStream | None

    async def resize(self, width: int, height: int) -> None:
        """Sets the terminal's size in characters; without a terminal this does nothing."""
        ...

    async def wait(self) -> int:
        """Waits for the process to end and returns its exit code (128 + N when signal N ended it)."""
        ...

    async def aclose(self) -> None:
        """Closes the streams, and kills an exec's process that still runs."""
        ...

    async def __aenter__(self) -> ExecStream: ...

    async def __aexit__(self, *error: object) -> None: ...


class RuntimeService(Protocol):
    """runtime.v1.RuntimeService."""

    async def version(self) -> VersionResponse: ...

    async def status(self, *, verbose: bool = False) -> RuntimeStatus: ...

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        """Creates and starts a sandbox, ready for containers; returns its id.

        Raises AlreadyExistsError, InvalidArgumentError, NetworkSetupError or another CRIError; then
        nothing is left, or the record of what could not be taken back.
        """
        ...

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Ends every process of the sandbox and takes back its network. Idempotent; unknown ids succeed."""
        ...

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Removes the sandbox and its containers, running ones killed. Idempotent; unknown ids succeed."""
        ...

    async def pod_sandbox_status(self, pod_sandbox_id: str, *, verbose: bool = False) -> PodSandboxStatus:
        """Raises NotFoundError."""
        ...

    async def list_pod_sandbox(self, filter: PodSandboxFilter | None = None) -> list[PodSandbox]: ...

    async def create_container(
        self, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str:
        """Creates a container in a ready sandbox; returns its id.

        Raises NotFoundError for the sandbox or the image, AlreadyExistsError, FailedPreconditionError.
        """
        ...

    async def start_container(self, container_id: str) -> None:
        """Starts a created container; returns when its process has been exec'd.

        Raises StartError (the container is then exited, 128, reason StartError), NotFoundError,
        FailedPreconditionError.
        """
        ...

    async def stop_container(self, container_id: str, timeout: int) -> None:
        """Sends the stop signal, waits up to `timeout` seconds, kills. Idempotent; unknown ids succeed."""
        ...

    async def remove_container(self, container_id: str) -> None:
        """Removes a container, killing it if it runs. Idempotent; unknown ids succeed."""
        ...

    async def list_containers(self, filter: ContainerFilter | None = None) -> list[Container]: ...

    async def container_status(self, container_id: str, *, verbose: bool = False) -> ContainerStatus:
        """Raises NotFoundError."""
        ...

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None:
        """Raises NotFoundError, FailedPreconditionError."""
        ...

    async def reopen_container_log(self, container_id: str) -> None:
        """Makes the runtime write to a new file at the container's log path (the old one was renamed)."""
        ...

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResult:
        """Runs `cmd` in the container and collects its output; `timeout` in seconds, 0 for none.

        Raises DeadlineExceededError (the process is then killed), NotFoundError, FailedPreconditionError,
        StartError.
        """
        ...

    async def exec(
        self, container_id: str, cmd: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ExecStream: ...

    async def attach(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> ExecStream: ...

    async def port_forward(self, pod_sandbox_id: str, port: int) -> ByteStream:
        """One connection to `port` on the loopback address of the pod's network.

        Raises NotFoundError, FailedPreconditionError; UnavailableError if nobody listens there.
        """
        ...

    async def container_stats(self, container_id: str) -> ContainerStats:
        """Raises NotFoundError."""
        ...

    async def list_container_stats(self, filter: ContainerStatsFilter | None = None) -> list[ContainerStats]:
        """Those of running containers."""
        ...

    async def pod_sandbox_stats(self, pod_sandbox_id: str) -> PodSandboxStats:
        """Raises NotFoundError."""
        ...

    async def list_pod_sandbox_stats(self, filter: PodSandboxStatsFilter | None = None) -> list[PodSandboxStats]:
        """Those of ready sandboxes."""
        ...

    async def list_metric_descriptors(self) -> list[MetricDescriptor]: ...

    async def list_pod_sandbox_metrics(self) -> list[PodSandboxMetrics]: ...

    async def update_pod_sandbox_resources(
        self, pod_sandbox_id: str, overhead: LinuxContainerResources | None, resources: LinuxContainerResources | None
    ) -> None:
        """Tells the runtime what the pod as a whole may use now; its cgroup is the caller's. Raises NotFoundError."""
        ...

    async def update_runtime_config(self, config: RuntimeConfig) -> None: ...

    async def runtime_config(self) -> RuntimeConfiguration: ...

    async def checkpoint_container(self, container_id: str, location: str, timeout: float = 0) -> None:
        """Raises UnimplementedError where the runtime cannot, NotFoundError, FailedPreconditionError."""
        ...

    def get_container_events(self) -> AbstractAsyncContextManager[AsyncIterator[ContainerEvent]]:
        """Entering subscribes: no event after that is missed. A slow reader holds up nobody."""
        ...


class ImageService(Protocol):
    """runtime.v1.ImageService."""

    async def list_images(self, filter: ImageSpec | None = None) -> list[Image]: ...

    async def image_status(self, image: ImageSpec, *, verbose: bool = False) -> Image | None:
        """The image that a name, digest or id stands for, or None. `verbose` adds its `info`, JSON by key."""
        ...

    async def pull_image(
        self,
        image: ImageSpec,
        auth: AuthConfig | None = None,
        sandbox_config: PodSandboxConfig | None = None,
        *,
        timeout: float = 0,
    ) -> str:
        """Pulls the image; returns its reference for CreateContainer. `timeout` in seconds, 0 for none.

        Raises ImageError, DeadlineExceededError.
        """
        ...

    async def remove_image(self, image: ImageSpec) -> None:
        """Removes the image, all its tags. Idempotent; an unknown image succeeds."""
        ...

    async def image_fs_info(self) -> list[FilesystemUsage]: ...
