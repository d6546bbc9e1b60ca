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
from podlite.kubelet.written_pods import read_pods

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.kubelet.kubelet import Kubelet
    from podlite.kubelet.pod_status import RuntimePodStatus


def adopted_state(pod: Pod, runtime: RuntimePodStatus) -> WorkerState:
    """Where a pod that was found goes on. Pure.

    One that was over is released once more, which does no harm; one whose deletion was under way is stopped.
    """
    if pod.status.phase in TERMINAL and runtime.stopped:
        return WorkerState.TERMINATED
    if pod.metadata.deletion_timestamp is not None:
        return WorkerState.TERMINATING
    return WorkerState.SYNC


async def adopt_all(kubelet: Kubelet) -> list[Pod]:
    """Adopts every pod that has a file in the run directory and a sandbox in the kubelet's runtime; returns them.

    Sandboxes without a file are left alone, and logged. Raises CRIError.
    """
    sandboxes = await kubelet.runtime.list_pod_sandbox()
    uids = {each.metadata.uid for each in sandboxes}
    known = {each.metadata.uid for each in kubelet.pods()}
    found = await to_thread.run_sync(read_pods, kubelet.config.run_dir)
    adopted = []
    for pod in found:
        uid = pod.metadata.uid
        if uid in uids and uid not in known:
            adopted.append(await kubelet.adopt_pod(pod))
            log.info("pod adopted", pod=labels.pod_name(pod), uid=uid)
    for uid in uids - known - {each.metadata.uid for each in found}:
        log.warning("a sandbox belongs to no pod that is known", uid=uid)
    return adopted
