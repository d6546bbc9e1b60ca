"""Validation of the workloads whose pod templates are run: as much as decides which pods they make.

Source: pkg/apis/apps/validation/validation.go and pkg/apis/batch/validation/validation.go, Kubernetes 1.36. How a
workload is rolled out, scaled or cleaned up is not validated, for nothing here does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.meta import nonnegative, validate_meta, validate_selector
from podlite.api.validation.pod import validate_pod_template
from podlite.api.validation.report import Report

if TYPE_CHECKING:
    from podlite.api.pod import PodTemplateSpec
    from podlite.api.problems import Problem
    from podlite.api.selectors import LabelSelector
    from podlite.api.workloads import DaemonSet, Deployment, Job, ReplicaSet, StatefulSet

# the API server says "ReplicaSet" of Deployments too, and "deployment" of ReplicaSets' selectors
_SAID_OF_TEMPLATE = {"Deployment": "ReplicaSet"}
_SAID_OF_SELECTOR = {"ReplicaSet": "deployment"}


def validate_workload(workload: Deployment | ReplicaSet | StatefulSet | DaemonSet) -> list[Problem]:
    """What is wrong with a workload of apps/v1 whose template has been defaulted."""
    report = Report()
    kind, spec = workload.kind, workload.spec
    is_set = kind == "StatefulSet"
    validate_meta(workload.metadata, names.dns_label if is_set else names.dns_subdomain, "metadata", report)
    nonnegative(getattr(spec, "replicas", None) or 0, "spec.replicas", report)
    nonnegative(spec.min_ready_seconds, "spec.minReadySeconds", report)
    service = getattr(spec, "service_name", "")
    if service:
        report.invalids("spec.serviceName", service, names.dns_label(service))
    ordinals = getattr(spec, "ordinals", None)
    if ordinals is not None:
        nonnegative(ordinals.start, "spec.ordinals.start", report)
    _selector(spec.selector, kind, spec.template, report)
    validate_pod_template(spec.template, "spec.template", report)
    template = spec.template.spec
    if template.restart_policy != "Always":
        report.not_supported("spec.template.spec.restartPolicy", template.restart_policy, ("Always",))
    if template.active_deadline_seconds is not None:
        detail = f"activeDeadlineSeconds in {_SAID_OF_TEMPLATE.get(kind, kind)} is not Supported"
        report.forbidden("spec.template.spec.activeDeadlineSeconds", detail)
    return report.problems


def validate_job(job: Job) -> list[Problem]:
    """What is wrong with a Job that has been defaulted, its template too."""
    report = Report()
    spec = job.spec
    validate_meta(job.metadata, names.dns_subdomain, "metadata", report)
    for name, value in (
        ("parallelism", spec.parallelism),
        ("completions", spec.completions),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
    ):
        nonnegative(value or 0, f"spec.{name}", report)
    mode = spec.completion_mode
    if mode not in (None, "NonIndexed", "Indexed"):
        report.not_supported("spec.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode == "Indexed":
        if spec.completions is None:
            report.required("spec.completions", "when completion mode is Indexed")
        elif spec.completions > 0:
            last = f"{job.metadata.name}-{spec.completions - 1}"
            if names.dns_label(last):
                detail = f"will not able to create pod with invalid DNS label: {last}"
                report.invalid("metadata.name", job.metadata.name, detail)
    validate_pod_template(spec.template, "spec.template", report)
    policy, path = spec.template.spec.restart_policy, "spec.template.spec.restartPolicy"
    if policy in ("Always", ""):
        report.required(path, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        report.not_supported(path, policy, ("OnFailure", "Never"))
    elif spec.pod_failure_policy is not None and policy != "Never":
        report.invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')
    return report.problems


def _selector(selector: LabelSelector | None, kind: str, template: PodTemplateSpec, report: Report) -> None:
    """A selector must select something, and the pods of its own template."""
    labels = template.metadata.labels
    if selector is None and kind != "DaemonSet":
        report.required("spec.selector")
    if selector is None or not matches(selector, labels):
        detail = "`selector` does not match template `labels`"
        report.invalid("spec.template.metadata.labels", labels or None, detail)
    if selector is None:
        return
    validate_selector(selector, "spec.selector", report)
    if not selector.match_labels and not selector.match_expressions:
        said = _SAID_OF_SELECTOR.get(kind, kind.lower())
        report.invalid("spec.selector", selector, f"empty selector is invalid for {said}")


def matches(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """Whether labels are selected; an operator that is none matches, for it is reported elsewhere."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for each in selector.match_expressions:
        has = each.key in labels
        if each.operator == "In" and not (has and labels[each.key] in each.values):
            return False
        if each.operator == "NotIn" and has and labels[each.key] in each.values:
            return False
        if (each.operator == "Exists" and not has) or (each.operator == "DoesNotExist" and has):
            return False
    return True
