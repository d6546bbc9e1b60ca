"""podlite debug: an ephemeral container in a running pod, to look at it with programs that its images do not have."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from podlite.cli import options, pods, terminal
from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from podlite.api.container import EphemeralContainer
    from podlite.api.pod import Pod
    from podlite.api.security import SecurityContext
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched

# `debug POD COMMAND …`: what comes after the pod is the command's, options too.
WORDS_BEFORE_COMMAND = 1

PROFILES = ("general", "baseline", "restricted", "netadmin", "sysadmin", "legacy")
_IMAGE = "podlite.local/host:1"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # apimachinery/pkg/util/rand: no vowels, so no words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite debug`."""
    parser.usage = "podlite debug [-it] POD [--image IMAGE] [--target CONTAINER] [--] [COMMAND ARGUMENT...]"
    parser.epilog = "Exit status: the container's; 125 if podlite cannot do it. It stays in the pod's status."
    pods.add_pod(parser)
    parser.add_argument("--image", default=_IMAGE, help=f"the image to look with (this machine's own, {_IMAGE})")
    parser.add_argument("--target", metavar="CONTAINER", default="", help="see the processes of this container")
    parser.add_argument("-c", "--container", metavar="NAME", default="", help="its name (debugger- and five letters)")
    parser.add_argument(
        "--profile", choices=PROFILES, default="general", help="what it may do, as for kubectl (general)"
    )
    parser.add_argument("-e", "--env", metavar="NAME=VALUE", action="append", default=[], help="set a variable")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("-d", "--detach", action="store_true", help="start it, say its name, and leave it")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what the container says")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Starts the container, follows it; returns the exit status."""
    if arguments.detach and (arguments.stdin or arguments.tty):
        raise UsageError("--detach and -it exclude each other")
    found = pods.find_pod(pods.run_dir(arguments), arguments.pod, arguments.namespace)
    if found.pod.status.phase != "Running" or not found.held:
        raise PodliteError(f"pod {pods.full_name(found.pod)} is not running, it is {found.shown().status.phase}")
    container = debug_container(found.pod, arguments, arguments.command)
    _ask(found, container)
    import anyio

    from podlite.cli.debug_follow import follow_debugger, taken_on

    if arguments.detach:
        anyio.run(taken_on, found, container.name)
        print(container.name, flush=True)
        return 0
    if not arguments.container and not arguments.quiet:
        terminal.note(f"Defaulting debug container name to {container.name}.")
    return anyio.run(follow_debugger, found, container)


def debug_container(pod: Pod, arguments: argparse.Namespace, command: list[str]) -> EphemeralContainer:
    """The container that the command line describes, defaulted. Raises UsageError for what the API would not take."""
    from podlite.api.container import EnvVar, EphemeralContainer

    variables = [each.partition("=") for each in arguments.env]
    container = EphemeralContainer(
        name=arguments.container or f"debugger-{_suffix()}",
        image=arguments.image,
        args=[] if arguments.image == _IMAGE else command,
        command=(command or ["/bin/sh"]) if arguments.image == _IMAGE else [],
        target_container_name=arguments.target,
        env=[EnvVar(name=name, value=value) for name, _, value in variables],
        security_context=security_of(arguments.profile),
        stdin=arguments.stdin,
        tty=arguments.tty and (not arguments.stdin or os.isatty(0)),
    )
    _check(pod, container)
    return container


def _suffix() -> str:
    return "".join([_LETTERS[each % len(_LETTERS)] for each in os.urandom(5)])


def security_of(profile: str) -> SecurityContext | None:
    """What kubectl's debugging profiles give to an ephemeral container (kubectl/pkg/cmd/debug/profiles.go). Pure."""
    from podlite.api.security import Capabilities, SeccompProfile, SecurityContext

    if profile == "general":
        return SecurityContext(capabilities=Capabilities(add=["SYS_PTRACE"]))
    if profile == "netadmin":
        return SecurityContext(capabilities=Capabilities(add=["NET_ADMIN", "NET_RAW"]))
    if profile == "sysadmin":
        return SecurityContext(privileged=True)
    if profile == "restricted":
        return SecurityContext(
            run_as_non_root=True,
            allow_privilege_escalation=False,
            capabilities=Capabilities(drop=["ALL"]),
            seccomp_profile=SeccompProfile(type="RuntimeDefault"),
        )
    return None


def _check(pod: Pod, container: EphemeralContainer) -> None:
    """As the API server would, with the container among those that the pod has; sets defaults. Raises UsageError."""
    from msgspec import structs

    from podlite.api.defaults import set_pod_defaults
    from podlite.api.validation.pod import validate_pod

    spec = structs.replace(pod.spec, ephemeral_containers=[*pod.spec.ephemeral_containers, container])
    whole = structs.replace(pod, spec=spec)
    set_pod_defaults(whole)
    place = f"spec.ephemeralContainers[{len(spec.ephemeral_containers) - 1}]"
    problems = [each for each in validate_pod(whole) if each.path.startswith(place)]
    if problems:
        raise UsageError("; ".join([f"{each.path.removeprefix(f'{place}.')}: {each.message}" for each in problems]))


def _ask(found: WrittenPod, container: EphemeralContainer) -> None:
    """Has the pod's owner start it. Raises PodliteError."""
    from podlite.api import encode
    from podlite.cli.guest import Visit

    with Visit(found) as shim:
        shim.ask({"m": "debug", "container": encode.to_builtins(container)})
