"""Where volumes are: the kubelet's directory names, below the pod's directory. Names only; touches no disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.paths import pod_dir

if TYPE_CHECKING:
    from podlite.api.volumes import Volume
    from podlite.kubelet.types import KubeletConfig

EMPTY_DIR = "kubernetes.io~empty-dir"
CONFIG_MAP = "kubernetes.io~configmap"
SECRET = "kubernetes.io~secret"  # noqa: S105 - a directory's name
DOWNWARD_API = "kubernetes.io~downward-api"
PROJECTED = "kubernetes.io~projected"
LOCAL = "kubernetes.io~local-volume"

# The directories that volumes of the pod's own are in; those in memory are mount points.
PLUGINS = (EMPTY_DIR, CONFIG_MAP, SECRET, DOWNWARD_API, PROJECTED)

# Their content is the kubelet's; containers see it read-only, and it follows its source.
_PROJECTIONS = ("config_map", "secret", "downward_api", "projected")


def volumes_dir(config: KubeletConfig, uid: str) -> str:
    return f"{pod_dir(config, uid)}/volumes"


def volume_dir(config: KubeletConfig, uid: str, plugin: str, name: str) -> str:
    return f"{volumes_dir(config, uid)}/{plugin}/{name}"


def ready_file(config: KubeletConfig, uid: str, name: str) -> str:
    """Says that a volume has been given to the pod's group, which is not to be done again under a running pod."""
    return f"{pod_dir(config, uid)}/plugins/{EMPTY_DIR}/{name}/ready"


def sub_paths_dir(config: KubeletConfig, uid: str) -> str:
    return f"{pod_dir(config, uid)}/volume-subpaths"


def local_volumes_dir(config: KubeletConfig) -> str:
    """The named volumes that outlive pods."""
    return f"{config.state_dir}/volumes"


def local_volume_name(namespace: str, claim: str) -> str:
    """A claim's directory: `_` is in no name of either, so the two cannot be confused."""
    return f"{namespace}_{claim}"


def is_projection(volume: Volume) -> bool:
    """Whether the volume's content comes from the API: read-only for containers, and updated."""
    return any(getattr(volume, source) is not None for source in _PROJECTIONS)


def is_read_only(volume: Volume) -> bool:
    """Whether containers get the volume read-only whatever their mount says."""
    claim = volume.persistent_volume_claim
    return is_projection(volume) or (claim is not None and claim.read_only)
