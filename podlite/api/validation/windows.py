"""Validation of what concerns Windows pods, which podlite does not run, and of what `os.name` forbids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.containers import all_containers

if TYPE_CHECKING:
    from podlite.api.pod import PodSpec
    from podlite.api.security import WindowsSecurityContextOptions
    from podlite.api.validation.report import Report

_MAX_CREDENTIAL_SPEC = 64 * 1024
_MAX_DOMAIN = 256
_MAX_USER = 104
_USER_FORBIDDEN = frozenset('"/\\:;|=,+*?<>@[]')
_NETBIOS_FORBIDDEN = frozenset('\\/:*?"<>|')
_WINDOWS = "cannot be set for a windows pod"

_POD_FIELDS = (
    ("appArmorProfile", "app_armor_profile"),
    ("seLinuxOptions", "se_linux_options"),
    ("seccompProfile", "seccomp_profile"),
    ("fsGroup", "fs_group"),
    ("fsGroupChangePolicy", "fs_group_change_policy"),
    ("runAsUser", "run_as_user"),
    ("runAsGroup", "run_as_group"),
    ("supplementalGroupsPolicy", "supplemental_groups_policy"),
    ("seLinuxChangePolicy", "se_linux_change_policy"),
)
_CONTAINER_FIELDS = (
    ("appArmorProfile", "app_armor_profile"),
    ("seLinuxOptions", "se_linux_options"),
    ("seccompProfile", "seccomp_profile"),
    ("capabilities", "capabilities"),
    ("readOnlyRootFilesystem", "read_only_root_filesystem"),
    ("privileged", "privileged"),
    ("allowPrivilegeEscalation", "allow_privilege_escalation"),
    ("procMount", "proc_mount"),
    ("runAsUser", "run_as_user"),
    ("runAsGroup", "run_as_group"),
)


def validate_os(spec: PodSpec, path: str, report: Report) -> None:
    """`os.name`, and the fields that the other system's pods may not have."""
    if spec.os is None:
        return
    if not spec.os.name:
        report.required(f"{path}.os.name")
    elif spec.os.name not in ("linux", "windows"):
        report.not_supported(f"{path}.os", spec.os.name, ("linux", "windows"))
    elif spec.os.name == "linux":
        _linux(spec, path, report)
    else:
        _windows(spec, path, report)


def _linux(spec: PodSpec, path: str, report: Report) -> None:
    detail = "windows options cannot be set for a linux pod"
    if spec.security_context is not None and spec.security_context.windows_options is not None:
        report.forbidden(f"{path}.securityContext.windowsOptions", detail)
    for place, container in all_containers(spec, path):
        if container.security_context is not None and container.security_context.windows_options is not None:
            report.forbidden(f"{place}.securityContext.windowsOptions", detail)


def _windows(spec: PodSpec, path: str, report: Report) -> None:
    context = spec.security_context
    for name, is_set in (
        ("hostUsers", spec.host_users is not None),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
        ("shareProcessNamespace", spec.share_process_namespace is not None),
    ):
        if is_set:
            report.forbidden(f"{path}.{name}", _WINDOWS)
    if context is not None:
        for name, attribute in _POD_FIELDS:
            if getattr(context, attribute) is not None:
                report.forbidden(f"{path}.securityContext.{name}", _WINDOWS)
        for name, given in (("sysctls", context.sysctls), ("supplementalGroups", context.supplemental_groups)):
            if given:
                report.forbidden(f"{path}.securityContext.{name}", _WINDOWS)
    for place, container in all_containers(spec, path):
        for name, attribute in _CONTAINER_FIELDS:
            if getattr(container.security_context, attribute, None) is not None:
                report.forbidden(f"{place}.securityContext.{name}", _WINDOWS)


def validate_host_process(spec: PodSpec, path: str, report: Report) -> None:
    """Windows HostProcess: all containers or none, and only in the host's network."""
    context = spec.security_context
    of_pod = context.windows_options.host_process if context is not None and context.windows_options else None
    containers = all_containers(spec, path)
    count = 0
    for place, container in containers:
        own = container.security_context
        value = own.windows_options.host_process if own is not None and own.windows_options else None
        if of_pod is not None and value is not None and of_pod != value:
            detail = f"pod hostProcess value must be identical if both are specified, was {str(of_pod).lower()}"
            report.invalid(f"{place}.securityContext.windowsOptions.hostProcess", value, detail)
        count += bool(value if value is not None else of_pod)
    if not count:
        return
    if count != len(containers):
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        report.invalid(path, "", detail)
    if not spec.host_network:
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        report.invalid(f"{path}.hostNetwork", False, detail)


def validate_windows_options(options: WindowsSecurityContextOptions, path: str, report: Report) -> None:
    name = options.gmsa_credential_spec_name
    if name is not None:
        report.invalids(f"{path}.gmsaCredentialSpecName", name, names.dns_subdomain(name))
    credentials = options.gmsa_credential_spec
    if credentials is not None:
        place = f"{path}.gmsaCredentialSpec"
        if not credentials:
            report.invalid(place, credentials, "gmsaCredentialSpec cannot be an empty string")
        elif len(credentials.encode()) > _MAX_CREDENTIAL_SPEC:
            report.invalid(place, credentials, "gmsaCredentialSpec size must be under 64 KiB")
    if options.run_as_user_name is not None:
        for detail in _user_name(options.run_as_user_name):
            report.invalid(f"{path}.runAsUserName", options.run_as_user_name, f"runAsUserName{detail}")


def _user_name(value: str) -> list[str]:
    if not value:
        return [" cannot be an empty string"]
    if any(letter < " " or letter == "\x7f" for letter in value):
        return [" cannot contain control characters"]
    domain, backslash, user = value.rpartition("\\")
    if "\\" in domain:
        return [" cannot contain more than one backslash"]
    wrong = []
    if len(domain.encode()) >= _MAX_DOMAIN:
        wrong.append(f"'s Domain length must be under {_MAX_DOMAIN} characters")
    if backslash and not (_is_netbios(domain) or _is_dns(domain)):
        wrong.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        wrong.append("'s User cannot be empty")
    elif len(user.encode()) > _MAX_USER:
        wrong.append(f"'s User length must not be longer than {_MAX_USER} characters")
    if user and not user.strip(". "):
        wrong.append("'s User cannot contain only periods or spaces")
    if not _USER_FORBIDDEN.isdisjoint(user):
        wrong.append("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return wrong


def _is_netbios(domain: str) -> bool:
    return 1 <= len(domain) <= 15 and _NETBIOS_FORBIDDEN.isdisjoint(domain) and domain[0] != "."


def _is_dns(domain: str) -> bool:
    return all(len(part) <= 63 and not names.dns_label(part.lower()) for part in domain.split("."))
