"""Validation of containers: app, init (sidecars among them) and ephemeral."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.resources import validate_resources
from podlite.api.validation.security import validate_security_context

if TYPE_CHECKING:
    from podlite.api.container import Container, ContainerPort, VolumeMount
    from podlite.api.pod import PodSpec
    from podlite.api.validation.report import Report
    from podlite.api.volumes import Volume

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE_READ_ONLY = ("Disabled", "Enabled", "IfPossible")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RESTART_ACTIONS = ("Restart", "RestartAllContainers")
_NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"
_RULES_NEED_POLICY = "must specify restartPolicy when restart rules are used"
_ONLY_SIDECARS = "may not be set for init containers without restartPolicy=Always"


class Surroundings:
    """What a container's checks need to know of its pod."""

    __slots__ = ("claims", "host_users", "spec", "volumes")

    def __init__(self, spec: PodSpec, volumes: dict[str, Volume]) -> None:
        self.spec = spec
        self.volumes = volumes
        self.claims = frozenset(claim.name for claim in spec.resource_claims if claim.name)
        self.host_users = spec.host_users is not False


def is_sidecar(container: Container) -> bool:
    """Whether an init container goes on running beside the app containers."""
    return container.restart_policy == "Always"


def all_containers(spec: PodSpec, path: str) -> list[tuple[str, Container]]:
    """Every container of a pod with its path: init, app, ephemeral."""
    groups = (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers),
    )
    return [(f"{path}.{name}[{index}]", each) for name, group in groups for index, each in enumerate(group)]


def validate_containers(around: Surroundings, path: str, report: Report) -> None:
    """The app containers: there must be one."""
    containers = around.spec.containers
    if not containers:
        report.required(path)
        return
    seen: set[str] = set()
    for index, container in enumerate(containers):
        place = f"{path}[{index}]"
        _common(container, around, place, report)
        if container.name in seen:
            report.duplicate(f"{place}.name", container.name)
        seen.add(container.name)
        _handlers(container, around.spec, place, report)
        _restart_policy(container, place, report)
    _host_ports(containers, path, report)


def validate_init_containers(around: Surroundings, path: str, report: Report) -> None:
    """The init containers, whose names must differ from those of the app containers too."""
    seen = {container.name for container in around.spec.containers}
    for index, container in enumerate(around.spec.init_containers):
        place = f"{path}[{index}]"
        _common(container, around, place, report)
        if container.restart_policy is None and container.restart_policy_rules:
            report.required(f"{place}.restartPolicy", _RULES_NEED_POLICY)
        else:
            _restart_policy(container, place, report)
        if container.name in seen:
            report.duplicate(f"{place}.name", container.name)
        elif container.name:
            seen.add(container.name)
        _host_ports([container], path, report)
        if is_sidecar(container):
            _handlers(container, around.spec, place, report)
            continue
        for name, value in (
            ("lifecycle", container.lifecycle),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
        ):
            if value is not None:
                report.forbidden(f"{place}.{name}", _ONLY_SIDECARS)
        for number, policy in enumerate(container.resize_policy):
            if policy.restart_policy == "RestartContainer":
                report.invalid(
                    f"{place}.resizePolicy[{number}].restartPolicy",
                    policy.restart_policy,
                    "must not be set to 'RestartContainer' for non-sidecar initContainers",
                )


def validate_ephemeral_containers(around: Surroundings, path: str, report: Report) -> None:
    others = {container.name for container in (*around.spec.containers, *around.spec.init_containers)}
    seen = set(others)
    for index, container in enumerate(around.spec.ephemeral_containers):
        place = f"{path}[{index}]"
        _common(container, around, place, report)
        validate_image_spaces(container, place, report)
        if container.name in seen:
            report.duplicate(f"{place}.name", container.name)
        seen.add(container.name)
        target = container.target_container_name
        if target and target not in others:
            report.not_found(f"{place}.targetContainerName", target)
        resources = container.resources
        for name, value in (
            ("ports", container.ports),
            ("resources", resources.limits or resources.requests or resources.claims),
            ("resizePolicy", container.resize_policy),
            ("restartPolicy", container.restart_policy is not None),
            ("restartPolicyRules", container.restart_policy_rules),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
            ("lifecycle", container.lifecycle),
        ):
            if value:
                report.forbidden(f"{place}.{name}", _NOT_EPHEMERAL)
        for number, mount in enumerate(container.volume_mounts):
            for name, given in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
                if given:
                    report.forbidden(f"{place}.volumeMounts[{number}].{name}", _NOT_EPHEMERAL)


def validate_image_spaces(container: Container, path: str, report: Report) -> None:
    """What holds for pods, and not for pod templates, which may be filled in later."""
    if container.image != container.image.strip():
        report.invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace")


