"""The files that all containers of a pod share: resolv.conf, hostname, and a hosts file if nobody mounts another."""

from __future__ import annotations

import os

from podlite.cri.types import NamespaceMode
from podlite.runtime.network.resolv import resolv_conf
from podlite.runtime.store import Sandbox


def write_files(sandbox: Sandbox, directory_fd: int) -> None:
    """Writes the files into the sandbox's directory. Blocking. Raises OSError."""
    on_host = sandbox.namespaces.network == NamespaceMode.NODE
    hostname = os.uname().nodename if on_host or not sandbox.config.hostname else sandbox.config.hostname
    _write(directory_fd, "resolv.conf", resolv_conf(sandbox.config.dns_config).encode())
    _write(directory_fd, "hostname", hostname.encode() + b"\n")
    _write(directory_fd, "hosts", _hosts())


def sandbox_files(sandbox: Sandbox) -> dict[str, str]:
    """Path in the container → path on the host. The kubelet's own hosts file comes as a mount of the container.

    Copies, all of them: a container may write to what it is given, as root.
    """
    return {f"/etc/{name}": f"{sandbox.directory}/{name}" for name in ("resolv.conf", "hostname", "hosts")}


def _hosts() -> bytes:
    """The host's own, as containerd has it."""
    try:
        with open("/etc/hosts", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"


def _write(directory_fd: int, name: str, content: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=directory_fd)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
