"""User namespaces of pods with `hostUsers: false`: which ids of the host each of them has.

Every such pod gets 65536 ids of its own, written to `userns` in its directory before anything uses them, so that
a restarted or another podlite on this machine does not give them away again. They come from the range that
/etc/subuid and /etc/subgid both give to the user `podlite`; without one, from all ids that those files give to nobody.

Sources: KEP-127; pkg/kubelet/userns, Kubernetes 1.36 (whose file format this is); subuid(5).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from podlite.cri.types import IDMapping, NamespaceMode, UserNamespace
from podlite.kubelet.paths import pod_dir
from podlite.kubelet.pod_files import make_directories
from podlite.kubelet.types import KubeletError
from podlite.linux.fs import FileLock, read_file, replace_file
from podlite.linux.idmap import POD_LENGTH, allocate, parse_subids

if TYPE_CHECKING:
    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig

USER = "podlite"
_FILE = "userns"
_ALL = (POD_LENGTH, 2**32 - 1 - POD_LENGTH)
_SUBIDS = ("/etc/subuid", "/etc/subgid")


class _Mapping(msgspec.Struct, rename="camel"):
    host_id: int
    container_id: int
    length: int


class _Record(msgspec.Struct):
    uid_mappings: list[_Mapping] = msgspec.field(name="uidMappings")
    gid_mappings: list[_Mapping] = msgspec.field(name="gidMappings")


def user_namespace(pod: Pod, config: KubeletConfig) -> UserNamespace:
    """The ids of a pod, allocated at the first call and the same from then on.

    Blocking. Raises KubeletError if no ids are left or the record cannot be kept.
    """
    directory = pod_dir(config, pod.metadata.uid)
    try:
        make_directories(directory)
        first = _recorded(f"{directory}/{_FILE}")
        if first is None:
            first = _allocate(directory, config)
    except OSError as error:
        raise KubeletError(
            f"create user namespace: the ids of the pod cannot be recorded in {directory}: {error.strerror}",
            reason="FailedCreatePodSandBox",
        ) from error
    mapping = IDMapping(host_id=first, container_id=0, length=POD_LENGTH)
    return UserNamespace(mode=NamespaceMode.POD, uids=[mapping], gids=[mapping])


def _recorded(path: str) -> int | None:
    """The first id of a pod's range, or None where there is no record. Raises KubeletError for a broken one."""
    try:
        data = read_file(path)
    except FileNotFoundError:
        return None
    try:
        record = msgspec.json.decode(data, type=_Record)
    except msgspec.DecodeError as error:
        raise KubeletError(f"user namespace: invalid user namespace mappings file: {error}") from error
    if len(record.uid_mappings) != 1 or record.uid_mappings != record.gid_mappings:
        raise KubeletError("user namespace: invalid user namespace configuration: UID and GID mappings differ")
    mapping = record.uid_mappings[0]
    if mapping.container_id != 0 or mapping.length != POD_LENGTH or mapping.host_id < POD_LENGTH:
        raise KubeletError("user namespace: invalid user namespace configuration: UID 0 must be mapped, above 65535")
    return mapping.host_id


def _allocate(directory: str, config: KubeletConfig) -> int:
    pods = f"{config.state_dir}/pods"
    with FileLock(f"{config.state_dir}/userns.lock"):
        used = []
        for name in os.listdir(pods):
            first = _recorded_or_none(f"{pods}/{name}/{_FILE}")
            if first is not None:
                used.append((first, POD_LENGTH))
        ours, others = _sub_ids()
        first = allocate(used, ours) if ours else allocate(used + others, [_ALL])
        if first is None:
            raise KubeletError(
                "create user namespace: could not find an empty slot to allocate a user namespace",
                reason="FailedCreatePodSandBox",
                hint=f"give the user {USER} more ids in /etc/subuid and /etc/subgid" if ours else "",
            )
        mappings = [_Mapping(host_id=first, container_id=0, length=POD_LENGTH)]
        data = msgspec.json.encode(_Record(uid_mappings=mappings, gid_mappings=mappings))
        replace_file(f"{directory}/{_FILE}", data, scratch=f"{directory}/.{_FILE}", durable=False)
        return first


def _recorded_or_none(path: str) -> int | None:
    """For the records of other pods: a broken one is its pod's problem, which cannot start."""
    try:
        return _recorded(path)
    except (KubeletError, NotADirectoryError):
        return None


def _sub_ids() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The (first id, count) that both files give to our user, and all that either gives to somebody else."""
    ours: list[list[tuple[int, int]]] = []
    others: list[tuple[int, int]] = []
    for path in _SUBIDS:
        try:
            text = read_file(path).decode(errors="replace")
        except OSError:
            text = ""
        # Without a number of its own: an entry for user 0 is not meant for pods.
        ours.append(parse_subids(text, USER, -1))
        for line in text.splitlines():
            name = line.partition(":")[0]
            if name and name != USER:
                others += parse_subids(line, name, -1)
    return [each for each in ours[0] if each in ours[1]], others
