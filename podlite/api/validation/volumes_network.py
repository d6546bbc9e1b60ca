"""Validation of the volumes that live on other machines or in a cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlite.api.base import wire_name
from podlite.api.validation import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.claims import EphemeralVolumeSource
    from podlite.api.validation.report import Report
    from podlite.api.volumes_network import (
        AzureDiskVolumeSource,
        CSIVolumeSource,
        FCVolumeSource,
        FlexVolumeSource,
        FlockerVolumeSource,
        GitRepoVolumeSource,
        ISCSIVolumeSource,
        NFSVolumeSource,
        QuobyteVolumeSource,
        StorageOSVolumeSource,
    )

# the fields that must not be empty, where that is all there is to check or comes first
_REQUIRED = {
    "aws_elastic_block_store": ("volumeID",),
    "azure_file": ("secretName", "shareName"),
    "cephfs": ("monitors",),
    "cinder": ("volumeID",),
    "gce_persistent_disk": ("pdName",),
    "glusterfs": ("endpoints", "path"),
    "photon_persistent_disk": ("pdID",),
    "portworx_volume": ("volumeID",),
    "rbd": ("monitors", "image"),
    "scale_io": ("gateway", "system", "volumeName"),
    "vsphere_volume": ("volumePath",),
}
_ISCSI_PREFIXES = ("iqn", "eui", "naa")
_HEX = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def validate_network_volume(attribute: str, source: Any, path: str, report: Report) -> None:
    """The source `attribute` of the volume at `path`."""
    wire = wire_name(attribute)
    # the API server's own slip
    place = f"{path}.persistentDisk" if attribute == "gce_persistent_disk" else f"{path}.{wire}"
    by_wire = dict(zip(source.__struct_encode_fields__, source.__struct_fields__, strict=True))
    for name in _REQUIRED.get(attribute, ()):
        if not getattr(source, by_wire[name]):
            report.required(f"{place}.{name}")
    check = _CHECKS.get(attribute)
    if check is not None:
        check(source, place, report)


def _partition(source: Any, path: str, report: Report) -> None:
    if not 0 <= source.partition <= 255:
        report.invalid(f"{path}.partition", source.partition, names.in_range(1, 255))


def _git_repo(source: GitRepoVolumeSource, path: str, report: Report) -> None:
    if not source.repository:
        report.required(f"{path}.repository")
    report.invalids(f"{path}.directory", source.directory, names.relative_path(source.directory))


def _nfs(source: NFSVolumeSource, path: str, report: Report) -> None:
    if not source.server:
        report.required(f"{path}.server")
    if not source.path:
        report.required(f"{path}.path")
    if not source.path.startswith("/"):
        report.invalid(f"{path}.path", source.path, "must be an absolute path")


def _iscsi(source: ISCSIVolumeSource, path: str, report: Report) -> None:
    if not source.target_portal:
        report.required(f"{path}.targetPortal")
    if not source.iqn:
        report.required(f"{path}.iqn")
    else:
        report.invalids(f"{path}.iqn", source.iqn, _initiator(source.iqn))
    if not 0 <= source.lun <= 255:
        report.invalid(f"{path}.lun", source.lun, names.in_range(0, 255))
    if (source.chap_auth_discovery or source.chap_auth_session) and source.secret_ref is None:
        report.required(f"{path}.secretRef")
    if source.initiator_name is not None:
        report.invalids(f"{path}.initiatorname", source.initiator_name, _initiator(source.initiator_name))


def validate_iscsi_name(source: ISCSIVolumeSource, volume_name: str, path: str, report: Report) -> None:
    """With an initiator of its own, the volume's name and the portal make a name that must not be too long."""
    if source.initiator_name is not None and len(f"{volume_name}:{source.target_portal}".encode()) > 64:
        detail = (
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
            "if iscsi.initiatorName is specified."
        )
        report.invalid(f"{path}.name", volume_name, detail)


def _initiator(name: str) -> list[str]:
    if not name.startswith(_ISCSI_PREFIXES):
        return ["must be valid format starting with iqn, eui, or naa"]
    if name.startswith("iqn"):
        import re

        good = re.search(r"iqn\.\d{4}-\d{2}\.([0-9A-Za-z\-.]+)(:[^,;*&$|\s]+)$", name, re.ASCII) is not None
    else:
        length = 16 if name.startswith("eui") else 32
        good = len(name) == 4 + length and _HEX.issuperset(name[4:])
    return [] if good else ["must be valid format"]


