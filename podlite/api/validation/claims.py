"""Validation of the claims that a pod or a StatefulSet brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.validation import names
from podlite.api.validation.meta import validate_annotations, validate_labels, validate_selector

if TYPE_CHECKING:
    from podlite.api.claims import PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate
    from podlite.api.references import TypedLocalObjectReference, TypedObjectReference
    from podlite.api.validation.report import Report

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def validate_claim_template(template: PersistentVolumeClaimTemplate, path: str, report: Report) -> None:
    """Of the metadata only labels and annotations may be set."""
    meta = template.metadata
    validate_annotations(meta.annotations, f"{path}.metadata.annotations", report)
    validate_labels(meta.labels, f"{path}.metadata.labels", report)
    for wire, attribute in zip(meta.__struct_encode_fields__, meta.__struct_fields__, strict=True):
        if attribute not in ("labels", "annotations") and getattr(meta, attribute):
            report.forbidden(f"{path}.metadata.{wire}", "cannot be set")
    validate_claim_spec(template.spec, f"{path}.spec", report)


def validate_claim_spec(spec: PersistentVolumeClaimSpec, path: str, report: Report) -> None:
    if not spec.access_modes:
        report.required(f"{path}.accessModes", "at least 1 access mode is required")
    validate_selector(spec.selector, f"{path}.selector", report)
    known = [mode for mode in spec.access_modes if mode in _ACCESS_MODES]
    for mode in spec.access_modes:
        if mode not in _ACCESS_MODES:
            report.not_supported(f"{path}.accessModes", mode, _ACCESS_MODES)
    if "ReadWriteOncePod" in known and set(known) != {"ReadWriteOncePod"}:
        report.forbidden(f"{path}.accessModes", "may not use ReadWriteOncePod with other access modes")
    storage = spec.resources.requests.get("storage")
    if storage is None:
        report.required(f"{path}.resources[storage]")
    elif quantity.parse(storage).nanos <= 0:
        report.invalid(f"{path}.resources[storage]", storage, "must be greater than zero")
    if spec.storage_class_name:
        wrong = names.dns_subdomain(spec.storage_class_name)
        report.invalids(f"{path}.storageClassName", spec.storage_class_name, wrong)
    if spec.volume_mode is not None and spec.volume_mode not in ("Block", "Filesystem"):
        report.not_supported(f"{path}.volumeMode", spec.volume_mode, ("Block", "Filesystem"))
    if spec.data_source is not None:
        _source(spec.data_source, f"{path}.dataSource", report)
    if spec.data_source_ref is not None:
        _source(spec.data_source_ref, f"{path}.dataSourceRef", report)
        if spec.data_source_ref.namespace:
            wrong = names.dns_label(spec.data_source_ref.namespace)
            report.invalids(f"{path}.dataSourceRef.namespace", spec.data_source_ref.namespace, wrong)
    if spec.volume_attributes_class_name:
        wrong = names.dns_subdomain(spec.volume_attributes_class_name)
        report.invalids(f"{path}.volumeAttributesClassName", spec.volume_attributes_class_name, wrong)


def _source(source: TypedLocalObjectReference | TypedObjectReference, path: str, report: Report) -> None:
    if not source.name:
        report.required(f"{path}.name")
    if not source.kind:
        report.required(f"{path}.kind")
    if not source.api_group and source.kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        report.invalid(path, source.kind, detail)
    if source.api_group:
        report.invalids(f"{path}.apiGroup", source.api_group, names.dns_subdomain(source.api_group))
