"""podlite volume: the named volumes that persistentVolumeClaims of pods have made on this machine."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, terminal
from podlite.cli.table import format_table, human_size
from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from podlite.kubelet.types import KubeletConfig
    from podlite.runtime.spawner import Launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite volume`."""
    parser.epilog = "A volume is made when a pod first claims it, and kept until it is removed here."
    commands = parser.add_subparsers(dest="volume_command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )

    listing = command("ls", "list the volumes, and who uses them")
    listing.add_argument("-n", "--namespace", metavar="NAME", default="", help="only those of this namespace")
    listing.add_argument("-q", "--quiet", action="store_true", help="only their names, as NAMESPACE/NAME")
    removing = command("rm", "remove volumes and what is in them")
    removing.add_argument("volumes", metavar="NAME", nargs="*", help="NAME, or NAMESPACE/NAME")
    removing.add_argument(
        "-n", "--namespace", metavar="NAME", default="default", help="of a NAME without one (default)"
    )
    removing.add_argument("--unused", action="store_true", help="all that no pod uses")
    for each in (listing, removing):
        options.add_directories(each)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Lists or removes; returns the exit status."""
    from podlite.agent.node import kubelet_config

    options.reap_orphans(arguments)  # what a killed podlite's pods use is free
    config = kubelet_config(options.node_options(arguments))
    return _list(arguments, config) if arguments.volume_command == "ls" else _remove(arguments, config)


def _list(arguments: argparse.Namespace, config: KubeletConfig) -> int:
    from podlite.agent.leftovers import disk_usage
    from podlite.cli.pods import every_pod
    from podlite.kubelet.volumes.local import local_volumes

    found = [each for each in local_volumes(config) if arguments.namespace in ("", each.namespace)]
    if arguments.quiet:
        print("".join([f"{each.namespace}/{each.claim}\n" for each in found]), end="")
        return 0
    names = {each.pod.metadata.uid: each.pod.metadata.name for each in every_pod(config.run_dir)}
    rows = [
        (
            each.namespace,
            each.claim,
            human_size(disk_usage(each.path)),
            ",".join([names.get(uid, uid) for uid in each.pods]) or "<none>",
            each.path,
        )
        for each in found
    ]
    sys.stdout.write(format_table(("NAMESPACE", "NAME", "SIZE", "USED BY", "PATH"), rows))
    return 0


def _remove(arguments: argparse.Namespace, config: KubeletConfig) -> int:
    from podlite.kubelet.volumes.local import local_volumes, remove_local_volume

    if bool(arguments.volumes) == arguments.unused:
        text = "--unused and names exclude each other" if arguments.unused else "there is nothing to remove"
        raise UsageError(text, hint="podlite volume rm NAME...")
    if arguments.unused:
        chosen = [(each.namespace, each.claim) for each in local_volumes(config) if not each.pods]
    else:
        chosen = [_split(word, arguments.namespace) for word in arguments.volumes]
    failed = False
    for namespace, claim in chosen:
        try:
            remove_local_volume(config, namespace, claim)
        except PodliteError as error:
            terminal.error(error.message, hint=error.hint)
            failed = True
            continue
        print(f'volume "{claim}" removed from {namespace} namespace', flush=True)
    return 1 if failed else 0


def _split(word: str, namespace: str) -> tuple[str, str]:
    before, slash, claim = word.rpartition("/")
    return (before, claim) if slash else (namespace, word)
