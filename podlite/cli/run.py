"""podlite run: pods from manifests, or one from an image, followed to their end."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, terminal, values
from podlite.cli.exit_status import TABLE
from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from podlite.api.manifest import Manifests
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite run`."""
    parser.usage = (
        "podlite run [OPTIONS] FILE...\n       podlite run [OPTIONS] --image IMAGE [[--] COMMAND ARGUMENT...]"
    )
    parser.epilog = epilog()
    parser.add_argument("files", metavar="FILE", nargs="*", help="manifests; - is standard input")
    parser.add_argument(
        "--validate", choices=("strict", "warn", "ignore"), default="strict", help="unknown fields (strict)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but the containers' output")
    parser.add_argument(
        "-o",
        "--output",
        choices=("json", "yaml"),
        help="after the end, print the Pods with their status, and nothing else",
    )
    parser.add_argument(
        "--prefix",
        choices=("auto", "always", "never"),
        default="auto",
        help="pod/container before each line (auto: on a terminal)",
    )
    parser.add_argument(
        "--timeout", type=values.seconds, metavar="TIME", help="end the pods after this time (90, 90s, 5m), exit 124"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the ended pods for a look inside; `podlite rm` removes them"
    )
    parser.add_argument(
        "--keep-trying", action="store_true", help="never give up on a pod that cannot be started, as the kubelet"
    )
    parser.add_argument(
        "-d", "--detach", action="store_true", help="hand the pods to the agent, started if none runs, and return"
    )
    parser.add_argument("--trace", metavar="FILE", help="write the run's timeline, in Chrome's trace-event format")
    image = parser.add_argument_group("a pod without a file")
    image.add_argument("--image", metavar="IMAGE", help="run this image")
    image.add_argument("--name", metavar="NAME", help="the pod's name (from the image's)")
    image.add_argument("-e", "--env", metavar="NAME=VALUE", action="append", default=[], help="set a variable")
    image.add_argument(
        "-v", "--volume", metavar="HOST:PATH[:ro]", action="append", default=[], help="mount a host path"
    )
    image.add_argument(
        "-p",
        "--publish",
        metavar="[IP:]HOST:PORT[/PROTOCOL]",
        action="append",
        default=[],
        help="publish a port of the pod on a port of this machine",
    )
    image.add_argument(
        "--restart", choices=("Always", "OnFailure", "Never"), default="Never", help="restart policy (Never)"
    )
    objects = parser.add_argument_group("what pods refer to, beside what the manifests have")
    for name, kind in (("configmap", "ConfigMap"), ("secret-from", "Secret")):
        objects.add_argument(
            f"--{name}",
            metavar="NAME=PATH",
            action="append",
            default=[],
            help=f"a {kind} of a file, or of the files in a directory, each under its own name",
        )
    options.add_runtime(parser)
    options.add_network(parser)
    options.add_kubelet(parser)
    options.add_logging(parser)
    options.add_directories(parser)


def words_before_command(argv: list[str]) -> int | None:
    """With --image, what stands after the options is the command, whose options are its own; see podlite.cli.main."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    return 0 if any(each == "--image" or each.startswith("--image=") for each in own) else None


def epilog() -> str:
    """The table of exit statuses, as `--help` prints it."""
    lines = [f"  {status:16}{meaning}".replace("`", "") for status, meaning in TABLE]
    return "exit status:\n" + "\n".join(lines)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Runs the pods; returns the exit status (see podlite.cli.exit_status)."""
    options.configure_logging(arguments)
    command = _command(arguments)
    trace = None
    if arguments.trace:
        from podlite.cli.trace import Trace

        trace = Trace(arguments.trace)
    try:
        manifests = _load(arguments, command)
        for warning in manifests.warnings:
            terminal.warning(warning)
        if not manifests.pods:
            raise PodliteError(f"there is no pod in {', '.join(arguments.files)}")
        if arguments.configmap or arguments.secret_from:
            from podlite.cli.run_objects import add_objects

            add_objects(manifests, arguments.configmap, arguments.secret_from)
        if arguments.detach:
            from podlite.cli.detach import run_detached

            return run_detached(arguments, manifests)
        import anyio

        from podlite.cli.run_pods import run_pods

        return anyio.run(run_pods, arguments, manifests, launched)
    finally:
        if launched is not None:
            launched[0].close()
        if trace is not None:
            trace.write()


def _command(arguments: argparse.Namespace) -> list[str]:
    """The command of a pod without a file. Raises UsageError for what does not go together."""
    if arguments.image is not None:
        return list(arguments.command)
    if not arguments.files:
        raise UsageError("there is nothing to run", hint="name a manifest, or an image with --image")
    for name in ("name", "env", "volume", "publish"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} goes with --image", hint="a manifest says these things itself")
    return []


def _load(arguments: argparse.Namespace, command: list[str]) -> Manifests:
    from podlite.steps import step

    with step("manifest.load"):
        from podlite.api.manifest import load_manifests

        if arguments.image is not None:
            from podlite.cli.image_pod import image_pod

            return load_manifests([("--image", image_pod(arguments, command))], validate="strict")
        return load_manifests([read_manifest(name) for name in arguments.files], validate=arguments.validate)


def read_manifest(name: str) -> tuple[str, str]:
    """(what it is called, its text); `-` is standard input. Raises UsageError."""
    try:
        if name == "-":
            return "standard input", sys.stdin.read()
        with open(name, encoding="utf-8") as file:
            return name, file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None
