"""What ConfigMap, Secret, downward API and projected volumes share: files that follow their source, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes.atomic_writer import File, write_atomically
from podlite.kubelet.volumes.context import make_directory, make_nested_mount_points, memory_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podlite.api.volumes import KeyToPath
    from podlite.kubelet.volumes.context import Context

FILE_MODE = 0o644


def write_projection(context: Context, plugin: str, files: Mapping[str, File], *, in_memory: bool = True) -> str:
    """Makes the volume show these files; returns its directory. Blocking; idempotent. Raises OSError, KubeletError."""
    directory = context.directory(plugin)
    if in_memory:
        memory_directory(context, directory)
    else:
        make_directory(directory)
    make_nested_mount_points(context, directory)
    group = context.fs_group

    def give_to_group() -> None:
        from podlite.kubelet.volumes.ownership import set_ownership

        if group is not None:
            set_ownership(directory, group, read_only=True)

    write_atomically(directory, files, before_publishing=give_to_group)
    return directory


def select(
    data: Mapping[str, bytes],
    items: Sequence[KeyToPath],
    default_mode: int | None,
    optional: bool,
    absent: Callable[[str], str],
) -> dict[str, File]:
    """The files of a ConfigMap or Secret: a file for each key, or those of `items`. Pure.

    Raises KubeletError with `absent(key)` for an item whose key is not there, unless it is optional.
    """
    mode = FILE_MODE if default_mode is None else default_mode
    if not items:
        return {key: File(content, mode) for key, content in data.items()}
    result: dict[str, File] = {}
    for item in items:
        if item.key in data:
            result[item.path] = File(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise KubeletError(absent(item.key))
    return result
