"""What a container's configuration must keep to, looked at before anything is made. Pure."""

from __future__ import annotations

from podlite.cri.errors import FailedPreconditionError, InvalidArgumentError, UnimplementedError
from podlite.cri.types import ContainerConfig, LinuxContainerSecurityContext, ProfileType
from podlite.runtime.container.mount_rules import check_mounts

# user_namespaces(7): 4294967295 stands for "no change".
_MAX_ID = 0xFFFFFFFE
# proc_pid_oom_score_adj(5)
_OOM_SCORE_ADJ = range(-1000, 1001)


def check_container(config: ContainerConfig) -> None:
    """Raises InvalidArgumentError for what no container can have, UnimplementedError and FailedPreconditionError for
    what podlite's cannot: to leave that out silently would be a container without its device, or its confinement."""
    name = config.metadata.name
    _check_text(config)
    check_mounts(config.mounts)
    if config.CDI_devices:
        raise UnimplementedError(
            f"container {name} is to have {', '.join(each.name for each in config.CDI_devices)}: podlite injects no "
            "devices by CDI (Container Device Interface)",
            hint="have the device plugin name the device nodes themselves",
        )
    for device in config.devices:
        if not set(device.permissions or "rwm") <= set("rwm"):
            raise InvalidArgumentError(
                f"device {device.host_path} of container {name} cannot have the permissions {device.permissions!r}: "
                "they are of r, w and m"
            )
    linux = config.linux
    if linux is None:
        return
    if linux.resources is not None and linux.resources.oom_score_adj not in _OOM_SCORE_ADJ:
        raise InvalidArgumentError(
            f"the oom_score_adj of container {name} is not between -1000 and 1000: {linux.resources.oom_score_adj}"
        )
    if linux.security_context is not None:
        _check_security(name, linux.security_context)


def _check_text(config: ContainerConfig) -> None:
    words = [*config.command, *config.args, config.working_dir, config.log_path]
    words += [path for mount in config.mounts for path in (mount.host_path, mount.container_path)]
    if any("\0" in each for each in words):
        raise InvalidArgumentError(f"the configuration of container {config.metadata.name} contains a NUL byte")
    for each in words:
        if not each.isascii() and not _is_utf8(each):
            # Out of a Secret, by $(NAME): CRI's strings are UTF-8, and only the values of variables are bytes.
            raise InvalidArgumentError(
                f"{each!r} in the configuration of container {config.metadata.name} is not UTF-8",
                hint="give it to the container as an environment variable or a file: those may contain any bytes",
            )
    for variable in config.envs:
        # environ(7): what is before the first = is the name.
        if not variable.key or "=" in variable.key or "\0" in variable.key:
            raise InvalidArgumentError(
                f"{variable.key!r} of container {config.metadata.name} cannot be the name of an environment variable"
            )
        if b"\0" in variable.value:
            raise InvalidArgumentError(
                f"the environment variable {variable.key} of container {config.metadata.name} contains a NUL byte",
                hint="mount the Secret as a volume: files may contain any bytes",
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_security(name: str, context: LinuxContainerSecurityContext) -> None:
    for group in context.supplemental_groups:
        if not 0 <= group <= _MAX_ID:
            raise InvalidArgumentError(f"container {name} cannot have the group {group}")
    for kind, profile in (("seccomp", context.seccomp), ("AppArmor", context.apparmor)):
        if profile is not None and profile.localhost_ref and profile.profile_type != ProfileType.Localhost:
            raise InvalidArgumentError(
                f"the {kind} profile of container {name} is {profile.profile_type.name}, and names "
                f"{profile.localhost_ref}, which only Localhost can"
            )
    if context.apparmor is not None and context.apparmor.profile_type != ProfileType.Unconfined:
        raise FailedPreconditionError(
            f"container {name} is to be confined by AppArmor, which podlite does not do",
            hint="leave the profile out, or make it Unconfined; seccomp and capabilities confine it all the same",
        )
