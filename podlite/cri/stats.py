"""The messages of CRI v1 that say what sandboxes and containers use: stats and metrics.

Apart from `podlite.cri.types` because nobody who only runs a pod needs them. Times are nanoseconds since the
epoch, sizes are bytes; None means that the runtime does not say.

Source: k8s.io/cri-api/pkg/apis/runtime/v1/api.proto, as of Kubernetes 1.36.
"""

from __future__ import annotations

from enum import IntEnum

from podlite.cri.types import ContainerMetadata, FilesystemUsage, Message, PodSandboxMetadata


class MetricType(IntEnum):
    COUNTER = 0
    GAUGE = 1


class PsiData(Message):
    """`Total` is nanoseconds; the averages are percent of the last 10, 60 and 300 seconds."""

    Total: int = 0
    Avg10: float = 0.0
    Avg60: float = 0.0
    Avg300: float = 0.0


class PsiStats(Message):
    """Pressure stall information: while all tasks waited, and while some did."""

    Full: PsiData | None = None
    Some: PsiData | None = None


class CpuUsage(Message):
    """`usage_nano_cores` is the rate over the last moments, `usage_core_nano_seconds` the sum since the start."""

    timestamp: int = 0
    usage_core_nano_seconds: int | None = None
    usage_nano_cores: int | None = None
    psi: PsiStats | None = None


class MemoryUsage(Message):
    """`available_bytes` is what is left up to the limit; without a limit it is None."""

    timestamp: int = 0
    working_set_bytes: int | None = None
    available_bytes: int | None = None
    usage_bytes: int | None = None
    rss_bytes: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    psi: PsiStats | None = None


class IoUsage(Message):
    timestamp: int = 0
    psi: PsiStats | None = None


class SwapUsage(Message):
    timestamp: int = 0
    swap_available_bytes: int | None = None
    swap_usage_bytes: int | None = None


class ProcessUsage(Message):
    timestamp: int = 0
    process_count: int | None = None


class NetworkInterfaceUsage(Message):
    """Seen from inside the pod: what it received and sent."""

    name: str = ""
    rx_bytes: int | None = None
    rx_errors: int | None = None
    tx_bytes: int | None = None
    tx_errors: int | None = None


class NetworkUsage(Message):
    timestamp: int = 0
    default_interface: NetworkInterfaceUsage | None = None
    interfaces: list[NetworkInterfaceUsage] = []


class ContainerAttributes(Message):
    id: str = ""
    metadata: ContainerMetadata | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ContainerStats(Message):
    """Of a container that does not run there are the attributes and the writable layer only."""

    attributes: ContainerAttributes
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    writable_layer: FilesystemUsage | None = None
    swap: SwapUsage | None = None
    io: IoUsage | None = None


class ContainerStatsFilter(Message):
    """All given conditions must hold; the ids may be unique prefixes."""

    id: str = ""
    pod_sandbox_id: str = ""
    label_selector: dict[str, str] = {}


class PodSandboxAttributes(Message):
    id: str = ""
    metadata: PodSandboxMetadata | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class LinuxPodSandboxStats(Message):
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    network: NetworkUsage | None = None
    process: ProcessUsage | None = None
    containers: list[ContainerStats] = []
    io: IoUsage | None = None


class PodSandboxStats(Message):
    attributes: PodSandboxAttributes
    linux: LinuxPodSandboxStats | None = None


class PodSandboxStatsFilter(Message):
    """All given conditions must hold; an `id` may be a unique prefix."""

    id: str = ""
    label_selector: dict[str, str] = {}


class MetricDescriptor(Message):
    """`label_keys` name, in order, what every sample's `label_values` are."""

    name: str = ""
    help: str = ""
    label_keys: list[str] = []


class Metric(Message):
    """One sample; a `timestamp` of 0 means now."""

    name: str = ""
    timestamp: int = 0
    metric_type: MetricType = MetricType.COUNTER
    label_values: list[str] = []
    value: int | None = None


class ContainerMetrics(Message):
    container_id: str = ""
    metrics: list[Metric] = []


class PodSandboxMetrics(Message):
    pod_sandbox_id: str = ""
    metrics: list[Metric] = []
    container_metrics: list[ContainerMetrics] = []
