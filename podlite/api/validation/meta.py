"""Validation of an object's metadata, of labels and of label selectors.

Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go and pkg/apis/meta/v1/validation, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.meta import ObjectMeta
    from podlite.api.references import OwnerReference
    from podlite.api.selectors import LabelSelector
    from podlite.api.validation.report import Report

    Check = Callable[[str], list[str]]

ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def validate_meta(meta: ObjectMeta, check_name: Check, path: str, report: Report) -> None:
    """The metadata of a namespaced object; a name that is still to be generated is not missed."""
    if meta.generate_name:
        report.invalids(f"{path}.generateName", meta.generate_name, names.generated(check_name, meta.generate_name))
    if meta.name:
        report.invalids(f"{path}.name", meta.name, check_name(meta.name))
    elif not meta.generate_name:
        report.required(f"{path}.name", "name or generateName is required")
    if meta.namespace:
        report.invalids(f"{path}.namespace", meta.namespace, names.dns_label(meta.namespace))
    else:
        report.required(f"{path}.namespace")
    nonnegative(meta.generation, f"{path}.generation", report)
    validate_labels(meta.labels, f"{path}.labels", report)
    validate_annotations(meta.annotations, f"{path}.annotations", report)
    if meta.owner_references:
        _owner_references(meta.owner_references, f"{path}.ownerReferences", report)
    if meta.finalizers:
        _finalizers(meta.finalizers, f"{path}.finalizers", report)


def validate_labels(labels: dict[str, str], path: str, report: Report) -> None:
    for key, value in labels.items():
        label_name(key, path, report)
        report.invalids(path, value, names.label_value(value))


def label_name(key: str, path: str, report: Report) -> None:
    report.invalids(path, key, names.qualified_name(key))


def validate_annotations(annotations: dict[str, str], path: str, report: Report) -> None:
    size = 0
    for key, value in annotations.items():
        report.invalids(path, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        report.too_long(path, ANNOTATIONS_LIMIT)


def validate_selector(selector: LabelSelector | None, path: str, report: Report) -> None:
    if selector is None:
        return
    validate_labels(selector.match_labels, f"{path}.matchLabels", report)
    for index, each in enumerate(selector.match_expressions):
        place = f"{path}.matchExpressions[{index}]"
        if each.operator in ("In", "NotIn"):
            if not each.values:
                report.required(f"{place}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif each.operator in ("Exists", "DoesNotExist"):
            if each.values:
                report.forbidden(
                    f"{place}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
        else:
            report.invalid(f"{place}.operator", each.operator, "not a valid selector operator")
        label_name(each.key, f"{place}.key", report)
        for number, value in enumerate(each.values):
            report.invalids(f"{place}.values[{number}]", value, names.label_value(value))


def nonnegative(value: int, path: str, report: Report) -> None:
    if value < 0:
        report.invalid(path, value, "must be greater than or equal to 0")


def positive(value: int, path: str, report: Report) -> None:
    if value <= 0:
        report.invalid(path, value, "must be greater than zero")


def _owner_references(references: list[OwnerReference], path: str, report: Report) -> None:
    controller = ""
    for each in references:
        if not each.api_version:
            report.invalid(f"{path}.apiVersion", each.api_version, "version must not be empty")
        for name, value in (("kind", each.kind), ("name", each.name), ("uid", each.uid)):
            if not value:
                report.invalid(f"{path}.{name}", value, "must not be empty")
        if each.api_version == "v1" and each.kind == "Event":
            report.invalid(path, each, "/v1, Kind=Event is disallowed from being an owner")
        if not each.controller:
            continue
        if controller:
            report.invalid(
                path,
                references,
                "Only one reference can have Controller set to true. "
                f'Found "true" in references for {controller} and {each.kind}/{each.name}',
            )
        else:
            controller = f"{each.kind}/{each.name}"


def _finalizers(finalizers: list[str], path: str, report: Report) -> None:
    for each in finalizers:
        report.invalids(path, each, names.qualified_name(each))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        report.invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")
    for index, each in enumerate(finalizers):
        if "/" not in each and each not in _STANDARD_FINALIZERS:
            report.invalid(
                f"{path}[{index}]", each, "name is neither a standard finalizer name nor is it fully qualified"
            )
