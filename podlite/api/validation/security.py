"""Validation of security contexts, and of the old annotations that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names

if TYPE_CHECKING:
    from podlite.api.pod import PodSpec
    from podlite.api.security import (
        AppArmorProfile,
        PodSecurityContext,
        SeccompProfile,
        SecurityContext,
        Sysctl,
    )
    from podlite.api.validation.report import Report

PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_MAX_APPARMOR = 4095
_SYSCTL_MAX = 253
_SYSCTL_FORMAT = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_SYSCTL_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
# fmt: off
_IPC_SYSCTLS = frozenset((
    "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.shm",
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg",
))
# fmt: on


def validate_security_context(context: SecurityContext | None, host_users: bool, path: str, report: Report) -> None:
    """A container's security context; `host_users` is whether the pod is without a user namespace of its own."""
    if context is None:
        return
    if context.run_as_user is not None:
        report.invalids(f"{path}.runAsUser", context.run_as_user, names.user_or_group(context.run_as_user))
    if context.run_as_group is not None:
        report.invalids(f"{path}.runAsGroup", context.run_as_group, names.user_or_group(context.run_as_group))
    if context.proc_mount is not None:
        if context.proc_mount not in ("Default", "Unmasked"):
            report.not_supported(f"{path}.procMount", context.proc_mount, ("Default", "Unmasked"))
        if host_users and context.proc_mount == "Unmasked":
            report.invalid(f"{path}.procMount", context.proc_mount, "`hostUsers` must be false to use `Unmasked`")
    _seccomp(context.seccomp_profile, f"{path}.seccompProfile", report)
    if context.allow_privilege_escalation is False:
        if context.privileged:
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            report.invalid(path, context, detail)
        for name in context.capabilities.add if context.capabilities is not None else ():
            if name == "CAP_SYS_ADMIN":
                detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
                report.invalid(path, context, detail)
    if context.windows_options is not None:
        from podlite.api.validation.windows import validate_windows_options

        validate_windows_options(context.windows_options, f"{path}.windowsOptions", report)
    _apparmor(context.app_armor_profile, f"{path}.appArmorProfile", report)


def validate_pod_security_context(spec: PodSpec, path: str, report: Report) -> None:
    context = spec.security_context
    if context is None:
        return
    if context.fs_group is not None:
        report.invalids(f"{path}.fsGroup", context.fs_group, names.user_or_group(context.fs_group))
    if context.run_as_user is not None:
        report.invalids(f"{path}.runAsUser", context.run_as_user, names.user_or_group(context.run_as_user))
    if context.run_as_group is not None:
        report.invalids(f"{path}.runAsGroup", context.run_as_group, names.user_or_group(context.run_as_group))
    for index, group in enumerate(context.supplemental_groups):
        report.invalids(f"{path}.supplementalGroups[{index}]", group, names.user_or_group(group))
    if spec.share_process_namespace and spec.host_pid:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        report.invalid(f"{path}.shareProcessNamespace", True, detail)
    if context.sysctls:
        _sysctls(context.sysctls, spec, f"{path}.sysctls", report)
    _choices(context, path, report)
    _seccomp(context.seccomp_profile, f"{path}.seccompProfile", report)
    if context.windows_options is not None:
        from podlite.api.validation.windows import validate_windows_options

        validate_windows_options(context.windows_options, f"{path}.windowsOptions", report)
    _apparmor(context.app_armor_profile, f"{path}.appArmorProfile", report)


