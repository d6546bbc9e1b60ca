"""persistentVolumeClaim: named volumes of this machine, made when they are first used and kept until they are removed.

A claim `data` of the namespace `default` is the directory `default_data` of the state directory's `volumes`. Each
pod that uses one has a link to it among its own volumes, which is how it is known to be in use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from podlite.kubelet.pod_files import make_directories
from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes import layout
from podlite.kubelet.volumes.context import make_directory, set_group_once
from podlite.linux.fs import FileLock, remove_tree

if TYPE_CHECKING:
    from podlite.kubelet.types import KubeletConfig
    from podlite.kubelet.volumes.context import Context

_LOCK = ".lock"


class LocalVolume(NamedTuple):
    """`pods` are the UIDs of those that use it."""

    namespace: str
    claim: str
    path: str
    pods: tuple[str, ...]


def set_up(context: Context) -> str:
    """The named volume's directory. Blocking; idempotent. Raises OSError."""
    source = context.volume.persistent_volume_claim
    assert source is not None
    name = layout.local_volume_name(context.pod.metadata.namespace, source.claim_name)
    volumes = layout.local_volumes_dir(context.config)
    path = f"{volumes}/{name}"
    link = context.directory(layout.LOCAL)
    make_directories(os.path.dirname(link))
    make_directories(volumes)
    with FileLock(f"{volumes}/{_LOCK}"):
        try:
            os.symlink(path, link)
        except FileExistsError:
            pass
        make_directory(path)
        shared = len(_users(context.config).get(path, ())) > 1
    if not source.read_only and not shared:
        # Not while another pod uses it: as the kubelet's local volumes, it keeps the group of who came first.
        security = context.pod.spec.security_context
        policy = None if security is None else security.fs_group_change_policy
        set_group_once(context, path, on_root_mismatch=policy == "OnRootMismatch")
    return path


def local_volumes(config: KubeletConfig) -> list[LocalVolume]:
    """All named volumes, by name. Blocking. Raises OSError."""
    volumes = layout.local_volumes_dir(config)
    try:
        names = sorted(name for name in os.listdir(volumes) if "_" in name and not name.startswith("."))
    except FileNotFoundError:
        return []
    users = _users(config)
    result = []
    for name in names:
        namespace, _, claim = name.partition("_")
        path = f"{volumes}/{name}"
        result.append(LocalVolume(namespace, claim, path, tuple(sorted(users.get(path, ())))))
    return result


def remove_local_volume(config: KubeletConfig, namespace: str, claim: str) -> None:
    """Removes a named volume and what is in it. Blocking. Raises KubeletError if it is in use or not there, OSError."""
    volumes = layout.local_volumes_dir(config)
    name = layout.local_volume_name(namespace, claim)
    about = f"the volume {claim} of the namespace {namespace}"
    if not os.path.isdir(f"{volumes}/{name}"):
        raise KubeletError(f"{about} does not exist")
    with FileLock(f"{volumes}/{_LOCK}"):
        users = _users(config).get(f"{volumes}/{name}")
        if users:
            raise KubeletError(
                f"{about} is in use by the pod {', '.join(sorted(users))}", hint="end the pod, or prune what it left"
            )
        # Out of sight first: a removal that is interrupted leaves no volume with half of its files.
        doomed = f".{name}.removed"
        fd = os.open(volumes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(fd, doomed)
            os.rename(name, doomed, src_dir_fd=fd, dst_dir_fd=fd)
            remove_tree(fd, doomed)
        finally:
            os.close(fd)


def _users(config: KubeletConfig) -> dict[str, set[str]]:
    """Path of a named volume → UIDs of the pods that have a link to it."""
    pods = f"{config.state_dir}/pods"
    result: dict[str, set[str]] = {}
    try:
        uids = os.listdir(pods)
    except FileNotFoundError:
        return result
    for uid in uids:
        directory = f"{layout.volumes_dir(config, uid)}/{layout.LOCAL}"
        try:
            links = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for link in links:
            try:
                result.setdefault(os.readlink(f"{directory}/{link}"), set()).add(uid)
            except FileNotFoundError:
                continue
    return result
