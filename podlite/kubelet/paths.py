"""Where the kubelet keeps what belongs to a pod, and finds what belongs to the machine. Names only; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def default_config_paths(environment: Mapping[str, str], uid: int) -> tuple[str, ...]:
    """Where docker and podman keep a user's credentials, in the order in which they are tried. Pure."""
    home = environment.get("HOME") or "/root"
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    podman = "/run/containers/0/auth.json" if uid == 0 else f"{runtime}/containers/auth.json"
    stated = environment.get("REGISTRY_AUTH_FILE")
    return tuple(filter(None, (stated, f"{docker}/config.json", podman, f"{home}/.dockercfg")))
