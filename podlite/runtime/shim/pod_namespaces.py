"""The namespaces that a pod's containers share, held open by the shim's descriptors.

Standard library only: the shim runs this.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from podlite.linux import sysctl
from podlite.linux.capabilities import drop_bounding
from podlite.linux.process import set_title, write_id_maps
from podlite.linux.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    capset,
    close_range,
    mount,
    pivot_root,
    prctl,
    setdomainname,
    setns,
    umount2,
    unshare,
)
from podlite.runtime.shim.fork import NEW_PID_NAMESPACE
from podlite.runtime.shim.init import join_cgroups, join_namespaces
from podlite.runtime.shim.names import SHM_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from podlite.runtime.shim.fork import Forker


def create(*, ipc: bool, uts: bool, hostname: str) -> dict[str, int]:
    """Creates the pod's ipc and uts namespaces, as asked for, and returns their descriptors.

    The shim itself is back in its own namespaces afterwards. Raises OSError.
    """
    wanted = [("ipc", CLONE_NEWIPC)] if ipc else []
    if uts:
        wanted.append(("uts", CLONE_NEWUTS))
    if not wanted:
        return {}
    own = {name: os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name, _ in wanted}
    flags = 0
    for _, kind in wanted:
        flags |= kind
    unshare(flags)
    try:
        if uts:
            socket.sethostname(hostname)
            # As a new machine has it; the host's NIS domain is none of the pod's business.
            setdomainname("(none)")
        return {name: os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name, _ in wanted}
    finally:
        for name, kind in wanted:
            setns(own[name], kind)
            os.close(own[name])


def set_hostname(uts: int, hostname: str) -> None:
    """Sets the hostname of the uts namespace `uts`; the shim itself is back in its own afterwards. Raises OSError."""
    own = os.open("/proc/self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    setns(uts, CLONE_NEWUTS)
    try:
        socket.sethostname(hostname)
    finally:
        setns(own, CLONE_NEWUTS)
        os.close(own)


def write_sysctls(ipc: int, sysctls: dict[str, str]) -> None:
    """Sets sysctls of the ipc namespace `ipc`; the shim itself is back in its own afterwards. Raises OSError."""
    own = os.open("/proc/self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
    setns(ipc, CLONE_NEWIPC)
    try:
        sysctl.write_all(sysctls)
    finally:
        setns(own, CLONE_NEWIPC)
        os.close(own)


class UserNamespace:
    """A user namespace of the pod's own, and the other namespaces that belong to it, kept by a waiting child.

    `namespaces` are descriptors by name; the network namespace is pinned from the child, `pid`, before `release`.
    """

    def __init__(self, pid: int, hold: socket.socket, namespaces: dict[str, int]) -> None:
        self.pid = pid
        self.namespaces = namespaces
        self._hold: socket.socket | None = hold

    def release(self) -> None:
        """Ends the child; what is pinned or open stays. Idempotent."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None


def create_with_user_namespace(
    uid_map: str, gid_map: str, *, network: bool, ipc: bool, uts: bool, hostname: str, sysctls: dict[str, str]
) -> UserNamespace:
    """A user namespace with these maps (user_namespaces(7)), and namespaces that it owns, with these sysctls of theirs.

    Raises OSError.

    They are made by a child that is in the user namespace: only there do they belong to it, and without that the
    pod's root could not mount its own sysfs, mqueue or proc.
    """
    flags = (CLONE_NEWNET if network else 0) | (CLONE_NEWIPC if ipc else 0) | (CLONE_NEWUTS if uts else 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _hold_namespaces(theirs, flags, hostname if uts else "", sysctls)
    theirs.close()
    try:
        _expect(ours, b"user")
        write_id_maps(pid, uid_map, gid_map)
        ours.send(b"mapped")
        _expect(ours, b"ready")
        wanted = ["user"] + [name for name, made in (("ipc", ipc), ("uts", uts)) if made]
        opened = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in wanted}
    except BaseException:
        ours.close()
        raise
    return UserNamespace(pid, ours, opened)


