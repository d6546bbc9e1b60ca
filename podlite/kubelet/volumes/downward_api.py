"""downwardAPI volumes: the pod's own metadata and its containers' resources, as files.

Source: pkg/volume/downwardapi/downwardapi.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.kubelet import node
from podlite.kubelet.field_refs import field_value, resource_value
from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes import layout
from podlite.kubelet.volumes.atomic_writer import File
from podlite.kubelet.volumes.projection import FILE_MODE, write_projection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.volumes import DownwardAPIVolumeFile
    from podlite.kubelet.volumes.context import Context


def set_up(context: Context) -> str:
    """The volume's directory, with the pod as it is now. Blocking; idempotent. Raises OSError, KubeletError."""
    source = context.volume.downward_api
    assert source is not None
    return write_projection(
        context, layout.DOWNWARD_API, downward_api_files(context, source.items, source.default_mode)
    )


def downward_api_files(
    context: Context, items: Sequence[DownwardAPIVolumeFile], default_mode: int | None
) -> dict[str, File]:
    """One file for each item. Raises KubeletError that names all that is wrong."""
    result: dict[str, File] = {}
    problems: list[str] = []
    for item in items:
        mode = item.mode if item.mode is not None else FILE_MODE if default_mode is None else default_mode
        text = ""
        try:
            if item.field_ref is not None:
                text = field_value(context.pod, item.field_ref.field_path)
            elif item.resource_field_ref is not None:
                text = resource_value(item.resource_field_ref, context.pod, None, node.allocatable(context.config))
        except KubeletError as error:
            problems.append(error.message)
        result[os.path.normpath(item.path)] = File(text.encode("utf-8", "surrogateescape"), mode)
    if problems:
        raise KubeletError(aggregate(problems))
    return result


def aggregate(problems: Sequence[str]) -> str:
    """Several errors as one text, each once, as apimachinery's Aggregate prints them. Pure."""
    different = list(dict.fromkeys(problems))
    return different[0] if len(different) == 1 else f"[{', '.join(different)}]"
