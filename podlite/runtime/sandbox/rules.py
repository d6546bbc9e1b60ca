"""What a sandbox's configuration must keep to, looked at before anything is made. Pure."""

from __future__ import annotations

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import LinuxPodSandboxConfig, NamespaceMode, PodSandboxConfig
from podlite.linux import sysctl

# ipc_namespaces(7): what a pod's ipc namespace has of its own.
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.", "kernel/shm", "kernel/msg", "kernel/sem")
# sethostname(2), HOST_NAME_MAX
_MAX_HOSTNAME = 64


def check_sandbox(config: PodSandboxConfig) -> None:
    """Raises InvalidArgumentError for the first thing that no sandbox can have."""
    metadata = config.metadata
    if not metadata.name or not metadata.uid or not metadata.namespace:
        raise InvalidArgumentError("a sandbox's metadata needs a name, a uid and a namespace")
    if "/" in metadata.uid or metadata.uid in (".", ".."):
        raise InvalidArgumentError(f"{metadata.uid!r} cannot be a pod's uid: it is to be the name of a directory")
    dns = config.dns_config
    for what, text in (
        ("name", metadata.name),
        ("namespace", metadata.namespace),
        ("uid", metadata.uid),
        ("hostname", config.hostname),
        ("log directory", config.log_directory),
        *(("DNS configuration", each) for each in ([*dns.servers, *dns.searches, *dns.options] if dns else [])),
    ):
        # They become lines of files, words of an environment, paths: nothing of them may end one and begin another.
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
            raise InvalidArgumentError(f"the sandbox's {what} {text!r} has a control character in it")
    if len(config.hostname.encode()) > _MAX_HOSTNAME:
        raise InvalidArgumentError(
            f"{config.hostname} cannot be the pod's hostname: Linux allows {_MAX_HOSTNAME} bytes, and it has "
            f"{len(config.hostname.encode())}"
        )
    if config.log_directory and not config.log_directory.startswith("/"):
        raise InvalidArgumentError(f"the log directory {config.log_directory!r} is no absolute path")
    if config.linux is not None:
        _check_sysctls(config.linux)


def is_network(name: str) -> bool:
    """Whether a kernel parameter belongs to the network namespace; the others that a pod can have to the ipc one."""
    return name.startswith(("net.", "net/"))


def _check_sysctls(linux: LinuxPodSandboxConfig) -> None:
    options = linux.security_context.namespace_options if linux.security_context is not None else None
    for name in linux.sysctls:
        shared = options is not None and (options.network if is_network(name) else options.ipc) == NamespaceMode.NODE
        # What is in no namespace of the pod's own would be set for the whole machine.
        if shared or not (is_network(name) or name.startswith(_IPC_SYSCTLS)):
            raise InvalidArgumentError(f"sysctl {name} is not the pod's own: it would be set for the whole machine")
        # And so would be what lies beside it: net/../kernel/core_pattern.
        if "\0" in name or not {"", ".", ".."}.isdisjoint(sysctl.path_of(name).split("/")[1:]):
            raise InvalidArgumentError(f"{name!r} is no kernel parameter's name")
