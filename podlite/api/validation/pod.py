"""Validation of pods and of pod templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.containers import (
    Surroundings,
    all_containers,
    validate_containers,
    validate_ephemeral_containers,
    validate_image_spaces,
    validate_init_containers,
)
from podlite.api.validation.dns import (
    validate_dns_config,
    validate_dns_policy,
    validate_host_aliases,
    validate_hostname_override,
)
from podlite.api.validation.meta import validate_annotations, validate_labels, validate_meta
from podlite.api.validation.report import Report
from podlite.api.validation.resources import pod_resource, validate_overhead, validate_resources
from podlite.api.validation.security import (
    validate_annotations_match,
    validate_pod_security_context,
    validate_profile_annotations,
)

if TYPE_CHECKING:
    from podlite.api.meta import ObjectMeta
    from podlite.api.pod import Pod, PodSpec, PodTemplateSpec
    from podlite.api.problems import Problem

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_MIRROR = "kubernetes.io/config.mirror"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def validate_pod(pod: Pod) -> list[Problem]:
    """What is wrong with a pod that has been defaulted, in the API server's terms; nothing if it may be created."""
    report = Report()
    meta, spec = pod.metadata, pod.spec
    validate_meta(meta, names.dns_subdomain, "metadata", report)
    _annotations(meta.annotations, spec, "metadata.annotations", report)
    _spec(spec, meta, "spec", report, is_pod=True)
    if not spec.service_account_name:
        _tokens(spec, report)
    for path, containers in (("spec.containers", spec.containers), ("spec.initContainers", spec.init_containers)):
        for index, container in enumerate(containers):
            validate_image_spaces(container, f"{path}[{index}]", report)
    if spec.ephemeral_containers:
        report.forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.node_name and spec.scheduling_gates:
        report.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
    if meta.annotations:
        validate_annotations_match(meta.annotations, spec, "spec", report)
    return report.problems


def validate_pod_template(template: PodTemplateSpec, path: str, report: Report) -> None:
    """What is wrong with a template that has been defaulted; `path` is its own."""
    meta, spec = template.metadata, template.spec
    validate_labels(meta.labels, f"{path}.labels", report)
    validate_annotations(meta.annotations, f"{path}.annotations", report)
    _annotations(meta.annotations, spec, f"{path}.annotations", report)
    _spec(spec, None, f"{path}.spec", report, is_pod=False)
    if meta.annotations:
        validate_annotations_match(meta.annotations, spec, f"{path}.spec", report)
    if spec.ephemeral_containers:
        detail = "ephemeral containers not allowed in pod template"
        report.forbidden(f"{path}.spec.ephemeralContainers", detail)


