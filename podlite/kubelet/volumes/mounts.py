"""From a container's volumeMounts to the mounts that the runtime is given.

Source: makeMounts in pkg/kubelet/kubelet_pods.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite import log
from podlite.cri.types import Mount, MountPropagation
from podlite.kubelet.types import ContainerConfigError
from podlite.kubelet.volumes import layout
from podlite.kubelet.volumes.subpath import SubPathError, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.container import Container, VolumeMount
    from podlite.api.pod import Pod
    from podlite.cri.types import ImageSpec
    from podlite.kubelet.types import KubeletConfig

_PROPAGATION = {
    None: MountPropagation.PROPAGATION_PRIVATE,
    "None": MountPropagation.PROPAGATION_PRIVATE,
    "HostToContainer": MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": MountPropagation.PROPAGATION_BIDIRECTIONAL,
}


def make_mounts(
    pod: Pod,
    container: Container,
    config: KubeletConfig,
    *,
    volumes: Mapping[str, str],
    image_volumes: Mapping[str, ImageSpec],
    environment: Mapping[str, str],
    recursive_read_only: bool,
) -> list[Mount]:
    """One mount for each volumeMount, in order. Blocking where there is a subPath, which is made and pinned.

    `volumes` are paths on the host, `image_volumes` pulled images, by volume name; `environment` is the container's,
    for subPathExpr; `recursive_read_only` is what the runtime can do. Raises ContainerConfigError.
    """
    read_only = {volume.name for volume in pod.spec.volumes if layout.is_read_only(volume)}
    result = []
    for index, mount in enumerate(container.volume_mounts):
        image = image_volumes.get(mount.name)
        path = volumes.get(mount.name, "")
        if image is None and not path:
            raise ContainerConfigError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        sub_path = _sub_path(mount, environment)
        if image is None and sub_path:
            path = _prepare(pod, container, config, mount, index, path, sub_path)
        if mount.mount_propagation not in _PROPAGATION:
            raise ContainerConfigError(f'invalid MountPropagation mode: "{mount.mount_propagation}"')
        target = mount.mount_path
        result.append(
            Mount(
                container_path=target if target.startswith("/") else f"/{target}",
                host_path=path if image is None else "",
                image=image,
                image_sub_path=sub_path if image is not None else "",
                readonly=mount.read_only or mount.name in read_only or image is not None,
                recursive_read_only=_recursive(mount, recursive_read_only),
                propagation=_PROPAGATION[mount.mount_propagation],
            )
        )
    return result


def _sub_path(mount: VolumeMount, environment: Mapping[str, str]) -> str:
    sub_path = mount.sub_path
    if mount.sub_path_expr:
        from podlite.kubelet.expansion import expand_strictly

        sub_path, missing = expand_strictly(mount.sub_path_expr, environment)
        if missing:
            raise ContainerConfigError(f"missing value for {', '.join(missing)}")
    if sub_path.startswith("/"):
        raise ContainerConfigError(f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise ContainerConfigError(f"unable to provision SubPath `{sub_path}`: must not contain '..'")
    return sub_path


def _prepare(
    pod: Pod, container: Container, config: KubeletConfig, mount: VolumeMount, index: int, path: str, sub_path: str
) -> str:
    directory = layout.sub_paths_dir(config, pod.metadata.uid)
    target = f"{directory}/{mount.name}/{container.name}/{index}"
    about = f'for volumeMount "{mount.name}" of container "{container.name}"'
    try:
        return prepare(path, sub_path, target)
    except SubPathError as error:
        # The pod is not told more: it could learn about the host from it.
        log.warning("a subPath cannot be used", container=container.name, volume=mount.name, error=error.message)
        what = "failed to create subPath directory" if error.creating else "failed to prepare subPath"
        raise ContainerConfigError(f"{what} {about}") from error


def _recursive(mount: VolumeMount, supported: bool) -> bool:
    mode = mount.recursive_read_only
    if mode in (None, "Disabled"):
        return False
    if not mount.read_only:
        raise ContainerConfigError(f'volume "{mount.name}" requested recursive read-only mode, but it is not read-only')
    if mount.mount_propagation not in (None, "None"):
        raise ContainerConfigError(
            f'volume "{mount.name}" requested recursive read-only mode, but it is not compatible with propagation '
            f'"{mount.mount_propagation}"'
        )
    if mode == "IfPossible":
        return supported
    if mode != "Enabled":
        raise ContainerConfigError(f'unknown recursive read-only mode "{mode}"')
    if not supported:
        raise ContainerConfigError(
            f'volume "{mount.name}" requested recursive read-only mode, but it is not supported by the runtime'
        )
    return True
