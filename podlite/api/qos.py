"""The quality-of-service class of a pod, from the requests and limits of its containers.

Source: pkg/apis/core/v1/helper/qos/qos.go, Kubernetes 1.36; pod-level resources are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity

if TYPE_CHECKING:
    from podlite.api.base import Quantity
    from podlite.api.pod import Pod

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

_COMPUTE = ("cpu", "memory")


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, of a pod whose requests have been defaulted from its limits."""
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        _add(requests, container.resources.requests)
        guaranteed &= _add(limits, container.resources.limits) == len(_COMPUTE)
    if not requests and not limits:
        return BEST_EFFORT
    return GUARANTEED if guaranteed and requests == limits else BURSTABLE


def _add(total: dict[str, int], resources: dict[str, Quantity]) -> int:
    """Adds up cpu and memory in billionths; says how many of the two are there and above zero."""
    found = 0
    for name in _COMPUTE:
        nanos = quantity.parse(resources[name]).nanos if name in resources else 0
        if nanos > 0:
            total[name] = total.get(name, 0) + nanos
            found += 1
    return found
