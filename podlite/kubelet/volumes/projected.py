"""projected volumes: several sources in one directory; where two have the same path, the later one counts.

There is no API server that could issue service account tokens, trust bundles or certificates: a pod that needs one
cannot have its volume, and is told so.

Source: pkg/volume/projected/projected.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes import layout
from podlite.kubelet.volumes.atomic_writer import File
from podlite.kubelet.volumes.config_map import config_map_files
from podlite.kubelet.volumes.downward_api import aggregate, downward_api_files
from podlite.kubelet.volumes.projection import FILE_MODE, write_projection
from podlite.kubelet.volumes.secret import secret_files

if TYPE_CHECKING:
    from podlite.api.volumes import VolumeProjection
    from podlite.kubelet.volumes.context import Context

_UNAVAILABLE = (
    ("service_account_token", "serviceAccountToken", "service account tokens are issued by an API server"),
    ("cluster_trust_bundle", "clusterTrustBundle", "trust bundles are kept by an API server"),
    ("pod_certificate", "podCertificate", "pod certificates are issued by a cluster's signer"),
)


def set_up(context: Context) -> str:
    """The volume's directory, with all sources as they are now. Blocking; idempotent. Raises OSError, KubeletError."""
    source = context.volume.projected
    assert source is not None
    files: dict[str, File] = {}
    problems: list[str] = []
    hint = ""
    for each in source.sources:
        try:
            files.update(_files(context, each, source.default_mode))
        except KubeletError as error:
            problems.append(error.message)
            hint = hint or error.hint
    if problems:
        raise KubeletError(aggregate(problems), hint=hint)
    return write_projection(context, layout.PROJECTED, files)


def _files(context: Context, source: VolumeProjection, mode: int | None) -> dict[str, File]:
    if source.secret is not None:
        secret = source.secret
        return secret_files(context, secret.name, secret.items, mode, bool(secret.optional))
    if source.config_map is not None:
        config_map = source.config_map
        return config_map_files(context, config_map.name, config_map.items, mode, bool(config_map.optional))
    if source.downward_api is not None:
        return downward_api_files(context, source.downward_api.items, mode)
    if source.cluster_trust_bundle is not None and source.cluster_trust_bundle.optional:
        return {source.cluster_trust_bundle.path: File(b"", FILE_MODE if mode is None else mode)}
    for attribute, name, reason in _UNAVAILABLE:
        if getattr(source, attribute) is not None:
            raise KubeletError(
                f"the source {name} is not available here: {reason}, and there is none",
                hint="put what the pod needs into a Secret and project that",
            )
    return {}
