"""configMap volumes: on the disk, as the kubelet's.

Source: pkg/volume/configmap/configmap.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes import layout
from podlite.kubelet.volumes.projection import select, write_projection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.volumes import KeyToPath
    from podlite.kubelet.volumes.atomic_writer import File
    from podlite.kubelet.volumes.context import Context


def set_up(context: Context) -> str:
    """The volume's directory, with the ConfigMap as it is now. Blocking; idempotent. Raises OSError, KubeletError."""
    source = context.volume.config_map
    assert source is not None
    files = config_map_files(context, source.name, source.items, source.default_mode, bool(source.optional))
    return write_projection(context, layout.CONFIG_MAP, files, in_memory=False)


def config_map_files(
    context: Context, name: str, items: Sequence[KeyToPath], mode: int | None, optional: bool
) -> dict[str, File]:
    """The files of a ConfigMap: none of one that is not there and optional. Raises KubeletError."""
    found = context.objects.config_map(context.pod.metadata.namespace, name)
    if found is None:
        if not optional:
            raise KubeletError(f'configmap "{name}" not found')
        return select({}, items, mode, True, _absent)
    data = {key: text.encode("utf-8", "surrogateescape") for key, text in found.data.items()}
    return select({**found.binary_data, **data}, items, mode, optional, _absent)


def _absent(key: str) -> str:
    return f"configmap references non-existent config key: {key}"
