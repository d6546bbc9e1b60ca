"""What confines a container's processes beside its namespaces: capabilities and the seccomp program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import ProfileType
from podlite.linux import capabilities
from podlite.runtime.container.process import security_context

if TYPE_CHECKING:
    from podlite.runtime.service import Runtime
    from podlite.runtime.store import Container


def container_capabilities(container: Container) -> tuple[capabilities.Capabilities, list[str]]:
    """What a container whose user is known gets, and the names of those it asks for and podlite does not have."""
    context = security_context(container.config)
    given = context.capabilities
    wanted = capabilities.for_container(
        given.add_capabilities if given else (),
        given.drop_capabilities if given else (),
        given.add_ambient_capabilities if given else (),
        privileged=context.privileged,
        uid=container.user.uid,
    )
    limited, missing = capabilities.limit(wanted, capabilities.held())
    return limited, missing if given is not None and given.add_capabilities else []


def check_seccomp(runtime: Runtime, container: Container) -> None:
    """Raises InvalidArgumentError for a profile of the machine's own that is not there or cannot be used. Blocking.

    CreateContainer fails for it, as in containerd, and the kubelet tries again: the profile may be put there yet.
    """
    profile = security_context(container.config).seccomp
    if profile is not None and profile.profile_type == ProfileType.Localhost:
        seccomp_program(runtime, container)


def seccomp_program(runtime: Runtime, container: Container) -> bytes:
    """The container's seccomp program, empty for none. Blocking. Raises InvalidArgumentError."""
    context = security_context(container.config)
    profile = context.seccomp
    if context.privileged or profile is None or profile.profile_type == ProfileType.Unconfined:
        return b""
    from podlite.linux import seccomp

    bounding = container_capabilities(container)[0].bounding
    if profile.profile_type != ProfileType.Localhost:
        return seccomp.default_filter(bounding, runtime.layout.cache_dir).program
    from podlite.linux.seccomp_profile import SeccompError

    try:
        return seccomp.file_filter(profile.localhost_ref, bounding, runtime.layout.cache_dir).program
    except SeccompError as error:
        raise InvalidArgumentError(error.message, hint=error.hint) from error
