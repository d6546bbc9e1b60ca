"""Status, PodSandboxStatus, ListPodSandbox, ContainerStatus and ListContainers: what is known, in CRI's words. Pure."""

from __future__ import annotations

from podlite.cri.types import Container as CRIContainer
from podlite.cri.types import (
    ContainerFilter,
    ContainerStatus,
    ImageSpec,
    NamespaceMode,
    PodSandbox,
    PodSandboxFilter,
    PodSandboxNetworkStatus,
    PodSandboxState,
    PodSandboxStatus,
    RuntimeCondition,
    RuntimeHandler,
    RuntimeStatus,
)
from podlite.runtime.labelled import Labelled
from podlite.runtime.store import CRI_STATES, Container, Sandbox


def runtime_status(problems: list[str], handlers: tuple[str, ...]) -> RuntimeStatus:
    """The runtime's own; `problems` are the network's."""
    network = RuntimeCondition(type="NetworkReady", status=not problems)
    if problems:
        network.reason = "NetworkPluginNotReady"
        network.message = " ".join(problems)
    return RuntimeStatus(
        conditions=[RuntimeCondition(type="RuntimeReady", status=True), network],
        runtime_handlers=[
            RuntimeHandler(name=name, recursive_read_only_mounts=True, user_namespaces=True) for name in handlers
        ],
        supplemental_groups_policy=True,
    )


def pod_sandbox_status(sandbox: Sandbox) -> PodSandboxStatus:
    """One sandbox, whole."""
    return PodSandboxStatus(
        id=sandbox.id,
        metadata=sandbox.config.metadata,
        state=_sandbox_state(sandbox),
        created_at=sandbox.created_at,
        network=_network_status(sandbox),
        namespaces=sandbox.namespaces,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.runtime_handler,
    )


def _network_status(sandbox: Sandbox) -> PodSandboxNetworkStatus | None:
    """None for a pod without any network: to a kubelet, one with a network and no address in it is broken."""
    if sandbox.ready and not sandbox.ips and sandbox.namespaces.network != NamespaceMode.NODE:
        return None
    return PodSandboxNetworkStatus(ip=sandbox.ips[0] if sandbox.ips else "", additional_ips=sandbox.ips[1:])


def _sandbox_state(sandbox: Sandbox) -> PodSandboxState:
    return PodSandboxState.SANDBOX_READY if sandbox.ready else PodSandboxState.SANDBOX_NOTREADY


def list_pod_sandbox(sandboxes: Labelled[Sandbox], filter: PodSandboxFilter | None) -> list[PodSandbox]:
    """The sandboxes that match every condition of the filter."""
    wanted = filter or PodSandboxFilter()
    return [
        PodSandbox(
            id=each.id,
            metadata=each.config.metadata,
            state=_sandbox_state(each),
            created_at=each.created_at,
            labels=each.config.labels,
            annotations=each.config.annotations,
            runtime_handler=each.runtime_handler,
        )
        for each in sandboxes.having(wanted.label_selector)
        if each.id.startswith(wanted.id) and wanted.state in (None, _sandbox_state(each))
    ]


def container_status(container: Container) -> ContainerStatus:
    """One container, whole."""
    config = container.config
    state = CRI_STATES[container.state]
    return ContainerStatus(
        id=container.id,
        metadata=config.metadata,
        state=state,
        created_at=container.created_at,
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code,
        image=ImageSpec(
            image=config.image.user_specified_image or config.image.image,
            user_specified_image=config.image.user_specified_image,
        ),
        image_ref=container.image_ref,
        reason=container.reason,
        message=container.message,
        labels=config.labels,
        annotations=config.annotations,
        mounts=config.mounts,
        log_path=container.log_path,
        resources=container.resources,
        image_id=container.image_id,
        user=container.user,
        stop_signal=container.stop_signal,
    )


def list_containers(containers: Labelled[Container], filter: ContainerFilter | None) -> list[CRIContainer]:
    """The containers that match every condition of the filter."""
    wanted = filter or ContainerFilter()
    return [
        CRIContainer(
            id=each.id,
            metadata=each.config.metadata,
            pod_sandbox_id=each.sandbox.id,
            image=each.config.image,
            image_ref=each.image_ref,
            state=CRI_STATES[each.state],
            created_at=each.created_at,
            labels=each.config.labels,
            annotations=each.config.annotations,
            image_id=each.image_id,
        )
        for each in containers.having(wanted.label_selector)
        if each.id.startswith(wanted.id)
        and wanted.state in (None, CRI_STATES[each.state])
        and each.sandbox.id.startswith(wanted.pod_sandbox_id)
    ]


def has_labels(labels: dict[str, str], selector: dict[str, str]) -> bool:
    """Whether all of the selector's labels are there."""
    return all(labels.get(key) == value for key, value in selector.items())
