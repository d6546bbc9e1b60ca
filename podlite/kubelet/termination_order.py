"""The order in which the containers of a pod with sidecars end: the app containers together, then each sidecar
after those that were started after it.

Source: pkg/kubelet/kuberuntime/kuberuntime_termination_order.go, Kubernetes 1.36; KEP-753.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from podlite.kubelet.labels import is_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.api.pod import Pod
    from podlite.kubelet.clock import Clock


def prerequisites(pod: Pod) -> dict[str, tuple[str, ...]]:
    """For each sidecar the containers that must have ended before it is stopped; others wait for nobody. Pure."""
    apps = tuple(each.name for each in pod.spec.containers)
    result: dict[str, tuple[str, ...]] = {}
    later = ""
    for container in reversed(pod.spec.init_containers):
        if is_sidecar(container):
            result[container.name] = (*apps, later) if later else apps
            later = container.name
    return result


class TerminationOrder:
    """Makes the containers of one pod wait for each other, those in `running`; the others count as ended."""

    def __init__(self, pod: Pod, running: Iterable[str], clock: Clock) -> None:
        self._clock = clock
        self._prerequisites = prerequisites(pod)
        self._ended = {name: anyio.Event() for name in running}

    async def wait_for_turn(self, name: str, seconds: float) -> float:
        """Waits until `name` may be stopped, at most `seconds`; returns the seconds that took."""
        started = self._clock.monotonic()
        with self._clock.timeout(seconds):
            for each in self._prerequisites.get(name, ()):
                if each in self._ended:
                    await self._ended[each].wait()
        return self._clock.monotonic() - started

    def ended(self, name: str) -> None:
        """`name` has ended."""
        if name in self._ended:
            self._ended[name].set()
