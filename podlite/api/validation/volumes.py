"""Validation of volumes: exactly one source, and that one is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.api import quantity
from podlite.api.base import wire_name
from podlite.api.validation import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.validation.report import Report
    from podlite.api.volumes import (
        ConfigMapVolumeSource,
        DownwardAPIVolumeFile,
        DownwardAPIVolumeSource,
        HostPathVolumeSource,
        ImageVolumeSource,
        KeyToPath,
        PersistentVolumeClaimVolumeSource,
        SecretVolumeSource,
        Volume,
    )

HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
MODE_RULE = "must be a number between 0 and 0777 (octal), both inclusive"

# in the order in which the API server looks: the first source that is set counts
# fmt: off
_ORDER = (
    "host_path", "git_repo", "gce_persistent_disk", "aws_elastic_block_store", "secret", "nfs", "iscsi",
    "glusterfs", "flocker", "persistent_volume_claim", "rbd", "cinder", "cephfs", "quobyte", "downward_api",
    "fc", "flex_volume", "config_map", "azure_file", "vsphere_volume", "photon_persistent_disk",
    "portworx_volume", "azure_disk", "storageos", "projected", "scale_io", "csi", "ephemeral", "image",
)
# fmt: on
# where the path of "more than one" is not the field's name
_ODD_PATHS = {"cephfs": "cephFS", "downward_api": "downwarAPI"}


def validate_volumes(volumes: list[Volume], pod_name: str, path: str, report: Report) -> dict[str, Volume]:
    """The volumes that containers may mount, by name: those of which nothing is wrong."""
    good: dict[str, Volume] = {}
    made = {f"{pod_name}-{volume.name}" for volume in volumes if pod_name and volume.ephemeral is not None}
    for index, volume in enumerate(volumes):
        place = f"{path}[{index}]"
        before = len(report.problems)
        _source(volume, pod_name, place, report)
        if volume.name:
            report.invalids(f"{place}.name", volume.name, names.dns_label(volume.name))
        else:
            report.required(f"{place}.name")
        if volume.name in good:
            report.duplicate(f"{place}.name", volume.name)
        if len(report.problems) == before:
            good[volume.name] = volume
        claim = volume.persistent_volume_claim
        if claim is not None and claim.claim_name in made:
            report.invalid(
                f"{place}.persistentVolumeClaim.claimName",
                claim.claim_name,
                "must not reference a PVC that gets created for an ephemeral volume",
            )
    return good


def _source(volume: Volume, pod_name: str, path: str, report: Report) -> None:
    found = volume.empty_dir is not None
    limit = volume.empty_dir.size_limit if volume.empty_dir is not None else None
    if limit is not None and quantity.parse(limit).nanos < 0:
        report.forbidden(f"{path}.emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity")
    for attribute in _ORDER:
        source = getattr(volume, attribute)
        if source is None:
            continue
        if found:
            name = _ODD_PATHS.get(attribute) or _wire(attribute)
            report.forbidden(f"{path}.{name}", "may not specify more than 1 volume type")
            continue
        found = True
        check = _CHECKS.get(attribute)
        if check is not None:
            check(source, f"{path}.{_wire(attribute)}", report)
        else:
            from podlite.api.validation.volumes_network import validate_network_volume

            validate_network_volume(attribute, source, path, report)
        if attribute == "ephemeral" and pod_name and volume.name:
            claim = f"{pod_name}-{volume.name}"
            for wrong in names.dns_subdomain(claim):
                report.invalid(f"{path}.name", volume.name, f'PVC name "{claim}": {wrong}')
    if volume.iscsi is not None:
        from podlite.api.validation.volumes_network import validate_iscsi_name

        validate_iscsi_name(volume.iscsi, volume.name, path, report)
    if not found:
        report.required(path, "must specify a volume type")


def _wire(attribute: str) -> str:
    return wire_name(attribute)


def _host_path(source: HostPathVolumeSource, path: str, report: Report) -> None:
    if not source.path:
        report.required(f"{path}.path")
        return
    report.invalids(f"{path}.path", source.path, names.no_backsteps(source.path))
    if source.type is not None and source.type not in HOST_PATH_TYPES:
        report.not_supported(f"{path}.type", source.type, HOST_PATH_TYPES)


def validate_mode(mode: int | None, path: str, report: Report) -> None:
    """The permission bits of a file that a volume makes."""
    if mode is not None and not 0 <= mode <= 0o777:
        report.invalid(path, mode, MODE_RULE)


def validate_key_to_path(item: KeyToPath, path: str, report: Report) -> None:
    if not item.key:
        report.required(f"{path}.key")
    if not item.path:
        report.required(f"{path}.path")
    report.invalids(f"{path}.path", item.path, names.local_path(item.path))
    validate_mode(item.mode, f"{path}.mode", report)


def _secret(source: SecretVolumeSource, path: str, report: Report) -> None:
    if not source.secret_name:
        report.required(f"{path}.secretName")
    validate_mode(source.default_mode, f"{path}.defaultMode", report)
    for index, item in enumerate(source.items):
        validate_key_to_path(item, f"{path}.items[{index}]", report)


def _config_map(source: ConfigMapVolumeSource, path: str, report: Report) -> None:
    if not source.name:
        report.required(f"{path}.name")
    validate_mode(source.default_mode, f"{path}.defaultMode", report)
    for index, item in enumerate(source.items):
        validate_key_to_path(item, f"{path}.items[{index}]", report)


def _downward_api(source: DownwardAPIVolumeSource, path: str, report: Report) -> None:
    validate_mode(source.default_mode, f"{path}.defaultMode", report)
    for item in source.items:
        validate_downward_file(item, path, report)


def validate_downward_file(item: DownwardAPIVolumeFile, path: str, report: Report) -> None:
    """One file with a field of the pod or a resource of a container."""
    from podlite.api.validation.env import VOLUME_FIELDS, validate_field_ref, validate_resource_field_ref

    if not item.path:
        report.required(f"{path}.path")
    report.invalids(f"{path}.path", item.path, names.local_path(item.path))
    if item.field_ref is not None:
        validate_field_ref(item.field_ref, VOLUME_FIELDS, f"{path}.fieldRef", report)
        if item.resource_field_ref is not None:
            report.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif item.resource_field_ref is not None:
        validate_resource_field_ref(item.resource_field_ref, f"{path}.resourceFieldRef", report, volume=True)
    else:
        report.required(path, "one of fieldRef and resourceFieldRef is required")
    validate_mode(item.mode, f"{path}.mode", report)


def _claim(source: PersistentVolumeClaimVolumeSource, path: str, report: Report) -> None:
    if not source.claim_name:
        report.required(f"{path}.claimName")


def _image(source: ImageVolumeSource, path: str, report: Report) -> None:
    from podlite.api.validation.containers import validate_pull_policy

    if not source.reference:
        report.required(f"{path}.reference")
    validate_pull_policy(source.pull_policy, f"{path}.pullPolicy", report)


def _projected(source: Any, path: str, report: Report) -> None:
    from podlite.api.validation.projected import validate_projected

    validate_projected(source, path, report)


_CHECKS: dict[str, Callable[[Any, str, Report], None]] = {
    "config_map": _config_map,
    "downward_api": _downward_api,
    "host_path": _host_path,
    "image": _image,
    "persistent_volume_claim": _claim,
    "projected": _projected,
    "secret": _secret,
}
