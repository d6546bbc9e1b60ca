"""Logs, exec, attach and port-forward for the pods of a kubelet: from a pod's name for a container to the runtime's.

Source: pkg/kubelet/kubelet_pods.go (GetExec, GetAttach, GetPortForward, GetKubeletContainerLogs), Kubernetes 1.36.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from podlite.kubelet.log_source import log_source
from podlite.kubelet.log_watch import DirectoryWatcher
from podlite.kubelet.read_logs import LogEnd, LogOptions, Output, read_logs
from podlite.kubelet.types import KubeletError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import ByteStream, TaskGroup

    from podlite.api.pod import Pod
    from podlite.cri.services import ExecStream, RuntimeService
    from podlite.kubelet.pleg import Pleg
    from podlite.kubelet.types import KubeletConfig


class PodStreams:
    """Streams of running pods. `tasks` is where logs are watched."""

    def __init__(self, runtime: RuntimeService, pleg: Pleg, config: KubeletConfig, tasks: TaskGroup) -> None:
        self._runtime = runtime
        self._pleg = pleg
        self._config = config
        self._watcher = DirectoryWatcher(tasks)
        self._ends: dict[str, list[LogEnd]] = {}

    async def exec(
        self, pod: Pod, container: str, command: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ExecStream:
        """Runs a command in a container. Raises KubeletError, CRIError."""
        container_id = self._running(pod, container)
        return await self._runtime.exec(container_id, command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)

    async def attach(self, pod: Pod, container: str, *, stdin: bool, stdout: bool, stderr: bool) -> ExecStream:
        """Attaches to a container's own streams, with a terminal if it has one. Raises KubeletError, CRIError."""
        from podlite.kubelet.labels import find_container

        spec = find_container(pod, container)
        tty = spec is not None and spec.tty
        return await self._runtime.attach(
            self._running(pod, container), tty=tty, stdin=stdin, stdout=stdout, stderr=stderr and not tty
        )

    async def port_forward(self, pod: Pod, port: int) -> ByteStream:
        """A connection to a port of the pod's loopback address. Raises KubeletError, CRIError."""
        sandboxes = self._pleg.get(pod.metadata.uid).sandboxes
        if not sandboxes:
            raise KubeletError(f"the pod {pod.metadata.namespace}/{pod.metadata.name} has no sandbox")
        return await self._runtime.port_forward(sandboxes[0].id, port)

    async def logs(
        self, pod: Pod, container: str, options: LogOptions, *, previous: bool = False
    ) -> AsyncGenerator[Output, None]:
        """What a container wrote; followed, until that instance of it ends. Close the iterator that is left early.

        Raises KubeletError for a container without a log.
        """
        source = log_source(pod, self._config, container, previous=previous)
        end = LogEnd()
        self._ends.setdefault(source.container_id, []).append(end)
        if not source.running:
            end.set()
        self.look_for_ends(pod.metadata.uid)
        try:
            async with aclosing(read_logs(source.path, options, self._watcher, end)) as outputs:
                async for output in outputs:
                    yield output
        except FileNotFoundError as error:
            raise KubeletError(f'the log of container "{container}" is gone: {error.filename}') from error
        finally:
            self._ends[source.container_id].remove(end)
            if not self._ends[source.container_id]:
                del self._ends[source.container_id]

    def look_for_ends(self, uid: str) -> None:
        """Tells the readers of logs to which nothing will be added any more. To be called when the pod changed."""
        if not self._ends:
            return
        status = self._pleg.get(uid)
        for each in status.containers:
            if each.exited:
                for end in self._ends.get(each.id, ()):
                    end.set()

    def pod_gone(self, uid: str) -> None:
        """Ends the reading of all logs of a pod that is being removed."""
        for each in self._pleg.get(uid).containers:
            for end in self._ends.get(each.id, ()):
                end.set()

    def _running(self, pod: Pod, container: str) -> str:
        newest = self._pleg.get(pod.metadata.uid).container(container)
        if newest is None or not newest.running:
            raise KubeletError(
                f'container not found ("{container}")' if newest is None else f'container "{container}" is not running'
            )
        return newest.id
