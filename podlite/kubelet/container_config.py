"""From a container of a pod to the request of CreateContainer.

Source: generateContainerConfig in pkg/kubelet/kuberuntime/kuberuntime_container.go and
GenerateRunContainerOptions in pkg/kubelet/kubelet_pods.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.types import ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig
from podlite.kubelet import labels, node
from podlite.kubelet.hostname import pod_names
from podlite.kubelet.paths import container_log_path, container_logs_dir
from podlite.kubelet.pod_files import hosts_mount, make_log_directory, termination_log_mount
from podlite.kubelet.resources import container_resources
from podlite.kubelet.security import container_security, pod_user_namespace, verify_run_as_non_root
from podlite.kubelet.types import ContainerConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.cri.types import Image, Mount
    from podlite.kubelet.types import KubeletConfig, ObjectStore


def make_container_config(
    pod: Pod,
    container: Container,
    config: KubeletConfig,
    *,
    restart_count: int,
    image_ref: str,
    image: Image | None,
    pod_ips: Sequence[str],
    objects: ObjectStore,
    volumes: Mapping[str, str] | None = None,
    image_volumes: Mapping[str, ImageSpec] | None = None,
    recursive_read_only: bool = True,
    target_container_id: str = "",
) -> ContainerConfig:
    """One instance of a container. Blocking: it writes the pod's hosts file and a termination message file, makes the
    log directory and prepares subPaths.

    `image` is what ImageStatus said of the image (for its user), `image_ref` what it is created from; `volumes` are the
    host's paths that VolumeManager.set_up returned, `image_volumes` the pulled images of volumes, both by volume name;
    `recursive_read_only` says whether the runtime can do that; `target_container_id` is the container that an
    ephemeral one debugs. Raises ContainerConfigError, with the kubelet's text.
    """
    environment = _environment(pod, container, config, pod_ips, objects)
    mounts = _mounts(
        pod, container, config, pod_ips, environment, volumes or {}, image_volumes or {}, recursive_read_only
    )
    uid, username = _image_user(image)
    verify_run_as_non_root(pod, container, uid, username)
    namespace = pod_user_namespace(pod, config)
    for mount in mounts:
        mount.uidMappings = namespace.uids
        mount.gidMappings = namespace.gids
    command, args = list(container.command), list(container.args)
    if any("$" in word for words in (command, args) for word in words):
        from podlite.kubelet.expansion import expand_all

        variables = dict(environment)
        command, args = expand_all(command, variables), expand_all(args, variables)
    log_directory = container_logs_dir(config, pod, container.name)
    try:
        make_log_directory(log_directory)
    except OSError as error:
        raise ContainerConfigError(
            f"create container log directory for container {container.name} failed: {log_directory}: {error.strerror}"
        ) from error
    return ContainerConfig(
        metadata=ContainerMetadata(name=container.name, attempt=restart_count),
        image=ImageSpec(image=image_ref, user_specified_image=container.image),
        command=command,
        args=args,
        working_dir=container.working_dir,
        envs=[KeyValue(key=name, value=value.encode("utf-8", "surrogateescape")) for name, value in environment],
        mounts=mounts,
        labels=labels.container_labels(pod, container),
        annotations=labels.container_annotations(pod, container, restart_count),
        log_path=container_log_path(container.name, restart_count),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        stop_signal=(container.lifecycle.stop_signal or "") if container.lifecycle is not None else "",
        linux=LinuxContainerConfig(
            resources=container_resources(pod, container, config),
            security_context=container_security(
                pod,
                container,
                uid=uid,
                username=username,
                user_namespace=namespace,
                target_container_id=target_container_id,
                seccomp_root=config.seccomp_profile_root,
                seccomp_default=config.seccomp_default,
            ),
        ),
    )


def _environment(
    pod: Pod, container: Container, config: KubeletConfig, pod_ips: Sequence[str], objects: ObjectStore
) -> list[tuple[str, str]]:
    if not container.env and not container.env_from:
        return []
    from podlite.kubelet.env import make_environment

    return make_environment(
        pod,
        container,
        pod_ips=pod_ips,
        host_ips=config.host_ips,
        node_name=config.node_name,
        objects=objects,
        allocatable=lambda: node.allocatable(config),
    )


def _mounts(
    pod: Pod,
    container: Container,
    config: KubeletConfig,
    pod_ips: Sequence[str],
    environment: list[tuple[str, str]],
    volumes: Mapping[str, str],
    image_volumes: Mapping[str, ImageSpec],
    recursive_read_only: bool,
) -> list[Mount]:
    if container.volume_devices:
        device = container.volume_devices[0]
        raise ContainerConfigError(f'cannot find volume "{device.name}" to pass into container "{container.name}"')
    mounts: list[Mount] = []
    if container.volume_mounts:
        from podlite.kubelet.volumes.mounts import make_mounts

        mounts = make_mounts(
            pod,
            container,
            config,
            volumes=volumes,
            image_volumes=image_volumes,
            environment=dict(environment),
            recursive_read_only=recursive_read_only,
        )
    hosts = hosts_mount(pod, container, config, pod_names(pod, config.cluster_domain), pod_ips)
    if hosts is not None:
        mounts.append(hosts)
    message = termination_log_mount(pod, container, config)
    if message is not None:
        mounts.append(message)
    return mounts


def _image_user(image: Image | None) -> tuple[int | None, str]:
    """The image's user, as a number or a name; one that says nothing runs as root."""
    if image is not None and image.uid is not None:
        return image.uid, ""
    if image is not None and image.username:
        return None, image.username
    return 0, ""
