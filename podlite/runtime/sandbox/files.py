"""The files that all containers of a pod share: resolv.conf, hostname, and a hosts file if nobody mounts another."""

from __future__ import annotations

import os
import stat

from podlite.cri.types import NamespaceMode
from podlite.runtime.network.resolv import resolv_conf
from podlite.runtime.store import Sandbox

_HOSTS = "/etc/hosts"


def write_files(sandbox: Sandbox, directory_fd: int) -> None:
    """Writes the files into the sandbox's directory. Blocking. Raises OSError."""
    _write(directory_fd, "resolv.conf", _resolv_conf(sandbox))
    _write(directory_fd, "hostname", _hostname(sandbox))
    _write(directory_fd, "hosts", _hosts())


def write_spare_files(directory_fd: int) -> None:
    """What of the files is the same for every pod; the others are there, and empty. Blocking. Raises OSError."""
    for name in ("resolv.conf", "hostname"):
        os.mknod(name, 0o644 | stat.S_IFREG, dir_fd=directory_fd)
    _write(directory_fd, "hosts", _hosts())


def finish_spare_files(sandbox: Sandbox, directory_fd: int) -> None:
    """After `write_spare_files`, once it is known whose they are: then they are as `write_files` makes them.

    Blocking, but for less: an ext4 begins to write a file to the disk when one that was cut to nothing is closed
    (ext4(5), auto_da_alloc), 0.05 ms for each, so none is overwritten without need. Raises OSError.
    """
    _write(directory_fd, "resolv.conf", _resolv_conf(sandbox), flags=0)
    _write(directory_fd, "hostname", _hostname(sandbox), flags=0)
    if _hosts_changed(directory_fd):
        _write(directory_fd, "hosts", _hosts())


def sandbox_files(sandbox: Sandbox) -> dict[str, str]:
    """Path in the container → path on the host. The kubelet's own hosts file comes as a mount of the container.

    Copies, all of them: a container may write to what it is given, as root.
    """
    return {f"/etc/{name}": f"{sandbox.directory}/{name}" for name in ("resolv.conf", "hostname", "hosts")}


def _resolv_conf(sandbox: Sandbox) -> bytes:
    return resolv_conf(sandbox.config.dns_config).encode()


def _hostname(sandbox: Sandbox) -> bytes:
    on_host = sandbox.namespaces.network == NamespaceMode.NODE
    hostname = os.uname().nodename if on_host or not sandbox.config.hostname else sandbox.config.hostname
    return hostname.encode() + b"\n"


def _hosts() -> bytes:
    """The host's own, as containerd has it."""
    try:
        with open(_HOSTS, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"


def _hosts_changed(directory_fd: int) -> bool:
    """Whether the host's file is another one, or was written, since the copy was made."""
    try:
        changed = os.stat(_HOSTS).st_ctime_ns
    except FileNotFoundError:
        return True
    # The clock of both is the kernel's coarse one: the same tick may be before and after.
    return changed >= os.stat("hosts", dir_fd=directory_fd).st_mtime_ns


def _write(directory_fd: int, name: str, content: bytes, *, flags: int = os.O_TRUNC) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644, dir_fd=directory_fd)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
