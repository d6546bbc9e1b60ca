"""Security contexts: what the pod and the container say together, and what the runtime is told of it.

Sources: pkg/securitycontext/util.go, pkg/kubelet/kuberuntime/security_context.go and helpers.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.api.security import SecurityContext
from podlite.cri.types import (
    Capability,
    LinuxContainerSecurityContext,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    ProfileType,
    SecurityProfile,
    SELinuxOption,
    SupplementalGroupsPolicy,
    UserNamespace,
)
from podlite.kubelet.labels import format_pod
from podlite.kubelet.types import ContainerConfigError

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.api.security import AppArmorProfile, Capabilities, SeccompProfile, SELinuxOptions
    from podlite.kubelet.types import KubeletConfig

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_MAX_USER_ID = 2**31 - 1
_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"

_masked_paths: list[str] = []


def masked_paths() -> list[str]:
    """What a container must not see of /proc and /sys, the throttling counters of each CPU included (they leak what
    other pods compute). Looked up once."""
    if not _masked_paths:
        found = list(_MASKED_PATHS)
        cpus = "/sys/devices/system/cpu"
        for cpu in range(os.cpu_count() or 1):
            path = f"{cpus}/cpu{cpu}/thermal_throttle"
            if os.path.exists(path):
                found.append(path)
        _masked_paths.extend(found)
    return list(_masked_paths)


def effective_security_context(pod: Pod, container: Container) -> SecurityContext:
    """What holds for a container: its own settings, else the pod's. A new object. Pure."""
    shared, own = pod.spec.security_context, container.security_context
    result = SecurityContext()
    if shared is not None:
        result.se_linux_options = shared.se_linux_options
        result.run_as_user = shared.run_as_user
        result.run_as_group = shared.run_as_group
        result.run_as_non_root = shared.run_as_non_root
    if own is not None:
        for field in _OWN:
            value = getattr(own, field)
            if value is not None:
                setattr(result, field, value)
    return result


_OWN = (
    "se_linux_options",
    "capabilities",
    "privileged",
    "run_as_user",
    "run_as_group",
    "run_as_non_root",
    "read_only_root_filesystem",
    "allow_privilege_escalation",
    "proc_mount",
)


def verify_run_as_non_root(pod: Pod, container: Container, uid: int | None, username: str) -> None:
    """Checks runAsNonRoot against the user in the security context, or else the image's. Pure.

    `uid` and `username` are those of the image, at most one set. Raises ContainerConfigError.
    """
    context = effective_security_context(pod, container)
    if not context.run_as_non_root:
        return
    about = f'(pod: "{format_pod(pod)}", container: {container.name})'
    if context.run_as_user is not None:
        if context.run_as_user == 0:
            raise ContainerConfigError(f"container's runAsUser breaks non-root policy {about}")
        return
    if uid is None and username:
        raise ContainerConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({username}), "
            f"cannot verify user is non-root {about}"
        )
    if uid == 0:
        raise ContainerConfigError(f"container has runAsNonRoot and image will run as root {about}")
    if uid is not None and not 0 <= uid <= _MAX_USER_ID:
        raise ContainerConfigError(
            f"container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({_MAX_USER_ID})): "
            f"must be between 0 and {_MAX_USER_ID}, inclusive {about}"
        )


def container_security(
    pod: Pod,
    container: Container,
    *,
    uid: int | None,
    username: str,
    user_namespace: UserNamespace,
    target_container_id: str = "",
    seccomp_root: str,
    seccomp_default: bool = False,
) -> LinuxContainerSecurityContext:
    """What CreateContainer is told. `uid` and `username` are the image's user, at most one set.

    `target_container_id` is the container whose processes an ephemeral one is to see. Raises ContainerConfigError.
    """
    context = effective_security_context(pod, container)
    unmasked = context.proc_mount == "Unmasked"
    result = LinuxContainerSecurityContext(
        capabilities=_capabilities(context.capabilities),
        privileged=bool(context.privileged),
        namespace_options=namespace_options(pod, user_namespace, target_container_id),
        selinux_options=_selinux(context.se_linux_options),
        run_as_user=context.run_as_user,
        run_as_group=context.run_as_group,
        readonly_rootfs=bool(context.read_only_root_filesystem),
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=_groups_policy(pod),
        no_new_privs=context.allow_privilege_escalation is False,
        masked_paths=[] if unmasked else masked_paths(),
        readonly_paths=[] if unmasked else list(READONLY_PATHS),
        seccomp=seccomp_profile(pod, container, seccomp_root, seccomp_default),
        apparmor=_apparmor(pod, container),
    )
    if result.run_as_user is None:
        result.run_as_user = uid
        result.run_as_username = username
    return result


def sandbox_security(pod: Pod, user_namespace: UserNamespace) -> LinuxSandboxSecurityContext:
    """What RunPodSandbox is told. The sandbox itself always runs under the runtime's default seccomp profile. Pure."""
    result = LinuxSandboxSecurityContext(
        privileged=is_privileged(pod),
        seccomp=SecurityProfile(profile_type=ProfileType.RuntimeDefault),
        namespace_options=namespace_options(pod, user_namespace),
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=_groups_policy(pod),
    )
    context = pod.spec.security_context
    if context is not None:
        result.run_as_user = context.run_as_user
        result.run_as_group = context.run_as_group
        result.selinux_options = _selinux(context.se_linux_options)
    return result


