"""What the kubelet writes on sandboxes and containers, and reads back: a pod can be adopted from its runtime alone.

Source: k8s.io/kubelet/pkg/types/labels.go, pkg/kubelet/kuberuntime/labels.go and
pkg/kubelet/container/helpers.go, Kubernetes 1.36.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podlite.api.container import Container, ContainerPort
    from podlite.api.pod import Pod
    from podlite.api.probes import LifecycleHandler

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP_HANDLER = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
DELETION_GRACE_PERIOD = "io.kubernetes.pod.deletionGracePeriod"
TERMINATION_GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"


def pod_labels(pod: Pod) -> dict[str, str]:
    """The labels of a pod's sandbox: the pod's own, and its identity."""
    meta = pod.metadata
    return {**meta.labels, POD_NAME: meta.name, POD_NAMESPACE: meta.namespace, POD_UID: meta.uid}


def pod_annotations(pod: Pod) -> dict[str, str]:
    """The annotations of a pod's sandbox."""
    return dict(pod.metadata.annotations)


def container_labels(pod: Pod, container: Container) -> dict[str, str]:
    meta = pod.metadata
    return {
        POD_NAME: meta.name,
        POD_NAMESPACE: meta.namespace,
        POD_UID: meta.uid,
        CONTAINER_NAME: container.name,
    }


def container_annotations(pod: Pod, container: Container, restart_count: int) -> dict[str, str]:
    """What must be known about a container to restart and to kill it, should the pod's manifest be lost."""
    annotations = {
        HASH: f"{hash_container(container):x}",
        RESTART_COUNT: str(restart_count),
        TERMINATION_MESSAGE_PATH: container.termination_message_path,
        TERMINATION_MESSAGE_POLICY: container.termination_message_policy,
    }
    if pod.metadata.deletion_grace_period_seconds is not None:
        annotations[DELETION_GRACE_PERIOD] = str(pod.metadata.deletion_grace_period_seconds)
    if pod.spec.termination_grace_period_seconds is not None:
        annotations[TERMINATION_GRACE_PERIOD] = str(pod.spec.termination_grace_period_seconds)
    if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
        annotations[PRE_STOP_HANDLER] = msgspec.json.encode(container.lifecycle.pre_stop).decode()
    if container.ports:
        annotations[PORTS] = msgspec.json.encode(container.ports).decode()
    return annotations


def number(values: Mapping[str, str], key: str, base: int = 10) -> int:
    """The number in a label or annotation; 0 where it is missing or cannot be read, as the kubelet does."""
    try:
        return int(values.get(key, "0"), base)
    except ValueError:
        return 0


def restore_pod(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Pod:
    """A pod with one container, as far as a container's labels and annotations tell: enough to kill it."""
    from podlite.api.container import Container
    from podlite.api.meta import ObjectMeta
    from podlite.api.pod import Pod, PodSpec
    from podlite.api.probes import Lifecycle

    container = Container(
        name=labels.get(CONTAINER_NAME, ""),
        ports=_restore_ports(annotations),
        termination_message_path=annotations.get(TERMINATION_MESSAGE_PATH, ""),
        termination_message_policy=annotations.get(TERMINATION_MESSAGE_POLICY, ""),
    )
    pre_stop = _restore_pre_stop(annotations)
    if pre_stop is not None:
        container.lifecycle = Lifecycle(pre_stop=pre_stop)
    return Pod(
        metadata=ObjectMeta(
            name=labels.get(POD_NAME, ""),
            namespace=labels.get(POD_NAMESPACE, ""),
            uid=labels.get(POD_UID, ""),
            deletion_grace_period_seconds=_optional_number(annotations, DELETION_GRACE_PERIOD),
        ),
        spec=PodSpec(
            containers=[container],
            termination_grace_period_seconds=_optional_number(annotations, TERMINATION_GRACE_PERIOD),
        ),
    )


def _optional_number(annotations: Mapping[str, str], key: str) -> int | None:
    return number(annotations, key) if key in annotations else None


def _restore_pre_stop(annotations: Mapping[str, str]) -> LifecycleHandler | None:
    from podlite.api.decode import from_builtins
    from podlite.api.probes import LifecycleHandler

    try:
        return from_builtins(msgspec.json.decode(annotations[PRE_STOP_HANDLER]), LifecycleHandler)
    except (KeyError, ValueError, msgspec.DecodeError):
        return None


def _restore_ports(annotations: Mapping[str, str]) -> list[ContainerPort]:
    from podlite.api.container import ContainerPort
    from podlite.api.decode import from_builtins

    try:
        return [from_builtins(each, ContainerPort) for each in msgspec.json.decode(annotations[PORTS])]
    except (KeyError, ValueError, TypeError, msgspec.DecodeError):
        return []


def hash_container(container: Container) -> int:
    """The hash by which a running container is compared with its specification: the kubelet's own number.

    Only the name and the image count: nothing else of a container can be changed in place.
    """
    return _hash(container.name, container.image)


@lru_cache(maxsize=1024)
def _hash(name: str, image: str) -> int:
    # FNV-1a over the JSON's bytes as Go's spew prints them, which is what DeepHashObject feeds to it.
    text = msgspec.json.encode({"image": image, "name": name})
    for letter in b"<>&":
        text = text.replace(bytes([letter]), b"\\u%04x" % letter)
    value = 0x811C9DC5
    for each in f"([]uint8)[{' '.join(map(str, text))}]".encode():
        value = ((value ^ each) * 0x01000193) & 0xFFFFFFFF
    return value


def format_pod(pod: Pod) -> str:
    """`name_namespace(uid)`, as the kubelet's messages name a pod."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def pod_name(pod: Pod) -> str:
    """`namespace/name`, as log and steps name a pod."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def is_sidecar(container: Container) -> bool:
    """Whether an init container is a restartable one; only to be asked of init containers."""
    return container.restart_policy == "Always"


def has_sidecar(pod: Pod) -> bool:
    return any(each.restart_policy == "Always" for each in pod.spec.init_containers)


def all_containers(pod: Pod) -> Iterator[Container]:
    """Init, app and ephemeral containers."""
    yield from pod.spec.init_containers
    yield from pod.spec.containers
    yield from pod.spec.ephemeral_containers


def find_container(pod: Pod, name: str) -> Container | None:
    for each in all_containers(pod):
        if each.name == name:
            return each
    return None


def field_path(pod: Pod, name: str) -> str:
    """Where in the pod a container is, as events say it: `spec.containers{web}`."""
    for group, containers in (
        ("containers", pod.spec.containers),
        ("initContainers", pod.spec.init_containers),
        ("ephemeralContainers", pod.spec.ephemeral_containers),
    ):
        for each in containers:
            if each.name == name:
                return f"spec.{group}{{{name}}}"
    return f"implicitly required container {name}"
