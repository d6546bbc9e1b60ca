"""What this machine lets this user do, found by doing it: in a child process whose namespaces go with it.

Nothing is left behind, and nothing of the machine is changed but that the kernel may load a module it has.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING

from podlite.linux import mounts, process, syscalls, userns

if TYPE_CHECKING:
    from collections.abc import Callable

# The whole of it takes some 20 ms; a kernel that hangs is not waited for.
TIMEOUT_SECONDS = 5.0

_NETLINK_NETFILTER = 12
_NFT_MSG_GETGEN = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_SECCOMP_RET_ERRNO = 0x00050000


def probe() -> dict[str, str]:
    """name of a probe → "" if it works, else why not, in a few words. Names are the keys of PROBES.

    Forks: call it where there is one thread. A probe that killed the child or hung says so.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            _run(write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    try:
        answers = _collect(read_end)
    finally:
        os.close(read_end)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {name: answers.get(name, "the probe did not come back") for name in PROBES}


def _run(answers: int) -> None:
    for name, attempt in PROBES.items():
        try:
            attempt()
            said = ""
        except OSError as error:
            said = error.strerror or str(error)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(answers, f"{name}\t{' '.join(said.split())}\n".encode())


def _collect(fd: int) -> dict[str, str]:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    text = b""
    while poller.poll(TIMEOUT_SECONDS * 1000):
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        text += chunk
    return dict(line.split("\t", 1) for line in text.decode().splitlines() if "\t" in line)


def _unshare(flag: int) -> Callable[[], None]:
    return lambda: syscalls.unshare(flag)


def _user_namespace() -> None:
    own = f"0 {os.geteuid()} 1\n", f"0 {os.getegid()} 1\n"
    os.close(userns.userns_fd(*own))


def _pid_namespace() -> None:
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    if os.waitpid(child, 0)[1]:
        raise OSError(0, "the first child is not process 1")


def _nftables() -> None:
    """Asks for the generation of the rules in this network namespace, which only nf_tables answers."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as channel:
        channel.settimeout(2.0)
        channel.send(struct.pack("=IHHIIBBH", 20, _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0, 0, 0, 0))
        answer = channel.recv(8192)
    kind, code = struct.unpack_from("=4xH10xi", answer)
    if kind == _NLMSG_ERROR and code:
        raise OSError(-code, os.strerror(-code))


def _mount_api() -> None:
    """A detached tmpfs, a clone of it with other attributes, and its attachment: all that pods' mounts need."""
    new = mounts.new_filesystem("tmpfs", {"size": "64k"})
    os.mkdir("a", dir_fd=new)
    # Attached in this child's own mount namespace, which the probe of namespaces has made.
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.move_mount(new, "", syscalls.AT_FDCWD, "/tmp", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    clone = syscalls.open_tree(syscalls.AT_FDCWD, "/tmp", syscalls.OPEN_TREE_CLONE)
    syscalls.mount_setattr(clone, "", syscalls.AT_EMPTY_PATH, attr_set=syscalls.MOUNT_ATTR_RDONLY)
    os.close(syscalls.openat2(clone, "a", os.O_PATH, resolve=syscalls.RESOLVE_IN_ROOT))


def _overlay() -> None:
    base = mounts.new_filesystem("tmpfs", {"size": "64k"})
    for name in ("lower", "upper", "work"):
        os.mkdir(name, dir_fd=base)
    below = f"/proc/self/fd/{base}"
    options = {"lowerdir": f"{below}/lower", "upperdir": f"{below}/upper", "workdir": f"{below}/work"}
    os.close(mounts.new_filesystem("overlay", options))
    os.close(base)


def _idmapped_mount() -> None:
    ids = "0 65536 65536\n"
    namespace = userns.userns_fd(ids, ids)
    clone = syscalls.open_tree(syscalls.AT_FDCWD, "/", syscalls.OPEN_TREE_CLONE)
    syscalls.mount_setattr(clone, "", syscalls.AT_EMPTY_PATH, attr_set=syscalls.MOUNT_ATTR_IDMAP, userns_fd=namespace)
    os.close(clone)
    os.close(namespace)


def _seccomp() -> None:
    import ctypes

    action = ctypes.c_uint32(_SECCOMP_RET_ERRNO)
    syscalls.seccomp(syscalls.SECCOMP_GET_ACTION_AVAIL, 0, ctypes.addressof(action))


def _keyring() -> None:
    if not process.new_session_keyring():
        raise OSError(0, "not permitted, or the kernel has none")


# In this order: later ones need the namespaces of earlier ones.
PROBES: dict[str, Callable[[], None]] = {
    "user namespaces": _user_namespace,
    "mount namespaces": _unshare(syscalls.CLONE_NEWNS),
    "network namespaces": _unshare(syscalls.CLONE_NEWNET),
    "ipc namespaces": _unshare(syscalls.CLONE_NEWIPC),
    "uts namespaces": _unshare(syscalls.CLONE_NEWUTS),
    "cgroup namespaces": _unshare(syscalls.CLONE_NEWCGROUP),
    "mount API": _mount_api,
    "overlayfs": _overlay,
    "id-mapped mounts": _idmapped_mount,
    "nftables": _nftables,
    "seccomp": _seccomp,
    "session keyrings": _keyring,
    # Last: its first child ends at once, and after that the kernel forks none any more (pid_namespaces(7)).
    "pid namespaces": _pid_namespace,
}