def _expect(channel: socket.socket, word: bytes) -> None:
    said = channel.recv(1024)
    if said != word:
        raise OSError(1, said.decode(errors="replace") or "the child that makes the user namespace ended", "unshare")


def _hold_namespaces(channel: socket.socket, flags: int, hostname: str, sysctls: dict[str, str]) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The parent writes our maps through /proc, which a process that is not dumpable hides from it.
        unshare(CLONE_NEWUSER)
        channel.send(b"user")
        if channel.recv(16) != b"mapped":
            os._exit(1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if flags:
            unshare(flags)
        if hostname:
            socket.sethostname(hostname)
            setdomainname("(none)")
        # Those of the ipc namespace are for its root alone to write (since Linux 5.19), and ids in values are its own.
        sysctl.write_all(sysctls)
        prctl(PR_SET_DUMPABLE, 0)
        channel.send(b"ready")
        channel.recv(16)
        os._exit(0)
    except BaseException as error:
        try:
            channel.send(f"{error}".encode()[:1000])
        finally:
            os._exit(1)


def create_shared_memory(scratch: str, size: int) -> str:
    """The pod's /dev/shm, in a mount namespace of the shim's own; returns its path there.

    `size` is in bytes. The shim enters its own mount namespace here.
    """
    unshare(CLONE_NEWNS)
    path = f"{scratch}/{SHM_DIRECTORY}"
    mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode=1777,size={size}")
    return path


def start_pause(namespaces: dict[str, int], cgroups: list[str], scratch: str, forker: Forker) -> int:
    """Starts pid 1 of a pid namespace that the pod's containers share; returns its pid.

    It reaps what is orphaned there and does nothing else. Containers can see it, so it has nothing to be
    taken: the pod's own namespaces, an empty root, no capability, and it is not dumpable. Raises OSError.
    """
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        pid, pidfd = forker.fork(NEW_PID_NAMESPACE, "")
        if pid == 0:
            # In a user namespace of the pod's it is already.
            parent.close()  # or it would never see that the shim has ended
            _pause({name: fd for name, fd in namespaces.items() if name != "user"}, cgroups, scratch, child)
        os.close(pidfd)
    finally:
        child.close()
    with parent:
        said = parent.recv(1024)
    if said != b"ready":
        os.waitpid(pid, 0)
        raise OSError(1, said.decode(errors="replace") or "pid 1 of the pod ended at once", "pause")
    return pid


def _pause(namespaces: dict[str, int], cgroups: list[str], scratch: str, channel: socket.socket) -> NoReturn:
    try:
        os.setsid()
        set_title("podlite: pause")
        signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        signal.set_wakeup_fd(-1)
        join_cgroups(cgroups)
        join_namespaces({name: fd for name, fd in namespaces.items() if name != "pid"})
        unshare(CLONE_NEWNS)
        mount("podlite", scratch, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=555,size=4k")
        os.chdir(scratch)
        pivot_root(".", ".")
        umount2(".", MNT_DETACH)
        os.chdir("/")
        drop_bounding(0)
        # 65535 is the user of Kubernetes' own pause image.
        os.setgroups([])
        os.setresgid(65535, 65535, 65535)
        os.setresuid(65535, 65535, 65535)
        # The change of user makes it what fs.suid_dumpable says (proc(5)).
        prctl(PR_SET_DUMPABLE, 0)
        capset(0, 0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        channel.send(b"ready")
        close_range(0, 0xFFFFFFFF)
        while True:
            if signal.sigwait(signals) != signal.SIGCHLD:
                break
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break
        os._exit(0)
    except BaseException as error:
        try:
            channel.send(f"{type(error).__name__}: {error}".encode()[:1024])
        finally:
            sys.stdout = sys.stderr = None
            os._exit(1)
