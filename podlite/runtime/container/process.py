"""The first process of a container: what the image says and what the pod says, combined by the CRI's rules.

Pure. Who the process runs as is `podlite.runtime.image.rootfs.resolve_user`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import ContainerConfig, LinuxContainerSecurityContext

if TYPE_CHECKING:
    from podlite.runtime.image.config import ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_line(config: ContainerConfig, image: ImageConfig) -> list[str]:
    """The command line by Kubernetes' table: `command` replaces the entrypoint and with it the image's cmd.

    Raises InvalidArgumentError if nothing is left to run.
    Source: "Define a Command and Arguments for a Container" of the Kubernetes documentation.
    """
    of_image = [*image.entrypoint, *(config.args or image.cmd)]
    argv = [*config.command, *config.args] if config.command else of_image
    if not argv:
        raise InvalidArgumentError(
            f"container {config.metadata.name} has nothing to run: neither the pod nor the image names a command"
        )
    for word in argv:
        if "\0" in word:
            raise InvalidArgumentError(f"the command of container {config.metadata.name} contains a NUL byte")
    return argv


def environment(config: ContainerConfig, image: ImageConfig, hostname: str, home: str) -> list[str]:
    """`NAME=value` entries: a usable PATH and HOME, then the image's, then the pod's, later ones winning.

    Bytes that are no UTF-8 are kept as surrogates: a Secret may have them, and execve(2) takes them.
    """
    result = {"PATH": DEFAULT_PATH}
    if hostname:
        result["HOSTNAME"] = hostname
    if config.tty:
        result["TERM"] = "xterm"
    for entry in image.env:
        name, equals, value = entry.partition("=")
        if name and equals:
            result[name] = value
    for each in config.envs:
        result[each.key] = each.value.decode("utf-8", "surrogateescape")
    result.setdefault("HOME", home or "/")
    return [f"{name}={value}" for name, value in result.items()]


def as_messages(entries: list[str]) -> tuple[list[str], list[str]]:
    """An environment as JSON can carry it: the entries that are UTF-8, and the bytes of the others as Latin-1."""
    text, raw = [], []
    for entry in entries:
        data = b"" if entry.isascii() else entry.encode("utf-8", "surrogateescape")
        try:
            data.decode()
            text.append(entry)
        except UnicodeDecodeError:
            raw.append(data.decode("latin-1"))
    return text, raw


def security_context(config: ContainerConfig) -> LinuxContainerSecurityContext:
    """The container's security context, CRI's defaults where none is given."""
    if config.linux is not None and config.linux.security_context is not None:
        return config.linux.security_context
    return LinuxContainerSecurityContext()
