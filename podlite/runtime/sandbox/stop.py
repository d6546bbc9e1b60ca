"""StopPodSandbox: every process of the pod ends, then its network is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite import log
from podlite.cri.errors import CRIError
from podlite.errors import explain
from podlite.runtime.sandbox.run import remove_network
from podlite.runtime.store import RUNNING, Sandbox
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.runtime.network.interface import PodNetwork
    from podlite.runtime.service import Runtime


async def stop_pod_sandbox(runtime: Runtime, pod_sandbox_id: str) -> None:
    """See RuntimeService.stop_pod_sandbox."""
    sandbox = runtime.store.find_sandbox(pod_sandbox_id)
    if sandbox is None:
        return
    async with sandbox.busy:
        await stop(runtime, sandbox)


async def stop(runtime: Runtime, sandbox: Sandbox) -> None:
    """Stops a sandbox; idempotent, and after a failure it can be tried again. Raises CRIError."""
    if sandbox.stopped:
        return
    with step("sandbox.stop", **sandbox.ids):
        was_ready, sandbox.ready, sandbox.stopping = sandbox.ready, False, True
        if sandbox.shim is not None:
            with step("shim.stop", **sandbox.ids):
                if not await sandbox.shim.shutdown():
                    raise _does_not_end(sandbox)
                sandbox.shim.close()
        network = runtime.network_for(sandbox)
        try:
            await runtime.threads.run(lambda own_netns: _take_back(runtime, network, sandbox))
        except OSError as error:
            raise CRIError(f"the network of pod {sandbox.pod} cannot be taken back: {explain(error)}") from error
        sandbox.stopped = True
    if was_ready:
        runtime.events.sandbox_stopped(sandbox)


def _take_back(runtime: Runtime, network: PodNetwork, sandbox: Sandbox) -> None:
    """The pod's network, and what pods share if this is the last one that such a process has.

    That would go when the runtime is closed; but what nf_tables deletes is gone after a grace period of 7 ms, and the
    process cannot end before, so it is deleted while there is something else to do.
    """
    remove_network(network, sandbox)
    if runtime.is_last(sandbox):
        try:
            runtime.networks.release_unused()
        except (OSError, CRIError) as error:
            log.debug("what pods share on the host is tried again later", why=explain(error))


def _does_not_end(sandbox: Sandbox) -> CRIError:
    pids = [str(each.pid) for each in sandbox.containers.values() if each.state == RUNNING and each.pid]
    return CRIError(
        f"the processes of pod {sandbox.pod} do not end though they were killed",
        hint="one of them is probably in an uninterruptible system call, or frozen by somebody: see "
        + " ".join(f"/proc/{pid}/stack" for pid in pids),
    )
