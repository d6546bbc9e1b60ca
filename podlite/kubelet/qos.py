"""What a pod's quality of service means to the OOM killer.

Source: pkg/kubelet/qos/policy.go, Kubernetes 1.36; pod-level resources are refused here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.qos import BEST_EFFORT, GUARANTEED, qos_class

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod

GUARANTEED_SCORE = -997
BEST_EFFORT_SCORE = 1000
# A guaranteed pod that uses all memory has a score of 10, and -997 brings that to nothing: burstable ones stay above.
_LOWEST_BURSTABLE = 1000 + GUARANTEED_SCORE

_SYSTEM_NODE_CRITICAL = "system-node-critical"


def pod_qos(pod: Pod) -> str:
    """The class in the status if it is there already, or else as computed. Pure."""
    return pod.status.qos_class or qos_class(pod)


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """-997 to 1000: the less memory a burstable container requests, the sooner it is killed. Pure.

    A sidecar is killed no sooner than the app container that requests least.
    """
    if pod.spec.priority_class_name == _SYSTEM_NODE_CRITICAL:
        return GUARANTEED_SCORE
    qos = pod_qos(pod)
    if qos == GUARANTEED:
        return GUARANTEED_SCORE
    if qos == BEST_EFFORT:
        return BEST_EFFORT_SCORE
    score = _score(_memory_request(container), memory_capacity)
    if container.restart_policy == "Always" and any(each.name == container.name for each in pod.spec.init_containers):
        least = min([_memory_request(each) for each in pod.spec.containers], default=0)
        score = min(score, _score(least, memory_capacity))
    return min(max(score, _LOWEST_BURSTABLE), BEST_EFFORT_SCORE - 1)


def _score(request: int, memory_capacity: int) -> int:
    return 1000 - 1000 * request // memory_capacity if memory_capacity else BEST_EFFORT_SCORE - 1


def _memory_request(container: Container) -> int:
    requests = container.resources.requests
    return quantity.parse(requests["memory"]).value() if "memory" in requests else 0
