"""The files that all containers of a pod share: resolv.conf, hostname, and a hosts file if nobody mounts another."""

from __future__ import annotations

import os

from podlite.cri.types import NamespaceMode
from podlite.runtime.network.resolv import resolv_conf
from podlite.runtime.store import Sandbox


def write_files(sandbox: Sandbox, directory_fd: int) -> None:
    """Writes the files into the sandbox's directory. Blocking. Raises OSError."""
    _write(directory_fd, "resolv.conf", resolv_conf(sandbox.config.dns_config).encode())
    if sandbox.namespaces.network == NamespaceMode.NODE:
        return
    _write(directory_fd, "hostname", sandbox.config.hostname.encode() + b"\n")


def sandbox_files(sandbox: Sandbox) -> dict[str, str]:
    """Path in the container → path on the host. The kubelet's own hosts file comes as a mount of the container."""
    files = {"/etc/resolv.conf": f"{sandbox.directory}/resolv.conf"}
    if sandbox.namespaces.network == NamespaceMode.NODE:
        return {**files, "/etc/hostname": "/etc/hostname", "/etc/hosts": "/etc/hosts"}
    return {**files, "/etc/hostname": f"{sandbox.directory}/hostname", "/etc/hosts": "/etc/hosts"}


def _write(directory_fd: int, name: str, content: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=directory_fd)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
