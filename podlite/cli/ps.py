"""podlite ps: the pods of this machine, whoever runs them."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from podlite.agent.printers.pods import NONE, columns
from podlite.cli import options, pods
from podlite.cli.table import format_table

if TYPE_CHECKING:
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched

_HEADER = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP")
_WIDE = (*_HEADER, "UID", "PROCESS", "IMAGES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite ps`."""
    parser.add_argument("pods", metavar="POD", nargs="*", help="only these pods")
    parser.add_argument("-a", "--all", action="store_true", help="also pods that have ended")
    parser.add_argument("-o", "--output", choices=("wide", "json", "yaml", "name"), help="another form than the table")
    parser.add_argument("-q", "--quiet", action="store_true", help="print uids only")
    parser.add_argument("--no-headers", action="store_true", help="print the table without its first line")
    pods.add_namespace(parser)
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the pods; returns the exit status."""
    found = pods.every_pod(pods.run_dir(arguments))
    if arguments.pods:
        found = [pods.choose(found, word, arguments.namespace) for word in arguments.pods]
    else:
        found = [
            each
            for each in found
            if (arguments.all or not pods.ended(each)) and arguments.namespace in ("", each.pod.metadata.namespace)
        ]
    if arguments.quiet:
        _write("".join(f"{each.pod.metadata.uid}\n" for each in found))
    elif arguments.output in ("json", "yaml"):
        from podlite.api import encode

        plain = encode.list_of([each.shown() for each in found])
        _write(encode.dump_json(plain) if arguments.output == "json" else encode.dump_yaml(plain))
    elif arguments.output == "name":
        _write("".join(f"pod/{each.pod.metadata.name}\n" for each in found))
    elif not found:
        more = "" if arguments.all or arguments.pods else "; `podlite ps -a` lists ended ones too"
        print(f"No pods found{more}.", file=sys.stderr)
    else:
        wide = arguments.output == "wide"
        rows = [_row(each, time.time_ns(), wide=wide) for each in found]
        _write(format_table(_WIDE if wide else _HEADER, rows, with_header=not arguments.no_headers))
    return 0


def _row(found: WrittenPod, now_ns: int, *, wide: bool) -> list[str]:
    pod = found.shown()
    meta = pod.metadata
    cells = columns(pod, now_ns)
    status = "Orphaned" if found.orphaned else cells.status
    row = [meta.namespace, meta.name, cells.ready, status, cells.restarts, cells.age, pod.status.pod_ip or NONE]
    if wide:
        process = (
            str(found.holder.pid) if found.held else "kept" if found.kept else "none" if found.holder.stay else "killed"
        )
        row += [meta.uid, process, ",".join(each.image for each in pod.spec.containers)]
    return row


def _write(text: str) -> None:
    sys.stdout.write(text if not text or text.endswith("\n") else text + "\n")
    sys.stdout.flush()
