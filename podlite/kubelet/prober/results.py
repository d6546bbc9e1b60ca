"""The current result of each container's probe of one kind, and word of its changes.

Source: pkg/kubelet/prober/results/results_manager.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.kubelet.types import ProbeResult


class ResultsManager:
    """`on_change` is called with (pod UID, container id, result) when a result is set that was another or none."""

    __slots__ = ("_on_change", "_results")

    def __init__(self, on_change: Callable[[str, str, ProbeResult], None]) -> None:
        self._results: dict[str, ProbeResult] = {}
        self._on_change = on_change

    def get(self, container_id: str, /) -> ProbeResult | None:
        return self._results.get(container_id)

    def set(self, container_id: str, result: ProbeResult, pod_uid: str) -> None:
        if self._results.get(container_id) is not result:
            self._results[container_id] = result
            self._on_change(pod_uid, container_id, result)

    def remove(self, container_id: str) -> None:
        """Forgets a container; idempotent, and no change."""
        self._results.pop(container_id, None)

    def __len__(self) -> int:
        return len(self._results)
