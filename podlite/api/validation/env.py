"""Validation of where environment variables come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.validation import names

if TYPE_CHECKING:
    from podlite.api.container import EnvVar
    from podlite.api.env import EnvFromSource, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector
    from podlite.api.validation.report import Report

_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
# what the downward API's field labels can be converted to at all
_FIELD_LABELS = frozenset((*_ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"))
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def validate_value_from(variable: EnvVar, path: str, report: Report) -> None:
    """Exactly one source and no value beside it."""
    source = variable.value_from
    if source is None:
        return
    count = 0
    if source.field_ref is not None:
        count += 1
        validate_field_ref(source.field_ref, _ENV_FIELDS, f"{path}.fieldRef", report)
    if source.resource_field_ref is not None:
        count += 1
        validate_resource_field_ref(source.resource_field_ref, f"{path}.resourceFieldRef", report, volume=False)
    for name, reference in (("configMapKeyRef", source.config_map_key_ref), ("secretKeyRef", source.secret_key_ref)):
        if reference is None:
            continue
        count += 1
        report.invalids(f"{path}.{name}.name", reference.name, names.dns_subdomain(reference.name))
        if reference.key:
            report.invalids(f"{path}.{name}.key", reference.key, names.config_key(reference.key))
        else:
            report.required(f"{path}.{name}.key")
    if source.file_key_ref is not None:
        count += 1
        _file_key(source.file_key_ref, f"{path}.fileKeyRef", report)
    if count == 0:
        report.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )
    elif variable.value:
        report.invalid(path, "", "may not be specified when `value` is not empty")
    elif count > 1:
        report.invalid(path, "", "may not have more than one field specified at a time")


def validate_env_from(sources: list[EnvFromSource], path: str, report: Report) -> None:
    for index, source in enumerate(sources):
        place = f"{path}[{index}]"
        if source.prefix:
            report.invalids(f"{place}.prefix", source.prefix, names.env_name(source.prefix))
        given = [
            (name, each)
            for name, each in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref))
            if each is not None
        ]
        for name, each in given:
            if each.name:
                wrong = names.generated(names.dns_subdomain, each.name)
                report.invalids(f"{place}.{name}.name", each.name, wrong)
            else:
                report.required(f"{place}.{name}.name")
        if not given:
            report.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            report.invalid(path, "", "may not have more than one field specified at a time")


def validate_field_ref(reference: ObjectFieldSelector, supported: tuple[str, ...], path: str, report: Report) -> None:
    """A field of the pod; `supported` differs between variables and volumes."""
    given = reference.field_path
    if not reference.api_version:
        report.required(f"{path}.apiVersion")
        return
    if not given:
        report.required(f"{path}.fieldPath")
        return
    field, key = split_subscript(given)
    if reference.api_version != "v1":
        problem = f"unsupported pod version: {reference.api_version}"
    elif key is not None and field not in ("metadata.annotations", "metadata.labels"):
        problem = f"field label does not support subscript: {given}"
    elif key is None and given not in _FIELD_LABELS and given != "spec.host":
        problem = f"field label not supported: {given}"
    else:
        problem = ""
    if problem:
        report.invalid(f"{path}.fieldPath", given, f"error converting fieldPath: {problem}")
    elif key is not None:
        checked = key.lower() if field == "metadata.annotations" else key
        report.invalids(path, checked, names.qualified_name(checked))
    else:
        field = "spec.nodeName" if field == "spec.host" else field
        if field not in supported:
            report.not_supported(f"{path}.fieldPath", field, supported)


def split_subscript(field_path: str) -> tuple[str, str | None]:
    """`metadata.labels['app']` → (`metadata.labels`, `app`); the key is None for a path without subscript."""
    if field_path.endswith("']"):
        field, bracket, key = field_path.removesuffix("']").partition("['")
        if bracket and field:
            return field, key
    return field_path, None


def validate_resource_field_ref(reference: ResourceFieldSelector, path: str, report: Report, *, volume: bool) -> None:
    """A resource of a container; in a volume the container must be named."""
    name = reference.resource
    if volume and not reference.container_name:
        report.required(f"{path}.containerName")
    elif not name:
        report.required(f"{path}.resource")
    elif name not in _RESOURCES and not name.startswith(_HUGE_PAGES):
        report.not_supported(f"{path}.resource", name, _RESOURCES)
    divisor = quantity.parse(reference.divisor or "0")
    if divisor.nanos == 0:
        return
    kind = ""
    allowed: tuple[str, ...] = _SIZES
    if name in ("limits.cpu", "requests.cpu"):
        kind, allowed = "cpu", ("1m", "1")
    elif name in ("limits.memory", "requests.memory"):
        kind = "memory"
    elif name in ("limits.ephemeral-storage", "requests.ephemeral-storage"):
        kind = "local ephemeral storage"
    elif name.startswith(_HUGE_PAGES):
        kind = "hugepages"
    if kind and str(divisor) not in allowed:
        listed = "1m and 1" if kind == "cpu" else ", ".join(allowed)
        detail = f"only divisor's values {listed} are supported with the {kind} resource"
        report.invalid(f"{path}.divisor", name, detail)


def _file_key(reference: FileKeySelector, path: str, report: Report) -> None:
    if reference.key:
        report.invalids(f"{path}.key", reference.key, names.env_name(reference.key))
    else:
        report.required(f"{path}.key")
    if reference.volume_name:
        report.invalids(f"{path}.volumeName", reference.volume_name, names.dns_label(reference.volume_name))
    else:
        report.required(f"{path}.volumeName")
    if reference.path:
        report.invalids(f"{path}.path", reference.path, names.no_backsteps(reference.path))
    else:
        report.required(f"{path}.path")