def _fc(source: FCVolumeSource, path: str, report: Report) -> None:
    if not source.target_wwns and not source.wwids:
        report.required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if source.target_wwns and source.wwids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        report.invalid(f"{path}.targetWWNs", source.target_wwns, detail)
    if not source.target_wwns:
        return
    if source.lun is None:
        report.required(f"{path}.lun", "lun is required if targetWWNs is specified")
    elif not 0 <= source.lun <= 255:
        report.invalid(f"{path}.lun", source.lun, names.in_range(0, 255))


def _flocker(source: FlockerVolumeSource, path: str, report: Report) -> None:
    if not source.dataset_name and not source.dataset_uuid:
        report.required(path, "one of datasetName and datasetUUID is required")
    if source.dataset_name and source.dataset_uuid:
        report.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in source.dataset_name:
        report.invalid(f"{path}.datasetName", source.dataset_name, "must not contain '/'")


def _flex(source: FlexVolumeSource, path: str, report: Report) -> None:
    if not source.driver:
        report.required(f"{path}.driver")
    for key in source.options:
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            report.invalid(f"{path}.options[{key}]", key, detail)


def _quobyte(source: QuobyteVolumeSource, path: str, report: Report) -> None:
    detail = "must be a host:port pair or multiple pairs separated by commas"
    if not source.registry:
        report.required(f"{path}.registry", detail)
    elif len(source.tenant.encode()) >= 65:
        report.required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in source.registry.split(","):
            host, colon, _ = pair.rpartition(":")
            if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
                report.invalid(f"{path}.registry", source.registry, detail)
    if not source.volume:
        report.required(f"{path}.volume")


def _azure_disk(source: AzureDiskVolumeSource, path: str, report: Report) -> None:
    if not source.disk_name:
        report.required(f"{path}.diskName")
    if not source.disk_uri:
        report.required(f"{path}.diskURI")
    modes, kinds = ("None", "ReadOnly", "ReadWrite"), ("Dedicated", "Managed", "Shared")
    if source.caching_mode is not None and source.caching_mode not in modes:
        report.not_supported(f"{path}.cachingMode", source.caching_mode, modes)
    if source.kind is not None and source.kind not in kinds:
        report.not_supported(f"{path}.kind", source.kind, kinds)
    if source.kind == "Managed":
        if not source.disk_uri.startswith("/subscriptions/"):
            form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
            report.not_supported(f"{path}.diskURI", source.disk_uri, (form,))
    elif source.kind is not None and not source.disk_uri.startswith("https://"):
        form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        report.not_supported(f"{path}.diskURI", source.disk_uri, (form,))


def _storageos(source: StorageOSVolumeSource, path: str, report: Report) -> None:
    if source.volume_name:
        report.invalids(f"{path}.volumeName", source.volume_name, names.dns_label(source.volume_name))
    else:
        report.required(f"{path}.volumeName")
    if source.volume_namespace:
        wrong = names.dns_label(source.volume_namespace)
        report.invalids(f"{path}.volumeNamespace", source.volume_namespace, wrong)
    _secret_ref(source, path, report)


def _secret_ref(source: Any, path: str, report: Report) -> None:
    if source.secret_ref is not None and not source.secret_ref.name:
        report.required(f"{path}.secretRef.name")


def _csi(source: CSIVolumeSource, path: str, report: Report) -> None:
    if not source.driver:
        report.required(f"{path}.driver")
    else:
        if len(source.driver.encode()) > 63:
            report.too_long(f"{path}.driver", 63)
        report.invalids(f"{path}.driver", source.driver, names.dns_subdomain(source.driver.lower()))
    reference = source.node_publish_secret_ref
    if reference is None:
        return
    if reference.name:
        report.invalids(f"{path}.name", reference.name, names.dns_subdomain(reference.name))
    else:
        report.required(f"{path}.nodePublishSecretRef.name")


def _ephemeral(source: EphemeralVolumeSource, path: str, report: Report) -> None:
    from podlite.api.validation.claims import validate_claim_template

    if source.volume_claim_template is None:
        report.required(f"{path}.volumeClaimTemplate")
    else:
        validate_claim_template(source.volume_claim_template, f"{path}.volumeClaimTemplate", report)


_CHECKS: dict[str, Callable[[Any, str, Report], None]] = {
    "aws_elastic_block_store": _partition,
    "azure_disk": _azure_disk,
    "cinder": _secret_ref,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "fc": _fc,
    "flex_volume": _flex,
    "flocker": _flocker,
    "gce_persistent_disk": _partition,
    "git_repo": _git_repo,
    "iscsi": _iscsi,
    "nfs": _nfs,
    "quobyte": _quobyte,
    "storageos": _storageos,
}