def _annotations(annotations: dict[str, str], spec: PodSpec, path: str, report: Report) -> None:
    """The annotations that mean something to Kubernetes."""
    if not annotations:
        return
    if _MIRROR in annotations and not spec.node_name:
        detail = "must set spec.nodeName if mirror pod annotation is set"
        report.invalid(f"{path}[{_MIRROR}]", annotations[_MIRROR], detail)
    cost = annotations.get(_DELETION_COST)
    if cost is not None and not _is_int32(cost):
        report.invalid(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer")
    validate_profile_annotations(annotations, spec, path, report)


def _is_int32(text: str) -> bool:
    """Whether the text is a 32-bit integer without needless zeros or a plus sign."""
    return not names.decimal_integer(text) and len(text) < 12 and -(2**31) <= int(text) < 2**31


def _spec(spec: PodSpec, meta: ObjectMeta | None, path: str, report: Report, *, is_pod: bool) -> None:
    if spec.termination_grace_period_seconds is None:
        report.required(f"{path}.terminationGracePeriodSeconds")
    volumes = {}
    if spec.volumes:
        from podlite.api.validation.volumes import validate_volumes

        volumes = validate_volumes(spec.volumes, meta.name if meta else "", f"{path}.volumes", report)
    if spec.resource_claims:
        from podlite.api.validation.scheduling import validate_resource_claims

        annotations = meta.annotations if meta else {}
        validate_resource_claims(spec.resource_claims, annotations, f"{path}.resourceClaims", report)
    around = Surroundings(spec, volumes)
    validate_containers(around, f"{path}.containers", report)
    validate_init_containers(around, f"{path}.initContainers", report)
    validate_ephemeral_containers(around, f"{path}.ephemeralContainers", report)
    _pod_resources(spec, around, f"{path}.resources", report)
    if spec.host_network:
        _host_network_ports(spec, f"{path}.containers", report, is_pod=is_pod)
    if not spec.restart_policy:
        report.required(f"{path}.restartPolicy")
    elif spec.restart_policy not in RESTART_POLICIES:
        report.not_supported(f"{path}.restartPolicy", spec.restart_policy, RESTART_POLICIES)
    validate_dns_policy(spec.dns_policy, f"{path}.dnsPolicy", report)
    validate_labels(spec.node_selector, f"{path}.nodeSelector", report)
    validate_pod_security_context(spec, f"{path}.securityContext", report)
    validate_dns_config(spec.dns_config, spec.dns_policy, f"{path}.dnsConfig", report)
    for index, gate in enumerate(spec.readiness_gates):
        wrong = names.qualified_name(gate.condition_type)
        report.invalids(f"{path}.readinessGates[{index}].conditionType", gate.condition_type, wrong)
    if (
        spec.affinity
        or spec.tolerations
        or spec.topology_spread_constraints
        or spec.scheduling_gates
        or spec.scheduling_group
    ):
        from podlite.api.validation.scheduling import validate_scheduling

        validate_scheduling(spec, path, report)
    _windows(spec, path, report)
    if spec.host_users is False:
        _host_users(spec, path, report)
    validate_hostname_override(spec, path, report)
    _names(spec, path, report)
    deadline = spec.active_deadline_seconds
    if deadline is not None and not 1 <= deadline < 2**31:
        report.invalid(f"{path}.activeDeadlineSeconds", deadline, names.in_range(1, 2**31 - 1))
    validate_host_aliases(spec, f"{path}.hostAliases", report)
    if spec.preemption_policy is not None and spec.preemption_policy not in ("PreemptLowerPriority", "Never"):
        if spec.preemption_policy:
            supported = ("PreemptLowerPriority", "Never")
            report.not_supported(f"{path}.preemptionPolicy", spec.preemption_policy, supported)
        else:
            report.required(f"{path}.preemptionPolicy")
    validate_overhead(spec.overhead, f"{path}.overhead", report)
    _file_keys(spec, path, report)


def _names(spec: PodSpec, path: str, report: Report) -> None:
    """The fields that name something: an account, a node, a class; the pod's own host name."""
    for name, value, check in (
        ("serviceAccountName", spec.service_account_name, names.dns_subdomain),
        ("nodeName", spec.node_name, names.dns_subdomain),
        ("hostname", spec.hostname, names.dns_label),
        ("subdomain", spec.subdomain, names.dns_label),
        ("priorityClassName", spec.priority_class_name, names.dns_subdomain),
    ):
        if value:
            report.invalids(f"{path}.{name}", value, check(value))
    if spec.runtime_class_name is not None:
        wrong = names.dns_subdomain(spec.runtime_class_name)
        report.invalids(f"{path}.runtimeClassName", spec.runtime_class_name, wrong)


def _pod_resources(spec: PodSpec, around: Surroundings, path: str, report: Report) -> None:
    """Resources of the pod as a whole; podlite refuses them, so their sums are not compared."""
    if spec.resources is None:
        return
    if spec.os is not None and spec.os.name == "windows":
        report.forbidden(path, "may not be set for a windows pod")
        return
    if spec.resources.claims:
        report.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    validate_resources(spec.resources, around.claims, path, report, check_name=pod_resource)


def _host_network_ports(spec: PodSpec, path: str, report: Report, *, is_pod: bool) -> None:
    for index, container in enumerate(spec.containers):
        for number, port in enumerate(container.ports):
            if (is_pod or port.host_port) and port.host_port != port.container_port:
                report.invalid(
                    f"{path}[{index}].ports[{number}].hostPort",
                    port.host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                )


def _windows(spec: PodSpec, path: str, report: Report) -> None:
    containers = (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)
    contexts = (spec.security_context, *[container.security_context for container in containers])
    if spec.os is None and not any(context is not None and context.windows_options for context in contexts):
        return
    from podlite.api.validation.windows import validate_host_process, validate_os

    validate_host_process(spec, path, report)
    validate_os(spec, path, report)


def _host_users(spec: PodSpec, path: str, report: Report) -> None:
    """What a pod with a user namespace of its own cannot share with the machine."""
    detail = "when `hostUsers` is false"
    for name, is_set in (
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ):
        if is_set:
            report.forbidden(f"{path}.{name}", detail)
    for place, container in all_containers(spec, path):
        if container.volume_devices:
            report.forbidden(f"{place}.volumeDevices", detail)


def _file_keys(spec: PodSpec, path: str, report: Report) -> None:
    """The volumes of env files must be empty directories."""
    for container_path, container in all_containers(spec, path):
        for number, variable in enumerate(container.env):
            if variable.value_from is None or variable.value_from.file_key_ref is None:
                continue
            name = variable.value_from.file_key_ref.volume_name
            place = f"{container_path}.env[{number}].valueFrom.fileKeyRef.volumeName"
            volume = next((each for each in spec.volumes if each.name == name), None)
            if volume is None:
                report.not_found(place, name)
            elif volume.empty_dir is None:
                report.invalid(place, name, "referenced volume must be of type emptyDir")


def _tokens(spec: PodSpec, report: Report) -> None:
    for index, volume in enumerate(spec.volumes):
        for number, source in enumerate(volume.projected.sources if volume.projected else ()):
            if source.service_account_token is not None:
                path = f"spec.volumes[{index}].projected.sources[{number}].serviceAccountToken"
                report.forbidden(path, "must not be specified when serviceAccountName is not set")
