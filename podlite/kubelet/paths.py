"""Where the kubelet keeps what belongs to a pod. Names only; nothing here touches the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig


def pod_dir(config: KubeletConfig, uid: str) -> str:
    """The pod's directory: volumes, termination messages, the managed /etc/hosts."""
    return f"{config.state_dir}/pods/{uid}"


def pod_container_dir(config: KubeletConfig, uid: str, container: str) -> str:
    """Where the termination messages of a container's instances lie, a file for each."""
    return f"{pod_dir(config, uid)}/containers/{container}"


def pod_record_dir(config: KubeletConfig, uid: str) -> str:
    """The pod's part of the run directory, where `pod.json` lies."""
    return f"{config.run_dir}/pods/{uid}"


def pod_logs_dir(config: KubeletConfig, pod: Pod) -> str:
    meta = pod.metadata
    return f"{config.log_dir}/{meta.namespace}_{meta.name}_{meta.uid}"


def container_logs_dir(config: KubeletConfig, pod: Pod, container: str) -> str:
    return f"{pod_logs_dir(config, pod)}/{container}"


def container_log_path(container: str, restart_count: int) -> str:
    """A container's log, relative to the pod's log directory."""
    return f"{container}/{restart_count}.log"


def pod_uid_of_logs_dir(name: str) -> str:
    """The pod's UID in the name of a log directory, or an empty string."""
    parts = name.split("_")
    return parts[-1] if len(parts) == 3 else ""
