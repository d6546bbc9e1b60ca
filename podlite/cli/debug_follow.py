"""Following a debugging container from its start to its end, with our own streams or terminal if it has them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite.cli import terminal
from podlite.cli.attachment import open_attachment
from podlite.cli.exec_streams import Session
from podlite.cli.raw_terminal import RawTerminal, window_size
from podlite.cri.errors import FailedPreconditionError
from podlite.errors import PodliteError
from podlite.kubelet.instance_end import bare_id, instance_end
from podlite.kubelet.log_source import find_status
from podlite.kubelet.written_pods import find
from podlite.linux import inotify

if TYPE_CHECKING:
    from podlite.api.container import EphemeralContainer
    from podlite.api.pod import Pod
    from podlite.api.status import ContainerStatus
    from podlite.kubelet.written_pods import WrittenPod

# Beyond what starting takes, unless an image has to be pulled, which the status shows.
_START_SECONDS = 60.0
_STUCK = frozenset(
    (
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    )
)


async def taken_on(found: WrittenPod, name: str) -> None:
    """Until whoever looks at the pod sees the container in it. Raises PodliteError."""
    with StatusWatch(found, name) as watch:
        await watch.known()


async def follow_debugger(found: WrittenPod, container: EphemeralContainer) -> int:
    """Until the container has ended; returns its exit code. Raises PodliteError where it does not start."""
    with StatusWatch(found, container.name) as watch:
        status = await watch.started()
        container_id = bare_id(status.container_id)
        if not container.stdin:
            return await _print(found, watch, container.name, container_id)
        try:
            return await _attach(found, watch, container, container_id)
        except (FailedPreconditionError, BaseExceptionGroup) as error:
            if not isinstance(_single(error), FailedPreconditionError):
                raise
            # It has ended already; what it said is in its log.
            return await _print(found, watch, container.name, container_id)


def _single(error: BaseException) -> BaseException:
    """What a task failed with, without the groups around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _print(found: WrittenPod, watch: StatusWatch, name: str, container_id: str) -> int:
    """Without our input, its output comes from its log: nothing of it is missed."""
    from podlite.cli.lines import Lines
    from podlite.cli.log_follow import Follow
    from podlite.cli.pods import kubelet_config
    from podlite.kubelet.paths import pod_logs_dir
    from podlite.kubelet.read_logs import LogOptions

    writer = Lines(labels=False, merge=True).writer(name)

    def follow() -> None:
        follow = Follow(find(found.directory), pod_logs_dir(kubelet_config(found), found.pod))
        follow.add(name, LogOptions(follow=True), writer.write)
        follow.run()
        writer.end()

    await to_thread.run_sync(follow, abandon_on_cancel=True)
    return await watch.ended(container_id)


async def _attach(found: WrittenPod, watch: StatusWatch, container: EphemeralContainer, container_id: str) -> int:
    ended = partial(watch.ended, container_id)
    async with open_attachment(found, container_id, ended, tty=container.tty, stdin=True) as attached:
        if container.tty:
            terminal.note("If you don't see a command prompt, try pressing enter.")
            await attached.resize(*window_size(0 if os.isatty(0) else 1))
        with RawTerminal(0) if container.tty and os.isatty(0) else nullcontext():
            return await Session(attached).run()


class StatusWatch:
    """The container's status, as it is written down."""

    def __init__(self, found: WrittenPod, name: str) -> None:
        self._directory = found.directory
        self._name = name

    def __enter__(self) -> StatusWatch:
        self._inotify = inotify.init()
        inotify.add_watch(self._inotify, self._directory, inotify.IN_MOVED_TO | inotify.IN_DELETE)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._inotify)

    async def known(self) -> None:
        """Until the container is in the pod's spec. Raises PodliteError."""
        with anyio.move_on_after(_START_SECONDS) as limit:
            while all(each.name != self._name for each in self._find().spec.ephemeral_containers):
                await self._change()
        if limit.cancelled_caught:
            raise PodliteError(f"the podlite that runs the pod does not take on container {self._name}")

    async def started(self) -> ContainerStatus:
        """Its status once it runs, or has run."""
        status: ContainerStatus | None = None
        with anyio.move_on_after(_START_SECONDS):
            while True:
                status = self._look()
                state = status.state if status is not None else None
                if status is not None and state is not None:
                    if state.running is not None or state.terminated is not None:
                        return status
                    if state.waiting is not None and state.waiting.reason in _STUCK:
                        break
                await self._change()
        why = status.state.waiting if status is not None else None
        said = f"{why.reason}: {why.message}" if why is not None and why.message else why.reason if why else ""
        raise PodliteError(f"container {self._name} does not start{f': {said}' if said else ''}")

    async def ended(self, container_id: str) -> int:
        """The exit code of that instance once it has ended. Raises PodliteError if nobody knows it any more."""
        while (end := instance_end(self._find(), self._name, container_id)) is None:
            await self._change()
        return end.exit_code

    def _look(self) -> ContainerStatus | None:
        return find_status(self._find(), self._name)

    def _find(self) -> Pod:
        try:
            found = find(self._directory)
        except FileNotFoundError:
            raise PodliteError(f"the pod was removed, and container {self._name} with it") from None
        if not found.held:
            raise PodliteError("the podlite that ran the pod has ended")
        return found.pod

    async def _change(self) -> None:
        await anyio.wait_readable(self._inotify)
        inotify.read_events(self._inotify)
