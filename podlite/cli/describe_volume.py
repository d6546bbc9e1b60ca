"""A volume of a pod, in the words and order of `kubectl describe pod`. Pure; of the kinds that podlite has.

Source: describeVolumes in k8s.io/kubectl/pkg/describe/describe.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podlite.api.volumes import DownwardAPIVolumeSource, ProjectedVolumeSource, Volume
    from podlite.cli.describe_text import Text


def describe_volume(text: Text, volume: Volume) -> None:
    """The volume's lines."""
    text.line(1, f"{volume.name}:")
    if volume.host_path is not None:
        _lines(
            text,
            "HostPath (bare host directory volume)",
            Path=volume.host_path.path,
            HostPathType="<none>" if volume.host_path.type is None else volume.host_path.type,
        )
    elif volume.empty_dir is not None:
        _lines(
            text,
            "EmptyDir (a temporary directory that shares a pod's lifetime)",
            Medium=volume.empty_dir.medium,
            SizeLimit=volume.empty_dir.size_limit or "<unset>",
        )
    elif volume.secret is not None:
        _lines(
            text,
            "Secret (a volume populated by a Secret)",
            SecretName=volume.secret.secret_name,
            Optional=_bool(volume.secret.optional),
        )
    elif volume.config_map is not None:
        _lines(
            text,
            "ConfigMap (a volume populated by a ConfigMap)",
            Name=volume.config_map.name,
            Optional=_bool(volume.config_map.optional),
        )
    elif volume.persistent_volume_claim is not None:
        _lines(
            text,
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
            ClaimName=volume.persistent_volume_claim.claim_name,
            ReadOnly=_bool(volume.persistent_volume_claim.read_only),
        )
    elif volume.downward_api is not None:
        _downward_api(text, volume.downward_api)
    elif volume.projected is not None:
        _projected(text, volume.projected)
    elif volume.image is not None:
        _lines(
            text,
            "Image (a container image or OCI artifact)",
            Reference=volume.image.reference,
            PullPolicy=volume.image.pull_policy,
        )
    else:
        text.line(1, "<unknown>")


def _lines(text: Text, type: str, **fields: str) -> None:
    text.line(2, "Type:", type)
    for name, value in fields.items():
        text.line(2, f"{name}:", value)


def _downward_api(text: Text, source: DownwardAPIVolumeSource) -> None:
    text.line(2, "Type:", "DownwardAPI (a volume populated by information about the pod)")
    text.line(2, "Items:")
    for item in source.items:
        if item.field_ref is not None:
            text.line(3, f"{item.field_ref.field_path} -> {item.path}")
        if item.resource_field_ref is not None:
            text.line(3, f"{item.resource_field_ref.resource} -> {item.path}")


def _projected(text: Text, projected: ProjectedVolumeSource) -> None:
    text.line(2, "Type:", "Projected (a volume that contains injected data from multiple sources)")
    for source in projected.sources:
        if source.secret is not None:
            text.line(2, "SecretName:", source.secret.name)
            text.line(2, "Optional:", _bool(source.secret.optional))
        elif source.downward_api is not None:
            text.line(2, "DownwardAPI:", "true")
        elif source.config_map is not None:
            text.line(2, "ConfigMapName:", source.config_map.name)
            text.line(2, "Optional:", _bool(source.config_map.optional))


def _bool(value: bool | None) -> str:
    return "true" if value else "false"
