"""What the runtime knows: its sandboxes and containers, and the states that they go through.

    sandbox     READY ──stop, or its shim died──▶ NOTREADY ──remove──▶ (gone)

    container   CREATED ──start──▶ STARTING ──exec'd──▶ RUNNING ──exit──▶ EXITED ──remove──▶ (gone)
                   │                  └──── could not be started ──────────▲  ▲
                   └──────────────────────── its sandbox was stopped ──────┘  │
                                             RUNNING ── shim lost ──▶ UNKNOWN ┘

Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeVar

from podlite.cri.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from podlite.cri.types import (
    ContainerConfig,
    ContainerState,
    LinuxContainerResources,
    LinuxContainerUser,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
)
from podlite.runtime.labelled import Labelled

if TYPE_CHECKING:
    from podlite.runtime.container.create import Prepared
    from podlite.runtime.image.config import ImageConfig
    from podlite.runtime.locks import FileLock
    from podlite.runtime.shim_client import ShimClient

CREATED, STARTING, RUNNING, EXITED, UNKNOWN = "created", "starting", "running", "exited", "unknown"

# from → to, as drawn above; a pair that is not here is a bug.
TRANSITIONS = frozenset(
    {
        (CREATED, STARTING),
        (CREATED, EXITED),
        (STARTING, RUNNING),
        (STARTING, EXITED),
        (STARTING, UNKNOWN),
        (RUNNING, EXITED),
        (RUNNING, UNKNOWN),
        (UNKNOWN, EXITED),
    }
)

CRI_STATES = {
    CREATED: ContainerState.CONTAINER_CREATED,
    STARTING: ContainerState.CONTAINER_CREATED,
    RUNNING: ContainerState.CONTAINER_RUNNING,
    EXITED: ContainerState.CONTAINER_EXITED,
    UNKNOWN: ContainerState.CONTAINER_UNKNOWN,
}


class Sandbox:
    """One pod sandbox. `directory` is its place in the run directory; `network` the record that its network
    teardown needs, None for the host's network. `spare` is one of the warm pool, not yet a pod's."""

    def __init__(self, id: str, config: PodSandboxConfig, created_at: int, directory: str) -> None:
        self.id = id
        self.config = config
        self.created_at = created_at
        self.directory = directory
        self.runtime_handler = ""
        self.spare = False
        self.ready = False
        self.ips: list[str] = []
        self.netns_path = ""
        self.network: dict[str, Any] | None = None
        self.netns_fd = -1
        self.userns_fd = -1
        self.stopping = False
        self.stopped = False
        self.shim: ShimClient | None = None
        self.lock: FileLock | None = None
        self.containers: dict[str, Container] = {}
        # Serialises stop and remove: the second of two concurrent calls finds the work done.
        self.busy = asyncio.Lock()

    def close_netns(self) -> None:
        """Closes our descriptor of the network namespace: the pin and the shim's are enough. Idempotent."""
        if self.netns_fd >= 0:
            fd, self.netns_fd = self.netns_fd, -1
            os.close(fd)

    def close_userns(self) -> None:
        """Closes our descriptor of the pod's user namespace. Idempotent."""
        if self.userns_fd >= 0:
            fd, self.userns_fd = self.userns_fd, -1
            os.close(fd)

    @property
    def namespaces(self) -> NamespaceOption:
        """The namespace options, CRI's defaults where none are given."""
        linux = self.config.linux
        options = linux.security_context.namespace_options if linux and linux.security_context else None
        return options or NamespaceOption(pid=NamespaceMode.CONTAINER)

    @property
    def pod(self) -> str:
        """`namespace/name`, for people."""
        return f"{self.config.metadata.namespace}/{self.config.metadata.name}"

    @property
    def ids(self) -> dict[str, str]:
        """What this sandbox's steps are marked with."""
        return {"pod": self.pod, "sandbox_id": self.id}


class Container:
    """One container; the fields are those of CRI's ContainerStatus where it has them."""

    def __init__(self, id: str, sandbox: Sandbox, config: ContainerConfig, created_at: int) -> None:
        self.id = id
        self.sandbox = sandbox
        self.config = config
        self.created_at = created_at
        self.started_at = 0
        self.finished_at = 0
        self.exit_code = 0
        self.reason = ""
        self.message = ""
        self.state = CREATED
        self.pid = 0
        self.image_id = ""
        self.image_ref = ""
        self.image: ImageConfig | None = None
        self.user = LinuxContainerUser()
        self.resources: LinuxContainerResources | None = None
        self.stop_signal = ""
        self.cgroup = ""
        self.log_path = ""
        self.start_ns = 0
        self.exec_ns = 0
        self.home = "/"
        self.prepared: Prepared | None = None
        # A process may wait in the shim for the start.
        self.ahead = False
        # An exit that was told before the answer to the start was.
        self.early_exit: dict[str, Any] | None = None
        # The stop signal has reached a program that heeds it: it is sent once, however often a stop is asked for.
        self.signalled = False
        self.removing = False
        self.removed = False
        self.exited = asyncio.Event()
        # Serialises removals: of two at a time the second finds the work done, or tries it again.
        self.busy = asyncio.Lock()

    def transition(self, state: str) -> None:
        """Changes the state. Raises AssertionError for a change that is not in the table."""
        assert (self.state, state) in TRANSITIONS, f"container {self.id}: {self.state} -> {state}"
        self.state = state
        if state in (EXITED, UNKNOWN):
            self.exited.set()

    @property
    def ids(self) -> dict[str, str]:
        """What this container's steps are marked with."""
        return {**self.sandbox.ids, "container_id": self.id}


