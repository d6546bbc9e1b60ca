"""StopContainer: the stop signal, the time that the caller allows, SIGKILL."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio

from podlite import blocking, log
from podlite.cri.errors import CRIError, FailedPreconditionError, UnavailableError
from podlite.linux.process import drops_signal
from podlite.runtime.shim_client import KILL_SECONDS
from podlite.runtime.store import RUNNING, STARTING, Container
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime


# Between two looks at whether a program has got its handler: seconds, doubled each time.
_FIRST_LOOK, _LAST_LOOK = 0.005, 1.0


async def stop_container(runtime: Runtime, container_id: str, timeout: float) -> None:
    """See RuntimeService.stop_container."""
    container = runtime.store.find_container(container_id)
    if container is None or container.state not in (RUNNING, STARTING):
        return
    with step("container.stop", **container.ids):
        if timeout > 0 and await _asked(container, timeout):
            return
        await kill(container)


async def _asked(container: Container, timeout: float) -> bool:
    """Sends the stop signal; True if the container ended within `timeout` seconds.

    A program that was started a moment ago may not have its handler yet, and to the first process of a pid namespace
    the kernel does not deliver what it has no handler for: then the signal is sent again once it has one. But what
    it has got it is not sent twice, as by containerd: many programs take a second one for impatience, and drop
    everything, while a kubelet that was restarted, or whose call timed out, asks for a stop again.
    """
    number = stop_signal(container.stop_signal)
    lost = await blocking.run(drops_signal, container.pid, number)
    if not container.signalled:
        container.signalled = not lost
        if not await _send(container, number):
            return True
    with anyio.move_on_after(timeout):
        if not container.signalled:
            await _send_when_heard(container, number)
        await container.exited.wait()
        return True
    return False


async def _send_when_heard(container: Container, number: int) -> None:
    pause = _FIRST_LOOK
    while not container.exited.is_set():
        with anyio.move_on_after(pause):
            await container.exited.wait()
        lost = await blocking.run(drops_signal, container.pid, number)
        if container.signalled:
            return
        if not lost:
            container.signalled = True
            await _send(container, number)
            return
        pause = min(pause * 2, _LAST_LOOK)


async def kill(container: Container) -> None:
    """SIGKILL to all of a container's processes, and waits for its end. Raises CRIError if that does not come."""
    if not await _send(container, signal.SIGKILL):
        return
    with anyio.move_on_after(KILL_SECONDS):
        await container.exited.wait()
        return
    raise CRIError(
        f"container {container.config.metadata.name} of pod {container.sandbox.pod} does not end though it was killed",
        hint=f"process {container.pid} is probably in an uninterruptible system call: see /proc/{container.pid}/stack",
    )


async def _send(container: Container, number: int) -> bool:
    """False if the container has ended meanwhile."""
    shim = container.sandbox.shim
    if shim is None or container.exited.is_set():
        return False
    try:
        await shim.signal(number, container=container.id)
    except UnavailableError:
        # The shim is gone and the container with it.
        await container.exited.wait()
        return False
    except FailedPreconditionError as error:
        log.warning("a container could not be signalled", why=str(error), **container.ids)
        return False
    return True


def stop_signal(name: str) -> int:
    """The number of a signal that an image or a pod names: SIGTERM, TERM, 15, SIGRTMIN+3; SIGTERM for nonsense."""
    text = name.upper().strip()
    if text.isdigit():
        number = int(text)
        return number if 0 < number < signal.NSIG else signal.SIGTERM
    if not text.startswith("SIG"):
        text = f"SIG{text}"
    base, _, up = text.partition("+")
    base, minus, down = base.partition("-")
    found = getattr(signal, base, None)
    offset = up or down or "0"
    if not isinstance(found, signal.Signals) or not offset.isdigit():
        return signal.SIGTERM
    number = found + (-int(offset) if minus else int(offset))
    return number if 0 < number < signal.NSIG else signal.SIGTERM
