"""Named network namespaces as `ip netns` has them: names, processes, ids, and a command inside one.

A name is a pin in a directory (`podlite.linux.netns`). An id is the calling thread's network namespace's own number
for another one, which the kernel keeps and uses in link-netnsid. Everything here blocks.

Sources: ip-netns(8), iproute2's ip/ipnetns.c and lib/namespace.c, include/uapi/linux/net_namespace.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from podlite.linux.netlink import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes_of,
    message,
)
from podlite.linux.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_BIND,
    MS_RDONLY,
    MS_REC,
    MS_SLAVE,
    mount,
    setns,
    umount2,
    unshare,
)

RTM_NEWNSID, RTM_GETNSID = 88, 90
NETNSA_NSID, NETNSA_FD, NETNSA_TARGET_NSID, NETNSA_CURRENT_NSID = 1, 3, 4, 5
NOT_ASSIGNED = -1

NETNS_ETC = "/etc/netns"
_NAME_MAX = 255


class NamespaceId(NamedTuple):
    """`id` is the number in the namespace that was asked about, `current` our own number for the same one; either may
    be NOT_ASSIGNED, and `current` is None where the question was about our own namespace."""

    id: int
    current: int | None


def valid_name(name: str) -> bool:
    """Whether a pin may be called so."""
    return 0 < len(os.fsencode(name)) <= _NAME_MAX and "/" not in name and name not in (".", "..")


def names(directory: str) -> list[str]:
    """The pins of a directory, in its own order, as `ip netns list` has them. Raises OSError but for a missing one."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def identity(path: str) -> tuple[int, int]:
    """What makes two references to a namespace the same one. Raises OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def name_of_process(directory: str, pid: int | str) -> str:
    """The name of a process's network namespace, the last one of several, or an empty string. Raises OSError if there
    is no such process."""
    wanted = identity(f"/proc/{pid}/ns/net")
    found = ""
    for name in names(directory):
        try:
            if identity(f"{directory}/{name}") == wanted:
                found = name
        except OSError:
            continue  # going just now
    return found


def pids(path: str) -> Iterator[int]:
    """The processes in a named namespace, by number. Raises OSError if it is not there."""
    wanted = identity(path)
    for name in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        try:
            if identity(f"/proc/{name}/ns/net") == wanted:
                yield int(name)
        except OSError:
            continue  # it has ended, or is not ours to look into


# --- ids ------------------------------------------------------------------------------------


def id_of(netlink: NetlinkSocket, path: str) -> int:
    """Our number for a named namespace, or NOT_ASSIGNED. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        reply = netlink.request(_request(RTM_GETNSID, attribute(NETNSA_FD, struct.pack("=I", fd))))
    finally:
        os.close(fd)
    return NOT_ASSIGNED if reply is None else _read(reply).id


def set_id(netlink: NetlinkSocket, path: str, id: int) -> None:
    """Gives a named namespace our number `id`, NOT_ASSIGNED for one that is free. Raises NetlinkError: EEXIST if it has
    one already, or another one has this."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        body = attribute(NETNSA_FD, struct.pack("=I", fd)) + attribute(NETNSA_NSID, struct.pack("=i", id))
        errors = netlink.submit(_request(RTM_NEWNSID, body, NLM_F_ACK), 1)
    finally:
        os.close(fd)
    if errors:
        raise errors[0]


def ids(netlink: NetlinkSocket, target: int | None = None) -> list[NamespaceId]:
    """All namespaces that have a number in our own, or in the one that has number `target` in ours. Raises OSError."""
    body = struct.pack("=Bxxx", 0)
    if target is not None:
        netlink.check_strictly()
        body += attribute(NETNSA_TARGET_NSID, struct.pack("=i", target))
    return [_read(payload) for payload in netlink.dump(RTM_GETNSID, body)]


def find_id(netlink: NetlinkSocket, id: int, target: int | None = None) -> NamespaceId | None:
    """The namespace with a number, in our own or in that of `target`. Raises NetlinkError."""
    body = attribute(NETNSA_NSID, struct.pack("=i", id))
    if target is not None:
        body += attribute(NETNSA_TARGET_NSID, struct.pack("=i", target))
    reply = netlink.request(_request(RTM_GETNSID, body))
    return None if reply is None else _read(reply)


def _request(kind: int, attributes: bytes, flags: int = 0) -> bytes:
    return message(kind, NLM_F_REQUEST | flags, 1, struct.pack("=Bxxx", 0) + attributes)


def _read(payload: bytes) -> NamespaceId:
    found = attributes_of(payload, 4)
    if NETNSA_NSID not in found:
        raise NetlinkError(22, "an answer about namespace ids has none", 1)
    current = found.get(NETNSA_CURRENT_NSID)
    return NamespaceId(
        struct.unpack("=i", found[NETNSA_NSID])[0], None if current is None else struct.unpack("=i", current)[0]
    )


# --- a command inside one -------------------------------------------------------------------


def enter(directory: str, name: str) -> None:
    """Moves the calling process, which must have one thread, into a named namespace for good, with a /sys of that
    namespace, and with what is in /etc/netns/NAME over the files of the same name in /etc. Raises OSError."""
    fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWNET)
    finally:
        os.close(fd)
    unshare(CLONE_NEWNS)
    # Mounts of the host still come in here; ours do not get out.
    mount("", "/", "none", MS_SLAVE | MS_REC)
    flags = 0
    try:
        umount2("/sys", MNT_DETACH)
    except OSError:
        if os.statvfs("/sys").f_flag & os.ST_RDONLY:
            flags = MS_RDONLY
    mount(name, "/sys", "sysfs", flags)
    _bind_etc(name)


def _bind_etc(name: str) -> None:
    try:
        files = os.listdir(f"{NETNS_ETC}/{name}")
    except OSError:
        return
    for file in files:
        try:
            mount(f"{NETNS_ETC}/{name}/{file}", f"/etc/{file}", "none", MS_BIND)
        except OSError as error:
            raise OSError(
                error.errno, f"Bind {NETNS_ETC}/{name}/{file} -> /etc/{file} failed: {os.strerror(error.errno or 0)}"
            ) from error
