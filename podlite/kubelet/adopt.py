"""Taking over the pods that another podlite on this machine left running: after an upgrade, or a crash.

What is wanted of a pod is in its `pod.json`, what runs of it the runtime knows; nothing else is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread

from podlite import log
from podlite.kubelet import labels
from podlite.kubelet.phase import TERMINAL
from podlite.kubelet.worker_states import WorkerState
from podlite.kubelet.written_pods import find_pods

if TYPE_CHECKING:
    from collections.abc import Collection

    from podlite.api.pod import Pod
    from podlite.kubelet.kubelet import Kubelet
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.written_pods import WrittenPod


def adopted_state(pod: Pod, runtime: RuntimePodStatus) -> WorkerState:
    """Where a pod that was found goes on. Pure.

    One that was over is released once more, which does no harm; one whose deletion was under way is stopped.
    """
    if pod.status.phase in TERMINAL and runtime.stopped:
        return WorkerState.TERMINATED
    if pod.metadata.deletion_timestamp is not None:
        return WorkerState.TERMINATING
    return WorkerState.SYNC


async def adopt_all(kubelet: Kubelet, leave: Collection[str] = ()) -> list[Pod]:
    """Adopts every pod that is written down in the run directory, and whose it is allowed to be; returns them.

    These are pods whose process is gone and that were to stay, and those with a sandbox in the kubelet's runtime;
    without a sandbox they begin anew. Pods whose UIDs are in `leave` are left alone; so are sandboxes without a file,
    which is logged. Raises CRIError.
    """
    sandboxes = await kubelet.runtime.list_pod_sandbox()
    uids = {each.metadata.uid for each in sandboxes}
    known = {each.metadata.uid for each in kubelet.pods()}
    written = await to_thread.run_sync(_written, kubelet.config.run_dir)
    found = [
        each
        for each in written
        if each.pod.metadata.uid not in known
        and each.pod.metadata.uid not in leave
        and (each.pod.metadata.uid in uids or (each.holder.stay and not each.held and not each.kept))
    ]
    missed = await kubelet.hold_pods([each.pod.metadata.uid for each in found])
    adopted = []
    for each in found:
        if each.pod.metadata.uid not in missed:
            adopted.append(await kubelet.adopt_pod(each.pod))
            log.info("pod adopted", pod=labels.pod_name(each.pod), uid=each.pod.metadata.uid)
    for uid in uids - known - {each.pod.metadata.uid for each in written}:
        log.warning("a sandbox belongs to no pod that is known", uid=uid)
    return adopted


def _written(run_dir: str) -> list[WrittenPod]:
    """Blocking."""
    try:
        return find_pods(run_dir)
    except OSError:
        return []
