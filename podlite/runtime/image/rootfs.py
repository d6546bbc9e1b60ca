"""What a container's root file system is made of, and who its user is according to the image."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from podlite.cri.errors import CRIError
from podlite.errors import explain
from podlite.runtime.image.config import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.runtime.image.record import ImageRecord
    from podlite.runtime.image.store import ImageStore

# As runc does: the kernel would take more, but ids are int32 in much of what reads them.
ID_MAX = 2**31 - 1
# Large enough for any directory server's export, small enough to be read by an attacker's wish.
USER_FILE_LIMIT = 8 << 20


class RootfsDescription(NamedTuple):
    """The read-only parts of a root: overlayfs lower directories, top layer first (never none), and binds over them,
    (host path, container path), all read-only. `image_id` is `sha256:…`."""

    lower: list[str]
    binds: list[tuple[str, str]]
    image_id: str
    config: ImageConfig


class ResolvedUser(NamedTuple):
    """`groups` are all groups of the process, `gid` among them, sorted. `home` is `/` where the image knows none."""

    uid: int
    gid: int
    groups: list[int]
    home: str


class UserFiles(Protocol):
    """Where /etc/passwd and /etc/group are read: a mounted root (`MountedRoot`), or layers (`merged.MergedTree`)."""

    def read(self, path: str, *, limit: int) -> bytes | None:
        """The content of a regular file, links resolved inside the root; None if there is none. Raises OSError."""
        ...


class MountedRoot:
    """The files of a mounted root file system, by a directory fd of it that stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, path: str, *, limit: int) -> bytes | None:
        """The content of a regular file; None if there is none. Raises OSError: EINVAL for another kind, EFBIG."""
        import stat

        from podlite.linux.fs import read_fd
        from podlite.linux.paths import open_in_root

        try:
            # A FIFO in the file's place must not hold us up.
            fd = open_in_root(self._fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "is not a regular file", path)
            return read_fd(fd, limit=limit, name=path)
        finally:
            os.close(fd)


def describe_rootfs(store: ImageStore, record: ImageRecord) -> RootfsDescription:
    """The root of an image that the caller has acquired from `store`."""
    lower = [store.layout.layer(layer) for layer in reversed(record.layers)]
    return RootfsDescription(lower, record.binds, record.id, record.config)


def resolve_user(
    files: UserFiles,
    *,
    image_user: str = "",
    run_as_user: int | None = None,
    run_as_username: str = "",
    run_as_group: int | None = None,
    supplemental_groups: Sequence[int] = (),
    strict_groups: bool = False,
) -> ResolvedUser:
    """The ids that a container runs with, from CRI's security context and the image's user.

    The security context wins over the image's user as a whole. `name`, `uid`, `name:group`, `uid:gid` and their
    mixtures are understood; a uid without an entry in /etc/passwd has the group 0; a stated group needs no entry
    if it is a number. `run_as_group` replaces the group. The groups that /etc/group lists the user in count
    unless `strict_groups` (SupplementalGroupsPolicy Strict); so do `supplemental_groups`.

    Raises CRIError with the text that the container engines use where there is one. Whether the user may be
    root is the kubelet's question, not this one's. Source: the comments of SecurityContext in cri-api's
    api.proto, and what containerd (pkg/oci, WithUser and WithAdditionalGIDs) answers to critest.
    """
    spec = run_as_username or ("" if run_as_user is None else str(run_as_user))
    if run_as_group is not None and not spec:
        raise CRIError(f'user group "{run_as_group}" is specified without user')
    user, colon, group = (spec or image_user).partition(":")
    if ":" in group:
        raise CRIError(f"invalid USER value {spec or image_user!r}: it has more than one colon")
    uid = _number(user or "0", "uid", spec or image_user)
    account = _find_account(files, uid, user)
    if account is None and uid is None:
        raise CRIError(
            f"unable to find user {user}: no matching entries in passwd file",
            hint="give the user as a number, or use an image whose /etc/passwd has it",
        )
    name, found_uid, gid, home = account or ("", uid or 0, 0, "/")
    if run_as_group is not None:
        gid = run_as_group
    elif colon:
        gid = _find_group(files, group, spec or image_user)
    groups = {gid, *supplemental_groups}
    if name and not strict_groups:
        groups.update(_groups_of(files, name))
    return ResolvedUser(found_uid, gid, sorted(groups), home or "/")


def _number(text: str, what: str, spec: str) -> int | None:
    """The id that `text` is, or None for a name. Raises CRIError beyond the range."""
    sign = text[:1] if text[:1] in ("-", "+") else ""
    number = _id(text[len(sign) :])
    if number is not None and (number > ID_MAX or (sign == "-" and number)):
        raise CRIError(f"invalid USER value {spec!r}: {what} out of range")
    return number


def _find_account(files: UserFiles, uid: int | None, user: str) -> tuple[str, int, int, str] | None:
    """(name, uid, gid, home) of the first entry of /etc/passwd with the uid, or else with the name."""
    for fields in _entries(files, "/etc/passwd"):
        # passwd(5): name:password:UID:GID:GECOS:directory:shell
        if len(fields) < 4:
            continue
        found_uid, found_gid = _id(fields[2]), _id(fields[3])
        if found_uid is None or found_gid is None:
            continue
        if found_uid == uid if uid is not None else fields[0] == user:
            home = fields[5] if len(fields) > 5 and fields[5].startswith("/") else "/"
            return fields[0], _in_range(found_uid, "/etc/passwd"), _in_range(found_gid, "/etc/passwd"), home
    return None


def _find_group(files: UserFiles, group: str, spec: str) -> int:
    stated = _number(group or "0", "gid", spec)
    if stated is not None:
        return stated
    for fields in _entries(files, "/etc/group"):
        gid = _id(fields[2]) if len(fields) > 2 and fields[0] == group else None
        if gid is not None:
            return _in_range(gid, "/etc/group")
    raise CRIError(
        f"unable to find group {group}: no matching entries in group file",
        hint="give the group as a number, or use an image whose /etc/group has it",
    )


def _groups_of(files: UserFiles, name: str) -> list[int]:
    """The groups that list the user; its own group of the same name is no supplementary one."""
    groups = []
    for fields in _entries(files, "/etc/group"):
        # group(5): name:password:GID:members
        if len(fields) > 3 and fields[0] != name and name in fields[3].split(","):
            gid = _id(fields[2])
            if gid is not None:
                groups.append(_in_range(gid, "/etc/group"))
    return groups


def _id(text: str) -> int | None:
    """The number that the text is, or None; what is too long to be an id is one beyond the range."""
    if not text.isascii() or not text.isdigit():
        return None
    return int(text) if len(text) < 20 else ID_MAX + 1


def _in_range(number: int, path: str) -> int:
    if number > ID_MAX:
        raise CRIError(f"{path} of the image has an id that is out of range")
    return number


def _entries(files: UserFiles, path: str) -> list[list[str]]:
    """The file's lines, split at colons, without comments and empty ones; none if there is no such file."""
    try:
        raw = files.read(path, limit=USER_FILE_LIMIT)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ENOENT):
            return []
        raise CRIError(f"{path} of the image cannot be used: {explain(error)}") from error
    lines = (line.strip() for line in (raw or b"").decode("utf-8", "surrogateescape").split("\n"))
    return [line.split(":") for line in lines if line and not line.startswith("#")]
