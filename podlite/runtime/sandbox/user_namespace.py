"""A pod's own user namespace (KEP-127), as the runtime sees it: its ids, and descriptors for id-mapped mounts.

The shim makes the namespace and everything that belongs to it; the network namespace is pinned from a process in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import NamespaceMode
from podlite.linux.idmap import IdRange, check, format_map, to_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.cri.types import IDMapping
    from podlite.runtime.store import Sandbox


def id_maps(sandbox: Sandbox) -> dict[str, object] | None:
    """What the shim is told: the maps as the kernel reads them, the host's ids of the pod's root, and whether the
    network namespace belongs to it. None for a pod among the host's users. Raises InvalidArgumentError."""
    namespace = sandbox.namespaces.userns_options
    if namespace is None or namespace.mode == NamespaceMode.NODE:
        return None
    if namespace.mode != NamespaceMode.POD:
        raise InvalidArgumentError(f"a user namespace of the mode {namespace.mode.name} is not supported")
    if sandbox.namespaces.network == NamespaceMode.NODE or sandbox.namespaces.ipc == NamespaceMode.NODE:
        raise InvalidArgumentError("a pod with users of its own cannot have the host's network or ipc namespace")
    uids, gids = _ranges(namespace.uids), _ranges(namespace.gids)
    return {"uids": format_map(uids), "gids": format_map(gids), "root": root_of(uids, gids), "network": True}


def host_root(sandbox: Sandbox) -> tuple[int, int] | None:
    """The host's ids of the pod's root; None for a pod among the host's users."""
    namespace = sandbox.namespaces.userns_options
    if namespace is None or namespace.mode == NamespaceMode.NODE:
        return None
    return root_of(_ranges(namespace.uids), _ranges(namespace.gids))


def root_of(uids: Sequence[IdRange], gids: Sequence[IdRange]) -> tuple[int, int]:
    """(uid, gid) on the host of user and group 0. Raises InvalidArgumentError where there is no root."""
    uid, gid = to_host(uids, 0), to_host(gids, 0)
    if uid is None or gid is None:
        raise InvalidArgumentError("a user namespace needs a root: its maps say nothing of id 0")
    return uid, gid


def _ranges(mappings: list[IDMapping]) -> list[IdRange]:
    ranges = [IdRange(each.container_id, each.host_id, each.length) for each in mappings]
    try:
        check(ranges)
    except ValueError as error:
        raise InvalidArgumentError(f"the ids of a user namespace: {error}") from error
    return ranges


async def open_user_namespace(sandbox: Sandbox) -> None:
    """Gets the pod's user namespace from its shim, once, if it has one; it is closed with the sandbox.

    Raises UnavailableError.
    """
    if sandbox.userns_fd >= 0 or host_root(sandbox) is None:
        return
    assert sandbox.shim is not None
    answer, fds = await sandbox.shim.request({"m": "namespaces"})
    for name, fd in zip(answer["names"], fds, strict=True):
        if name == "user" and sandbox.userns_fd < 0:
            sandbox.userns_fd = fd
        else:
            os.close(fd)
