"""secret volumes: in memory.

Source: pkg/volume/secret/secret.go, Kubernetes 1.36.
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
    """The volume's directory, with the Secret as it is now. Blocking; idempotent. Raises OSError, KubeletError."""
    source = context.volume.secret
    assert source is not None
    files = secret_files(context, source.secret_name, source.items, source.default_mode, bool(source.optional))
    return write_projection(context, layout.SECRET, files)


def secret_files(
    context: Context, name: str, items: Sequence[KeyToPath], mode: int | None, optional: bool
) -> dict[str, File]:
    """The files of a Secret: none of one that is not there and optional. Raises KubeletError."""
    found = context.objects.secret(context.pod.metadata.namespace, name)
    if found is None and not optional:
        raise KubeletError(f'secret "{name}" not found')
    return select({} if found is None else found.data, items, mode, optional, _absent)


def _absent(key: str) -> str:
    return f"references non-existent secret key: {key}"
