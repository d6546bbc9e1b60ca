"""/metrics, by the names that the kubelet has for the same things, where it has them; the rest begins with podlite_.

Source: pkg/kubelet/metrics/metrics.go (names, labels, buckets), Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from podlite import steps
from podlite.agent.sources.static_pods import is_static
from podlite.cri.types import ContainerState
from podlite.kubelet.labels import is_sidecar
from podlite.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from podlite.agent.node import Node

# The steps that are calls of CRI: how the kubelet names them.
_OPERATIONS = {
    "sandbox.run": "run_podsandbox",
    "sandbox.stop": "stop_podsandbox",
    "sandbox.remove": "remove_podsandbox",
    "container.create": "create_container",
    "container.start": "start_container",
    "container.stop": "stop_container",
    "container.remove": "remove_container",
    "exec.start": "exec",
}
# metrics.DefBuckets of the runtime's operations: from 5 ms, each 2.5 times the one before.
_BUCKETS = [0.005 * 2.5**power for power in range(14)]
_STATES = {
    ContainerState.CONTAINER_CREATED: "created",
    ContainerState.CONTAINER_RUNNING: "running",
    ContainerState.CONTAINER_EXITED: "exited",
    ContainerState.CONTAINER_UNKNOWN: "unknown",
}


class Metrics:
    """The agent's metrics; `listen` begins to count."""

    def __init__(self, node: Node) -> None:
        self._registry = registry = CollectorRegistry()
        self._stop: Callable[[], None] | None = None
        self._operations = Counter(
            "kubelet_runtime_operations", "Runtime operations by type", ["operation_type"], registry=registry
        )
        self._errors = Counter(
            "kubelet_runtime_operations_errors",
            "Failed runtime operations by type",
            ["operation_type"],
            registry=registry,
        )
        self._durations = Histogram(
            "kubelet_runtime_operations_duration_seconds",
            "Duration of runtime operations by type",
            ["operation_type"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._steps = Counter("podlite_step_seconds", "Time spent in a named step", ["step"], registry=registry)
        self._step_counts = Counter(
            "podlite_steps", "How often a named step was gone through", ["step"], registry=registry
        )
        name = Gauge("kubelet_node_name", "The node's name", ["node"], registry=registry)
        name.labels(node.kubelet.config.node_name).set(1)
        Gauge("podlite_build_info", "The version of podlite", ["version"], registry=registry).labels(__version__).set(1)
        registry.register(_Pods(node))
        ProcessCollector(registry=registry)

    def listen(self) -> None:
        """Counts the steps of this process from now on."""
        self._stop = steps.listen(self._step)

    def close(self) -> None:
        """Idempotent."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _step(self, span: steps.Span) -> None:
        """From any thread: the client library locks."""
        seconds = (span.end_ns - span.start_ns) / 1e9
        self._steps.labels(span.name).inc(max(seconds, 0))
        self._step_counts.labels(span.name).inc()
        operation = _OPERATIONS.get(span.name)
        if operation is not None:
            self._operations.labels(operation).inc()
            self._durations.labels(operation).observe(max(seconds, 0))
            if span.error:
                self._errors.labels(operation).inc()

    def render(self) -> tuple[bytes, str]:
        """(the text exposition format, its media type)."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Pods(Collector):
    """What is counted when somebody asks."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterable[Metric]:
        kubelet = self._node.kubelet
        running = 0
        states: dict[str, int] = dict.fromkeys(_STATES.values(), 0)
        desired = {"true": 0, "false": 0}
        active = {"true": 0, "false": 0}
        restarts = {"container": 0, "init_container": 0}
        for pod in kubelet.pods():
            status = kubelet.runtime_status(pod.metadata.uid)
            running += bool(status.running_containers())
            for each in status.containers:
                states[_STATES[each.state]] += 1
            static = "true" if is_static(pod) else "false"
            desired[static] += 1
            active[static] += pod.status.phase not in ("Succeeded", "Failed")
            restarts["container"] += sum(each.restart_count for each in pod.status.container_statuses)
            sidecars = {each.name for each in pod.spec.init_containers if is_sidecar(each)}
            restarts["init_container"] += sum(
                each.restart_count for each in pod.status.init_container_statuses if each.name in sidecars
            )
        pods = GaugeMetricFamily("kubelet_running_pods", "Number of pods that have a running pod sandbox")
        pods.add_metric([], running)
        yield pods
        for name, text, label, values in (
            ("kubelet_running_containers", "Number of containers by state", "container_state", states),
            ("kubelet_desired_pods", "Number of pods that there should be", "static", desired),
            ("kubelet_active_pods", "Number of pods that are not over", "static", active),
            ("podlite_container_restarts", "Restarts of the containers there are", "container_type", restarts),
        ):
            family = GaugeMetricFamily(name, text, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            yield family
