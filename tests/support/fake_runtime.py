"""A CRI runtime in memory, on a controllable clock: for tests of ordering and timing, which the kernel cannot give.

It keeps to what `podlite.cri.services` promises, and no more. What a container does is said by its program.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from podlite.cri.errors import (
    AlreadyExistsError,
    CRIError,
    FailedPreconditionError,
    NotFoundError,
    StartError,
    UnimplementedError,
)
from podlite.cri.types import (
    AuthConfig,
    Container,
    ContainerConfig,
    ContainerEvent,
    ContainerEventType,
    ContainerFilter,
    ContainerState,
    ContainerStatus,
    ExecSyncResult,
    FilesystemUsage,
    Image,
    ImageSpec,
    LinuxContainerResources,
    NamespaceMode,
    NamespaceOption,
    PodSandbox,
    PodSandboxConfig,
    PodSandboxFilter,
    PodSandboxNetworkStatus,
    PodSandboxState,
    PodSandboxStatus,
    RuntimeStatus,
    VersionResponse,
)
from tests.support.clock import FakeClock

SIGTERM_EXIT = 143
SIGKILL_EXIT = 137


class Program:
    """What a container does: runs for `seconds` (None: until it is stopped) and exits with `code`.

    Asked to stop it takes `stop_seconds` to exit; None means that it ignores the signal.
    """

    def __init__(
        self, seconds: float | None = None, code: int = 0, *, reason: str = "", stop_seconds: float | None = 0
    ) -> None:
        self.seconds = seconds
        self.code = code
        self.reason = reason or ("Completed" if code == 0 else "Error")
        self.stop_seconds = stop_seconds


class FakeContainer:
    def __init__(self, id: str, sandbox: FakeSandbox, config: ContainerConfig, created_at: int) -> None:
        self.id = id
        self.sandbox = sandbox
        self.config = config
        self.program = Program()
        self.ended = anyio.Event()
        self.status = ContainerStatus(
            id=id,
            metadata=config.metadata,
            state=ContainerState.CONTAINER_CREATED,
            created_at=created_at,
            image=ImageSpec(image=config.image.user_specified_image),
            image_ref=config.image.image,
            image_id=config.image.image,
            labels=config.labels,
            annotations=config.annotations,
            mounts=config.mounts,
            log_path=f"{sandbox.config.log_directory}/{config.log_path}",
        )


class FakeSandbox:
    def __init__(self, id: str, config: PodSandboxConfig, created_at: int, ips: list[str]) -> None:
        self.id = id
        self.config = config
        self.containers: dict[str, FakeContainer] = {}
        security = config.linux.security_context if config.linux is not None else None
        options = security.namespace_options if security is not None else None
        host = options is not None and options.network == NamespaceMode.NODE
        self.status = PodSandboxStatus(
            id=id,
            metadata=config.metadata,
            created_at=created_at,
            network=PodSandboxNetworkStatus(ip="" if host else ips[0], additional_ips=[] if host else ips[1:]),
            namespaces=options or NamespaceOption(),
            labels=config.labels,
            annotations=config.annotations,
        )


class FakeRuntime:
    """RuntimeService. Use as an async context manager.

    `programs` says by container name what each next instance does, the last one for good. `failures` has, by
    call or by `call:container`, errors that the next calls end in. `calls` is everything that was asked for.
    """

    def __init__(self, clock: FakeClock, *, evented: bool = True) -> None:
        self.clock = clock
        self.evented = evented
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.programs: dict[str, list[Program]] = {}
        self.failures: dict[str, list[CRIError]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.delays: dict[str, float] = {}
        self.reopened: list[str] = []
        self.ips = ["10.85.0.2", "fd85::2"]
        self.exec_results: dict[str, list[ExecSyncResult | CRIError]] = {}
        self._subscribers: list[Any] = []
        self._count = 0
        self._tasks: TaskGroup

    async def __aenter__(self) -> FakeRuntime:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._tasks.cancel_scope.cancel()
        if isinstance(error[1], Exception):
            await self._tasks.__aexit__(None, None, None)
        else:
            await self._tasks.__aexit__(*error)

    # --- what tests do -----------------------------------------------------------------------

    def container(self, name: str) -> FakeContainer:
        """The newest instance of a container."""
        return [each for each in self.containers.values() if each.config.metadata.name == name][-1]

    def running(self) -> list[str]:
        return [
            each.config.metadata.name
            for each in self.containers.values()
            if each.status.state == ContainerState.CONTAINER_RUNNING
        ]

    def exit(self, name: str, code: int = 0, reason: str = "") -> None:
        """Ends the newest instance of a running container."""
        self._exited(self.container(name), code, reason or ("Completed" if code == 0 else "Error"))

    def kill_sandbox(self, sandbox_id: str) -> None:
        """What happens when the shim dies: the sandbox is not ready any more, and its containers are lost."""
        sandbox = self.sandboxes[sandbox_id]
        sandbox.status.state = PodSandboxState.SANDBOX_NOTREADY
        for each in sandbox.containers.values():
            if each.status.state == ContainerState.CONTAINER_RUNNING:
                each.status.state = ContainerState.CONTAINER_UNKNOWN
                each.ended.set()
        self._publish(sandbox, sandbox.id, ContainerEventType.CONTAINER_STOPPED_EVENT)

    def lose_subscribers(self) -> None:
        """Breaks every event stream."""
        lost, self._subscribers = self._subscribers, []
        for each in lost:
            each.close()

    def names_of(self, call: str) -> list[str]:
        """What was given to a call, in order: names of containers where it takes one."""
        return [each[1] for each in self.calls if each[0] == call]

    # --- RuntimeService ----------------------------------------------------------------------

    async def version(self) -> VersionResponse:
        return VersionResponse(version="0.1.0", runtime_name="fake", runtime_version="1", runtime_api_version="v1")

    async def status(self, *, verbose: bool = False) -> RuntimeStatus:
        return RuntimeStatus()

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        await self._called("run_pod_sandbox", config.metadata.name)
        if any(each.config.metadata == config.metadata for each in self.sandboxes.values()):
            raise AlreadyExistsError(f"the name {config.metadata} is taken")
        id = self._new_id("sandbox")
        sandbox = self.sandboxes[id] = FakeSandbox(id, config, self._now(), self.ips)
        self._publish(sandbox, id, ContainerEventType.CONTAINER_CREATED_EVENT)
        self._publish(sandbox, id, ContainerEventType.CONTAINER_STARTED_EVENT)
        return id

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await self._called("stop_pod_sandbox", pod_sandbox_id)
        sandbox = self.sandboxes.get(pod_sandbox_id)
        if sandbox is None or sandbox.status.state == PodSandboxState.SANDBOX_NOTREADY:
            return
        for each in list(sandbox.containers.values()):
            if each.status.state == ContainerState.CONTAINER_RUNNING:
                self._exited(each, SIGKILL_EXIT, "Error")
        sandbox.status.state = PodSandboxState.SANDBOX_NOTREADY
        sandbox.status.network = PodSandboxNetworkStatus()
        self._publish(sandbox, sandbox.id, ContainerEventType.CONTAINER_STOPPED_EVENT)

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await self._called("remove_pod_sandbox", pod_sandbox_id)
        sandbox = self.sandboxes.get(pod_sandbox_id)
        if sandbox is None:
            return
        for each in list(sandbox.containers):
            await self.remove_container(each)
        del self.sandboxes[pod_sandbox_id]
        self._publish(sandbox, sandbox.id, ContainerEventType.CONTAINER_DELETED_EVENT)

    async def pod_sandbox_status(self, pod_sandbox_id: str) -> PodSandboxStatus:
        await self._called("pod_sandbox_status", pod_sandbox_id, log=False)
        if pod_sandbox_id not in self.sandboxes:
            raise NotFoundError(f"no sandbox {pod_sandbox_id}")
        return _copy(self.sandboxes[pod_sandbox_id].status)

    async def list_pod_sandbox(self, filter: PodSandboxFilter | None = None) -> list[PodSandbox]:
        await self._called("list_pod_sandbox", "", log=False)
        return [
            PodSandbox(
                id=each.id,
                metadata=each.config.metadata,
                state=each.status.state,
                created_at=each.status.created_at,
                labels=each.config.labels,
                annotations=each.config.annotations,
            )
            for each in self.sandboxes.values()
            if filter is None or _matches(filter.label_selector, each.config.labels)
        ]

    async def create_container(
        self, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str:
        await self._called("create_container", config.metadata.name)
        sandbox = self.sandboxes.get(pod_sandbox_id)
        if sandbox is None:
            raise NotFoundError(f"no sandbox {pod_sandbox_id}")
        if sandbox.status.state != PodSandboxState.SANDBOX_READY:
            raise FailedPreconditionError(f"sandbox {pod_sandbox_id} is not ready")
        if any(each.config.metadata == config.metadata for each in sandbox.containers.values()):
            raise AlreadyExistsError(f"the name {config.metadata} is taken")
        id = self._new_id(config.metadata.name)
        container = FakeContainer(id, sandbox, config, self._now())
        programs = self.programs.get(config.metadata.name, [])
        if programs:
            container.program = programs.pop(0) if len(programs) > 1 else programs[0]
        self.containers[id] = sandbox.containers[id] = container
        self._publish(sandbox, id, ContainerEventType.CONTAINER_CREATED_EVENT)
        return id

    async def start_container(self, container_id: str) -> None:
        container = self._find(container_id)
        try:
            await self._called("start_container", container.config.metadata.name)
        except StartError as error:
            container.status.message = error.message
            self._exited(container, 128, "StartError")
            raise
        if container.status.state != ContainerState.CONTAINER_CREATED:
            raise FailedPreconditionError(f"container {container_id} is not in the created state")
        container.status.state = ContainerState.CONTAINER_RUNNING
        container.status.started_at = self._now()
        _touch(container.status.log_path)
        self._publish(container.sandbox, container_id, ContainerEventType.CONTAINER_STARTED_EVENT)
        if container.program.seconds is not None:
            self._tasks.start_soon(self._run, container, container.program.seconds)

    async def stop_container(self, container_id: str, timeout: int) -> None:
        container = self.containers.get(container_id)
        if container is None:
            await self._called("stop_container", container_id)
            return
        self.calls.append(("stop_container", container.config.metadata.name, timeout, self.clock.monotonic()))
        self._raise_failure("stop_container", container.config.metadata.name)
        if container.status.state != ContainerState.CONTAINER_RUNNING:
            return
        takes = container.program.stop_seconds
        if timeout > 0:
            with self.clock.timeout(timeout if takes is None else min(takes, timeout)):
                await container.ended.wait()
        if container.status.state == ContainerState.CONTAINER_RUNNING:
            graceful = timeout > 0 and takes is not None and takes <= timeout
            code = SIGTERM_EXIT if graceful else SIGKILL_EXIT
            self._exited(container, code, "Error")

    async def remove_container(self, container_id: str) -> None:
        container = self.containers.get(container_id)
        if container is None:
            return
        await self._called("remove_container", container.config.metadata.name)
        if container.status.state == ContainerState.CONTAINER_RUNNING:
            self._exited(container, SIGKILL_EXIT, "Error")
        del self.containers[container_id]
        del container.sandbox.containers[container_id]
        self._publish(container.sandbox, container_id, ContainerEventType.CONTAINER_DELETED_EVENT)

    async def list_containers(self, filter: ContainerFilter | None = None) -> list[Container]:
        await self._called("list_containers", "", log=False)
        return [
            Container(
                id=each.id,
                metadata=each.config.metadata,
                pod_sandbox_id=each.sandbox.id,
                image=each.config.image,
                image_id=each.config.image.image,
                state=each.status.state,
                created_at=each.status.created_at,
                labels=each.config.labels,
                annotations=each.config.annotations,
            )
            for each in self.containers.values()
            if filter is None or _matches(filter.label_selector, each.config.labels)
        ]

    async def container_status(self, container_id: str) -> ContainerStatus:
        await self._called("container_status", container_id, log=False)
        return _copy(self._find(container_id).status)

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None:
        self._find(container_id)

    async def reopen_container_log(self, container_id: str) -> None:
        await self._called("reopen_container_log", self._find(container_id).config.metadata.name)
        _touch(self._find(container_id).status.log_path)
        self.reopened.append(container_id)

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResult:
        name = self._find(container_id).config.metadata.name
        await self._called("exec_sync", " ".join(cmd))
        results = self.exec_results.get(" ".join(cmd)) or self.exec_results.get(name) or [ExecSyncResult()]
        result = results.pop(0) if len(results) > 1 else results[0]
        if isinstance(result, CRIError):
            raise result
        return result

    async def exec(self, container_id: str, cmd: list[str], **options: Any) -> Any:
        raise UnimplementedError("no exec here")

    async def attach(self, container_id: str, **options: Any) -> Any:
        raise UnimplementedError("no attach here")

    async def port_forward(self, pod_sandbox_id: str, port: int) -> Any:
        raise UnimplementedError("no port forward here")

    @asynccontextmanager
    async def get_container_events(self) -> AsyncIterator[AsyncIterator[ContainerEvent]]:
        if not self.evented:
            raise UnimplementedError("this runtime has no events")
        send, receive = anyio.create_memory_object_stream[ContainerEvent](1000)
        self._subscribers.append(send)
        try:
            with receive:
                yield receive
        finally:
            if send in self._subscribers:
                self._subscribers.remove(send)
            send.close()

    # --- within ------------------------------------------------------------------------------

    async def _called(self, call: str, name: str, *, log: bool = True) -> None:
        if log:
            self.calls.append((call, name, self.clock.monotonic()))
        delay = self.delays.get(f"{call}:{name}", self.delays.get(call, 0))
        if delay:
            await self.clock.sleep(delay)
        else:
            await anyio.lowlevel.checkpoint()
        self._raise_failure(call, name)

    def _raise_failure(self, call: str, name: str) -> None:
        for key in (f"{call}:{name}", call):
            if self.failures.get(key):
                raise self.failures[key].pop(0)

    async def _run(self, container: FakeContainer, seconds: float) -> None:
        with self.clock.timeout(seconds):
            await container.ended.wait()
        if container.status.state == ContainerState.CONTAINER_RUNNING:
            self._exited(container, container.program.code, container.program.reason)

    def _exited(self, container: FakeContainer, code: int, reason: str) -> None:
        status = container.status
        status.state = ContainerState.CONTAINER_EXITED
        status.exit_code = code
        status.reason = reason
        status.finished_at = self._now()
        container.ended.set()
        self._publish(container.sandbox, container.id, ContainerEventType.CONTAINER_STOPPED_EVENT)

    def _find(self, container_id: str) -> FakeContainer:
        if container_id not in self.containers:
            raise NotFoundError(f"no container {container_id}")
        return self.containers[container_id]

    def _new_id(self, of: str) -> str:
        self._count += 1
        return f"{of}-{self._count:08x}"

    def _now(self) -> int:
        self.clock.tick(0.000001)  # no two things happen at the same time
        return self.clock.now_ns()

    def _publish(self, sandbox: FakeSandbox, id: str, kind: ContainerEventType) -> None:
        event = ContainerEvent(
            container_id=id,
            container_event_type=kind,
            created_at=self._now(),
            pod_sandbox_status=_copy(sandbox.status),
            containers_statuses=[_copy(each.status) for each in sandbox.containers.values()],
        )
        self.clock.tick(0.000001)
        for each in self._subscribers:
            each.send_nowait(event)


class FakeImages:
    """ImageService. `pulls` says how pulling each image goes: an error, or the seconds that it takes."""

    def __init__(self, clock: FakeClock, *present: str) -> None:
        self.clock = clock
        self.images: dict[str, Image] = {}
        self.pulls: dict[str, list[CRIError | float]] = {}
        self.pulled: list[str] = []
        self.cancelled: list[str] = []
        self.removed: list[str] = []
        self.auths: list[AuthConfig | None] = []
        self.inspect_error: CRIError | None = None
        self.usage: list[FilesystemUsage] = []
        for name in present:
            self.add(name)

    def add(self, name: str, **fields: Any) -> Image:
        image = Image(id=f"sha256:{abs(hash(name)):064x}"[:71], repo_tags=[name], size=1000, **fields)
        self.images[name] = image
        return image

    async def list_images(self, filter: ImageSpec | None = None) -> list[Image]:
        return list(self.images.values())

    async def image_status(self, image: ImageSpec, *, verbose: bool = False) -> Image | None:
        if self.inspect_error is not None:
            raise self.inspect_error
        for name, each in self.images.items():
            if image.image in (name, each.id):
                return each
        return None

    async def pull_image(
        self,
        image: ImageSpec,
        auth: AuthConfig | None = None,
        sandbox_config: PodSandboxConfig | None = None,
        *,
        timeout: float = 0,
    ) -> str:
        self.pulled.append(image.image)
        self.auths.append(auth)
        outcomes = self.pulls.get(image.image, [0])
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        try:
            if isinstance(outcome, CRIError):
                await anyio.lowlevel.checkpoint()
                raise outcome
            await self.clock.sleep(outcome)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(image.image)
            raise
        return self.add(image.image).id

    async def remove_image(self, image: ImageSpec) -> None:
        self.removed.append(image.image)
        self.images = {name: each for name, each in self.images.items() if image.image not in (name, each.id)}

    async def image_fs_info(self) -> list[FilesystemUsage]:
        return self.usage


class NoCgroups:
    """Stands for PodCgroups where a test makes no cgroups; notes what it was asked for."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.removed: list[str] = []

    def create(self, pod: Any) -> str:
        self.made.append(pod.metadata.uid)
        return f"/fake/pod{pod.metadata.uid}"

    def remove(self, uid: str, path: str = "", containers: tuple[str, ...] = ()) -> None:
        self.removed.append(uid)


def _matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


def _copy(message: Any) -> Any:
    return message.__copy__()
