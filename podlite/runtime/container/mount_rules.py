"""What CRI forbids of a container's mounts (api.proto on Mount), looked at before anything is made. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import Mount, MountPropagation


def check_mounts(mounts: Iterable[Mount]) -> None:
    """Raises InvalidArgumentError for the first mount that contradicts itself."""
    for mount in mounts:
        where = f"the mount on {mount.container_path}"
        if mount.recursive_read_only:
            if not mount.readonly:
                raise InvalidArgumentError(f"{where} is to be recursively read-only, but not read-only")
            if mount.propagation != MountPropagation.PROPAGATION_PRIVATE:
                raise InvalidArgumentError(
                    f"{where} is to be recursively read-only, which needs private propagation, not "
                    f"{mount.propagation.name}"
                )
        if mount.image is None and not mount.host_path.startswith("/"):
            raise InvalidArgumentError(f"{where} is to be of the host's {mount.host_path!r}, which is no absolute path")
        if mount.image is not None:
            if not mount.readonly:
                raise InvalidArgumentError(f"{where} is an image, and images are mounted read-only")
            if mount.host_path:
                raise InvalidArgumentError(f"{where} is both an image and {mount.host_path} of the host")