def validate_pull_policy(policy: str, path: str, report: Report) -> None:
    if not policy:
        report.required(path)
    elif policy not in PULL_POLICIES:
        report.not_supported(path, policy, PULL_POLICIES)


def _common(container: Container, around: Surroundings, path: str, report: Report) -> None:
    if container.name:
        report.invalids(f"{path}.name", container.name, names.dns_label(container.name))
    else:
        report.required(f"{path}.name")
    if not container.image:
        report.required(f"{path}.image")
    message_policy = container.termination_message_policy
    if not message_policy:
        report.required(f"{path}.terminationMessagePolicy")
    elif message_policy not in _MESSAGE_POLICIES:
        report.not_supported(f"{path}.terminationMessagePolicy", message_policy, _MESSAGE_POLICIES)
    if container.ports:
        _ports(container.ports, f"{path}.ports", report)
    _env(container, path, report)
    if container.volume_mounts:
        _mounts(container, around, f"{path}.volumeMounts", report)
    if container.volume_devices:
        _devices(container, around, f"{path}.volumeDevices", report)
    validate_pull_policy(container.image_pull_policy, f"{path}.imagePullPolicy", report)
    validate_resources(container.resources, around.claims, f"{path}.resources", report)
    if container.resize_policy:
        _resize_policy(container, around.spec, f"{path}.resizePolicy", report)
    validate_security_context(container.security_context, around.host_users, f"{path}.securityContext", report)


def _handlers(container: Container, spec: PodSpec, path: str, report: Report) -> None:
    if container.lifecycle or container.liveness_probe or container.readiness_probe or container.startup_probe:
        from podlite.api.validation.handlers import validate_handlers

        validate_handlers(container, spec.termination_grace_period_seconds, spec.os, path, report)


def _ports(ports: list[ContainerPort], path: str, report: Report) -> None:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        place = f"{path}[{index}]"
        if port.name:
            wrong = names.port_name(port.name)
            report.invalids(f"{place}.name", port.name, wrong)
            if not wrong and port.name in seen:
                report.duplicate(f"{place}.name", port.name)
            seen.add(port.name)
        if port.container_port == 0:
            report.required(f"{place}.containerPort")
        else:
            wrong = names.port_number(port.container_port)
            report.invalids(f"{place}.containerPort", port.container_port, wrong)
        if port.host_port != 0:
            report.invalids(f"{place}.hostPort", port.host_port, names.port_number(port.host_port))
        if not port.protocol:
            report.required(f"{place}.protocol")
        elif port.protocol not in PROTOCOLS:
            report.not_supported(f"{place}.protocol", port.protocol, PROTOCOLS)


def _host_ports(containers: list[Container], path: str, report: Report) -> None:
    seen: set[str] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.ports):
            if port.host_port:
                key = f"{port.protocol}/{port.host_ip}/{port.host_port}"
                if key in seen:
                    report.duplicate(f"{path}[{index}].ports[{number}].hostPort", key)
                seen.add(key)


def _env(container: Container, path: str, report: Report) -> None:
    for index, variable in enumerate(container.env):
        place = f"{path}.env[{index}]"
        if variable.name:
            report.invalids(f"{place}.name", variable.name, names.env_name(variable.name))
        else:
            report.required(f"{place}.name")
        if variable.value_from is not None:
            from podlite.api.validation.env import validate_value_from

            validate_value_from(variable, f"{place}.valueFrom", report)
    if container.env_from:
        from podlite.api.validation.env import validate_env_from

        validate_env_from(container.env_from, f"{path}.envFrom", report)


def _mounts(container: Container, around: Surroundings, path: str, report: Report) -> None:
    devices = {device.name: device.device_path for device in container.volume_devices}
    seen: set[str] = set()
    for index, mount in enumerate(container.volume_mounts):
        place = f"{path}[{index}]"
        if not mount.name:
            report.required(f"{place}.name")
        if mount.name not in around.volumes:
            report.not_found(f"{place}.name", mount.name)
        if not mount.mount_path:
            report.required(f"{place}.mountPath")
        if mount.mount_path in seen:
            report.invalid(f"{place}.mountPath", mount.mount_path, "must be unique")
        seen.add(mount.mount_path)
        if mount.name in devices:
            report.invalid(f"{place}.name", mount.name, "must not already exist in volumeDevices")
        if mount.mount_path in devices.values():
            detail = "must not already exist as a path in volumeDevices"
            report.invalid(f"{place}.mountPath", mount.mount_path, detail)
        # from here on the API server's paths lack the index
        if mount.sub_path:
            report.invalids(f"{path}.subPath", mount.sub_path, names.relative_path(mount.sub_path))
        if mount.sub_path_expr:
            if mount.sub_path:
                detail = "subPathExpr and subPath are mutually exclusive"
                report.invalid(f"{place}.subPathExpr", mount.sub_path_expr, detail)
            report.invalids(f"{path}.subPathExpr", mount.sub_path_expr, names.relative_path(mount.sub_path_expr))
        _propagation(mount, container, path, report)