def is_privileged(pod: Pod) -> bool:
    """Whether any container of the pod is privileged. Pure."""
    spec = pod.spec
    return any(
        container.security_context is not None and container.security_context.privileged
        for containers in (spec.init_containers, spec.containers, spec.ephemeral_containers)
        for container in containers
    )


def pod_user_namespace(pod: Pod, config: KubeletConfig) -> UserNamespace:
    """The ids of a pod with `hostUsers: false`, none for others. Blocking for the former. Raises KubeletError."""
    if pod.spec.host_users is not False:
        return UserNamespace(mode=NamespaceMode.NODE)
    from podlite.kubelet.userns import user_namespace

    return user_namespace(pod, config)


def namespace_options(pod: Pod, user_namespace: UserNamespace, target_container_id: str = "") -> NamespaceOption:
    """Which namespaces are the host's, the pod's or the container's own. Pure."""
    spec = pod.spec
    pid = NamespaceMode.CONTAINER
    if spec.host_pid:
        pid = NamespaceMode.NODE
    elif spec.share_process_namespace:
        pid = NamespaceMode.POD
    elif target_container_id:
        pid = NamespaceMode.TARGET
    return NamespaceOption(
        network=NamespaceMode.NODE if spec.host_network else NamespaceMode.POD,
        ipc=NamespaceMode.NODE if spec.host_ipc else NamespaceMode.POD,
        pid=pid,
        target_id=target_container_id if pid == NamespaceMode.TARGET else "",
        userns_options=user_namespace,
    )


def supplemental_groups(pod: Pod) -> list[int]:
    """fsGroup and supplementalGroups, in that order. Pure."""
    context = pod.spec.security_context
    if context is None:
        return []
    return ([] if context.fs_group is None else [context.fs_group]) + list(context.supplemental_groups)


def _groups_policy(pod: Pod) -> SupplementalGroupsPolicy:
    context = pod.spec.security_context
    policy = None if context is None else context.supplemental_groups_policy
    if policy not in (None, "Merge", "Strict"):
        raise ContainerConfigError(f"unsupported supplementalGroupsPolicy: {policy}")
    return SupplementalGroupsPolicy.Strict if policy == "Strict" else SupplementalGroupsPolicy.Merge


def _capabilities(given: Capabilities | None) -> Capability | None:
    if given is None:
        return None
    return Capability(add_capabilities=list(given.add), drop_capabilities=list(given.drop))


def _selinux(given: SELinuxOptions | None) -> SELinuxOption | None:
    """Passed on as it is; a runtime on a kernel without SELinux has no use for it, on a cluster as well as here."""
    if given is None:
        return None
    return SELinuxOption(user=given.user, role=given.role, type=given.type, level=given.level)


def seccomp_profile(pod: Pod, container: Container, root: str, default: bool = False) -> SecurityProfile:
    """The container's profile, else the pod's, else none; with `default` the runtime's instead of none. Pure.

    A local profile is a file below `root`. Raises ContainerConfigError.
    """
    own, shared = container.security_context, pod.spec.security_context
    profile: SeccompProfile | None = None if own is None else own.seccomp_profile
    if profile is None and shared is not None:
        profile = shared.seccomp_profile
    if profile is None:
        return SecurityProfile(profile_type=ProfileType.RuntimeDefault if default else ProfileType.Unconfined)
    if profile.type == "RuntimeDefault":
        return SecurityProfile(profile_type=ProfileType.RuntimeDefault)
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            raise ContainerConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
        path = os.path.normpath(f"{root}/{profile.localhost_profile}")
        return SecurityProfile(profile_type=ProfileType.Localhost, localhost_ref=path)
    return SecurityProfile(profile_type=ProfileType.Unconfined)


def app_armor_profile(pod: Pod, container: Container) -> AppArmorProfile | None:
    """The container's profile, else that of the old annotation, else the pod's. Pure."""
    if container.security_context is not None and container.security_context.app_armor_profile is not None:
        return container.security_context.app_armor_profile
    annotation = pod.metadata.annotations.get(_APPARMOR_ANNOTATION + container.name)
    if annotation is not None:
        from podlite.api.security import AppArmorProfile

        if annotation == "runtime/default":
            return AppArmorProfile(type="RuntimeDefault")
        if annotation == "unconfined":
            return AppArmorProfile(type="Unconfined")
        if annotation.startswith("localhost/"):
            return AppArmorProfile(type="Localhost", localhost_profile=annotation.removeprefix("localhost/"))
    return None if pod.spec.security_context is None else pod.spec.security_context.app_armor_profile


def _apparmor(pod: Pod, container: Container) -> SecurityProfile | None:
    profile = app_armor_profile(pod, container)
    if profile is None:
        return None
    if profile.type == "Localhost":
        if profile.localhost_profile is None:
            raise ContainerConfigError("missing localhost apparmor profile name")
        return SecurityProfile(profile_type=ProfileType.Localhost, localhost_ref=profile.localhost_profile)
    if profile.type not in ("RuntimeDefault", "Unconfined"):
        raise ContainerConfigError(f'unknown apparmor profile type: "{profile.type}"')
    return SecurityProfile(profile_type=ProfileType[profile.type])