class Store:
    """All sandboxes and containers of one runtime, and the names that are taken."""

    def __init__(self) -> None:
        self.sandboxes: Labelled[Sandbox] = Labelled()
        self.containers: Labelled[Container] = Labelled()
        self._sandbox_names: dict[tuple[str, str, str, int], str] = {}
        self._container_names: dict[tuple[str, str, int], str] = {}

    # A name is taken before anything is made and given back when the last of it is gone, or the attempt failed.

    def reserve_sandbox(self, config: PodSandboxConfig, sandbox_id: str) -> None:
        """Raises AlreadyExistsError if a sandbox has this metadata."""
        name = _sandbox_name(config)
        if name in self._sandbox_names:
            raise AlreadyExistsError(
                f"a sandbox of pod {config.metadata.namespace}/{config.metadata.name}, uid {config.metadata.uid}, "
                f"attempt {config.metadata.attempt}, exists already: {self._sandbox_names[name]}"
            )
        self._sandbox_names[name] = sandbox_id

    def release_sandbox(self, config: PodSandboxConfig, sandbox_id: str) -> None:
        """Idempotent."""
        name = _sandbox_name(config)
        if self._sandbox_names.get(name) == sandbox_id:
            del self._sandbox_names[name]

    def reserve_container(self, sandbox: Sandbox, config: ContainerConfig, container_id: str) -> None:
        """Raises AlreadyExistsError if the sandbox has a container with this metadata."""
        name = (sandbox.id, config.metadata.name, config.metadata.attempt)
        if name in self._container_names:
            raise AlreadyExistsError(
                f"container {config.metadata.name}, attempt {config.metadata.attempt}, of pod {sandbox.pod} exists "
                f"already: {self._container_names[name]}"
            )
        self._container_names[name] = container_id

    def release_container(self, container: Container) -> None:
        """Idempotent."""
        metadata = container.config.metadata
        name = (container.sandbox.id, metadata.name, metadata.attempt)
        if self._container_names.get(name) == container.id:
            del self._container_names[name]

    def find_sandbox(self, id: str) -> Sandbox | None:
        """By id or unique prefix; None if there is none. Raises InvalidArgumentError for an ambiguous prefix."""
        return _by_prefix(self.sandboxes, id, "sandbox")

    def sandbox(self, id: str) -> Sandbox:
        """Raises NotFoundError."""
        found = self.find_sandbox(id)
        if found is None:
            raise NotFoundError(f"there is no sandbox {id}")
        return found

    def ready_sandbox(self, id: str) -> Sandbox:
        """Raises NotFoundError, and FailedPreconditionError if the sandbox is not ready."""
        sandbox = self.sandbox(id)
        if not sandbox.ready:
            raise FailedPreconditionError(f"sandbox {sandbox.id} of pod {sandbox.pod} is not ready")
        return sandbox

    def find_container(self, id: str) -> Container | None:
        """As `find_sandbox`."""
        return _by_prefix(self.containers, id, "container")

    def container(self, id: str) -> Container:
        """Raises NotFoundError."""
        found = self.find_container(id)
        if found is None:
            raise NotFoundError(f"there is no container {id}")
        return found

    def running_container(self, id: str) -> Container:
        """Raises NotFoundError, and FailedPreconditionError if the container does not run."""
        container = self.container(id)
        if container.state != RUNNING:
            name = container.config.metadata.name
            raise FailedPreconditionError(
                f"container {name} of pod {container.sandbox.pod} is {container.state}, not running"
            )
        return container


T = TypeVar("T")


def _sandbox_name(config: PodSandboxConfig) -> tuple[str, str, str, int]:
    metadata = config.metadata
    return (metadata.name, metadata.namespace, metadata.uid, metadata.attempt)


def _by_prefix(items: dict[str, T], id: str, kind: str) -> T | None:
    exact = items.get(id)
    if exact is not None or not id:
        return exact
    matches = [key for key in items if key.startswith(id)]
    if len(matches) > 1:
        raise InvalidArgumentError(f"{kind} id {id} is ambiguous: {len(matches)} ids begin with it")
    return items[matches[0]] if matches else None