def _propagation(mount: VolumeMount, container: Container, path: str, report: Report) -> None:
    propagation = mount.mount_propagation
    if propagation is not None:
        place = f"{path}.mountPropagation"
        if propagation not in _PROPAGATIONS:
            report.not_supported(place, propagation, _PROPAGATIONS)
        context = container.security_context
        if propagation == "Bidirectional" and not (context is not None and context.privileged):
            detail = "Bidirectional mount propagation is available only to privileged containers"
            report.forbidden(place, detail)
    recursive = mount.recursive_read_only
    if recursive is None:
        return
    place = f"{path}.recursiveReadOnly"
    if recursive in ("Enabled", "IfPossible"):
        if not mount.read_only:
            report.forbidden(place, "may only be specified when readOnly is true")
        if propagation not in (None, "None"):
            report.forbidden(place, "may only be specified when mountPropagation is None or not specified")
    elif recursive != "Disabled":
        report.not_supported(place, recursive, _RECURSIVE_READ_ONLY)


def _devices(container: Container, around: Surroundings, path: str, report: Report) -> None:
    mounts = {mount.name: mount.mount_path for mount in container.volume_mounts}
    seen_names: set[str] = set()
    seen_paths: set[str] = set()
    for index, device in enumerate(container.volume_devices):
        place = f"{path}[{index}]"
        volume = around.volumes.get(device.name)
        if not device.name:
            report.required(f"{place}.name")
        if device.name in seen_names:
            report.invalid(f"{place}.name", device.name, "must be unique")
        if volume is None:
            report.not_found(f"{place}.name", device.name)
        elif volume.persistent_volume_claim is None and volume.ephemeral is None:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            report.invalid(f"{place}.name", device.name, detail)
        if not device.device_path:
            report.required(f"{place}.devicePath")
        if device.device_path in seen_paths:
            report.invalid(f"{place}.devicePath", device.device_path, "must be unique")
        if names.no_backsteps(device.device_path):
            report.invalid(f"{place}.devicePath", device.device_path, "can not contain backsteps ('..')")
        else:
            seen_paths.add(device.device_path)
        if device.name in mounts:
            report.invalid(f"{place}.name", device.name, "must not already exist in volumeMounts")
        if device.device_path in mounts.values():
            detail = "must not already exist as a path in volumeMounts"
            report.invalid(f"{place}.devicePath", device.device_path, detail)
        if device.name:
            seen_names.add(device.name)


def _resize_policy(container: Container, spec: PodSpec, path: str, report: Report) -> None:
    seen: set[str] = set()
    for index, policy in enumerate(container.resize_policy):
        if policy.resource_name in seen:
            report.duplicate(f"{path}[{index}]", policy.resource_name)
        seen.add(policy.resource_name)
        for value, supported in (
            (policy.resource_name, ("cpu", "memory")),
            (policy.restart_policy, ("NotRequired", "RestartContainer")),
        ):
            if not value:
                report.required(path)
            elif value not in supported:
                report.not_supported(path, value, supported)
        if spec.restart_policy == "Never" and policy.restart_policy != "NotRequired":
            detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            report.invalid(path, policy.restart_policy, detail)


def _restart_policy(container: Container, path: str, report: Report) -> None:
    """A container's own restart policy, and the rules that refine it."""
    policy, rules = container.restart_policy, container.restart_policy_rules
    if policy is None:
        if not rules:
            return
        report.required(f"{path}.restartPolicy", _RULES_NEED_POLICY)
    elif policy not in _RESTART_POLICIES:
        report.not_supported(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    if len(rules) > 20:
        report.too_many(f"{path}.restartPolicyRules", len(rules), 20)
    for index, rule in enumerate(rules):
        place = f"{path}.restartPolicyRules[{index}]"
        if rule.action not in _RESTART_ACTIONS:
            report.not_supported(f"{place}.action", rule.action, _RESTART_ACTIONS)
        if rule.exit_codes is None:
            report.required(f"{place}.exitCodes", "must be specified")
            continue
        if rule.exit_codes.operator not in ("In", "NotIn"):
            report.not_supported(f"{place}.exitCodes.operator", rule.exit_codes.operator, ("In", "NotIn"))
        if len(rule.exit_codes.values) > 255:
            report.too_many(f"{place}.exitCodes.values", len(rule.exit_codes.values), 255)