def _choices(context: PodSecurityContext, path: str, report: Report) -> None:
    for name, value, supported in (
        ("fsGroupChangePolicy", context.fs_group_change_policy, ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", context.supplemental_groups_policy, ("Merge", "Strict")),
        # MountOption is behind the gate SELinuxMount, which is off
        ("seLinuxChangePolicy", context.se_linux_change_policy, ("Recursive",)),
    ):
        if value is not None and value not in supported:
            report.not_supported(f"{path}.{name}", value, supported)


def _seccomp(profile: SeccompProfile | None, path: str, report: Report) -> None:
    if profile is None:
        return
    if not profile.type:
        report.required(f"{path}.type", "type is required when seccompProfile is set")
    elif profile.type not in PROFILE_TYPES:
        report.not_supported(f"{path}.type", profile.type, PROFILE_TYPES)
    file = profile.localhost_profile
    if profile.type == "Localhost":
        if file is None:
            report.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            report.invalids(f"{path}.localhostProfile", file, names.relative_path(file))
    elif file is not None:
        report.invalid(f"{path}.localhostProfile", profile, "can only be set when seccomp type is Localhost")


def _apparmor(profile: AppArmorProfile | None, path: str, report: Report) -> None:
    if profile is None:
        return
    place, name = f"{path}.localhostProfile", profile.localhost_profile
    if profile.type == "Localhost":
        if name is None:
            report.required(place, "must be set when AppArmor type is Localhost")
            return
        if name.strip() != name:
            report.invalid(place, name, "must not be padded with whitespace")
        elif not name:
            report.required(place, "must be set when AppArmor type is Localhost")
        if len(name.encode()) > _MAX_APPARMOR:
            report.too_long(place, _MAX_APPARMOR)
    elif profile.type in PROFILE_TYPES:
        if name is not None:
            report.invalid(place, name, "can only be set when AppArmor type is Localhost")
    elif profile.type:
        report.not_supported(f"{path}.type", profile.type, PROFILE_TYPES)
    else:
        report.required(f"{path}.type", "type is required when appArmorProfile is set")


def is_sysctl_name(name: str) -> bool:
    """Whether the name can be a sysctl's: lower-case segments with dots or slashes between them."""
    if len(name.encode()) > _SYSCTL_MAX:
        return False
    segments = name.replace("/", ".").split(".")
    return all(
        each and _SYSCTL_LETTERS.issuperset(each) and "-_".find(each[0]) < 0 and "-_".find(each[-1]) < 0
        for each in segments
    )


def sysctl_namespace(name: str) -> str:
    """Which namespace has the sysctl: `ipc`, `net`, or empty for none that a pod can have of its own."""
    dotted = normalized_sysctl(name)
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        return "ipc"
    return "net" if dotted.startswith("net.") else ""


def normalized_sysctl(name: str) -> str:
    """The name with dots between its segments; in one with slashes, dots are part of the segments.

    A slash comes first in `net/ipv4/conf/eth0.1/rp_filter`, which is net.ipv4.conf.eth0/1.rp_filter.
    """
    slash, dot = name.find("/"), name.find(".")
    if slash < 0 or 0 <= dot < slash:
        return name
    return name.translate(str.maketrans("./", "/."))


def _sysctls(sysctls: list[Sysctl], spec: PodSpec, path: str, report: Report) -> None:
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        place = f"{path}[{index}].name"
        if not sysctl.name:
            report.required(place)
        elif not is_sysctl_name(sysctl.name):
            detail = f"must have at most {_SYSCTL_MAX} characters and match regex {_SYSCTL_FORMAT}"
            report.invalid(place, sysctl.name, detail)
        elif sysctl.name in seen:
            report.duplicate(place, sysctl.name)
        namespace = sysctl_namespace(sysctl.name)
        if spec.host_network and namespace == "net":
            report.invalid(place, sysctl.name, "may not be specified when 'hostNetwork' is true")
        elif spec.host_ipc and namespace == "ipc":
            report.invalid(place, sysctl.name, "may not be specified when 'hostIPC' is true")
        seen.add(sysctl.name)


# --- annotations ----------------------------------------------------------------------------

SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"


def validate_profile_annotations(annotations: dict[str, str], spec: PodSpec, path: str, report: Report) -> None:
    """The annotations in which profiles were given before there were fields for them."""
    for key, value in annotations.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
            _seccomp_annotation(value, f"{path}.{key}", report)
        elif key.startswith(APPARMOR_CONTAINER):
            name = key.removeprefix(APPARMOR_CONTAINER)
            containers = (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)
            if not any(container.name == name for container in containers):
                report.invalid(f"{path}[{key}]", name, "container not found")
            if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
                report.invalid(f"{path}[{key}]", value, f'invalid AppArmor profile name: "{value}"')


def _seccomp_annotation(value: str, path: str, report: Report) -> None:
    if value in ("runtime/default", "docker/default", "unconfined"):
        return
    if value.startswith("localhost/"):
        file = value.removeprefix("localhost/")
        report.invalids(path, file, names.relative_path(file))
    else:
        report.invalid(path, value, "must be a valid seccomp profile")


def validate_annotations_match(annotations: dict[str, str], spec: PodSpec, path: str, report: Report) -> None:
    """Where an annotation and a field both give a profile, they must give the same."""
    if not any(key == SECCOMP_POD or key.startswith((SECCOMP_CONTAINER, APPARMOR_CONTAINER)) for key in annotations):
        return
    context = spec.security_context
    if context is not None and context.seccomp_profile is not None and SECCOMP_POD in annotations:
        place = f"{path}.securityContext.seccompProfile"
        _seccomp_match(annotations[SECCOMP_POD], context.seccomp_profile, place, report)
    for name, containers in (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers),
    ):
        for index, container in enumerate(containers):
            own = container.security_context
            place = f"{path}.{name}[{index}].securityContext"
            value = annotations.get(f"{SECCOMP_CONTAINER}{container.name}")
            if value is not None and own is not None and own.seccomp_profile is not None:
                _seccomp_match(value, own.seccomp_profile, f"{place}.seccompProfile", report)
            profile = context.app_armor_profile if context is not None else None
            if own is not None and own.app_armor_profile is not None:
                profile = own.app_armor_profile
            value = annotations.get(f"{APPARMOR_CONTAINER}{container.name}")
            if value is not None and profile is not None and (spec.os is None or spec.os.name != "windows"):
                _apparmor_match(value, profile, f"{place}.appArmorProfile", report)


def _seccomp_match(value: str, profile: SeccompProfile, path: str, report: Report) -> None:
    kinds = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default", "docker/default")}
    if profile.type in kinds:
        same = value in kinds[profile.type]
    else:
        same = profile.type != "Localhost" or value.startswith("localhost/")
    if not same:
        report.forbidden(f"{path}.type", "seccomp type in annotation and field must match")
    elif profile.type == "Localhost" and value.removeprefix("localhost/") != profile.localhost_profile:
        report.forbidden(f"{path}.localhostProfile", "seccomp profile in annotation and field must match")


def _apparmor_match(value: str, profile: AppArmorProfile, path: str, report: Report) -> None:
    kinds = {"Unconfined": "unconfined", "RuntimeDefault": "runtime/default"}
    if profile.type in kinds:
        same = value == kinds[profile.type]
    else:
        same = profile.type != "Localhost" or value.startswith("localhost/")
    if not same:
        report.forbidden(f"{path}.type", "apparmor type in annotation and field must match")
    elif profile.type == "Localhost" and value.removeprefix("localhost/") != profile.localhost_profile:
        report.forbidden(f"{path}.localhostProfile", "apparmor profile in annotation and field must match")
