"""podlite inspect: pods as objects, and what the runtime has written down of them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, pods
from podlite.errors import PodliteError, explain

if TYPE_CHECKING:
    from typing import Any

    from podlite.api.pod import Pod
    from podlite.kubelet.written_pods import WrittenPod
    from podlite.runtime.spawner import Launched

_EPILOG = """With --record, instead of the pod: the process that runs it, and each sandbox with its shim and containers.
`writable` of a container is where its own files lie: `upper` in it has what it has changed of its image, also after
it has ended (run --keep). `podlite nsenter POD --mnt` shows all of its files.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite inspect`."""
    parser.epilog = _EPILOG
    parser.add_argument("pods", metavar="POD", nargs="+", help="NAME, NAMESPACE/NAME, or a uid or the beginning of one")
    pods.add_namespace(parser)
    parser.add_argument("-o", "--output", choices=("json", "yaml"), default="json", help="in which form (json)")
    parser.add_argument("--record", action="store_true", help="what the runtime has written down, and its shim's state")
    options.add_directories(parser, "run-dir")


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Prints the pods, several as a List; returns the exit status."""
    from podlite.api import encode

    every = pods.every_pod(pods.run_dir(arguments))
    found = [pods.choose(every, word, arguments.namespace) for word in arguments.pods]
    plain: Any
    if arguments.record:
        plain = [_records(each) for each in found]
        plain = plain[0] if len(plain) == 1 else plain
    elif len(found) == 1:
        plain = encode.to_builtins(_shown(found[0]))
    else:
        plain = encode.list_of([_shown(each) for each in found])
    text = encode.dump_json(plain) if arguments.output == "json" else encode.dump_yaml(plain)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()
    return 0


def _shown(found: WrittenPod) -> Pod:
    """The pod, with the annotation that says which networks its sandbox is on, if they are more than podlite's own."""
    from podlite.cli.guest import sandbox_directories
    from podlite.runtime.journal import FILE, load

    pod = found.shown()
    for directory in sandbox_directories(found)[:1]:
        try:
            entries = load(f"{directory}/{FILE}")
        except (OSError, ValueError):
            break
        interfaces = next((entry.get("interfaces") for entry in reversed(entries) if "confirmed" in entry), None)
        if not interfaces or all(each.get("network") == "builtin" for each in interfaces):
            break
        import msgspec

        from podlite.runtime.network.cni.selection import STATUS, status_annotation
        from podlite.runtime.network.interface import PodInterface

        status = status_annotation(msgspec.convert(interfaces, list[PodInterface]))
        metadata = msgspec.structs.replace(pod.metadata, annotations={**pod.metadata.annotations, STATUS: status})
        return msgspec.structs.replace(pod, metadata=metadata)
    return pod


def _records(found: WrittenPod) -> dict[str, Any]:
    """What is known of a pod beside its object."""
    from podlite.cli.guest import sandbox_directories

    holder = found.holder
    meta = found.pod.metadata
    return {
        "pod": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
        "process": {
            "pid": holder.pid,
            "state": "running" if found.held else "ended; the pod is kept" if found.kept else "killed",
            "stateDirectory": holder.state_dir,
            "logDirectory": holder.log_dir,
            "cgroupRoot": holder.cgroup_root,
            **({"runtimeEndpoint": holder.runtime_endpoint} if holder.runtime_endpoint else {}),
        },
        "sandboxes": [_sandbox(directory) for directory in sandbox_directories(found)],
        "shim": _shim(found),
    }


def _sandbox(directory: str) -> dict[str, Any]:
    from podlite.runtime.container.leftover import record_containers
    from podlite.runtime.journal import FILE, load

    try:
        entries = load(f"{directory}/{FILE}")
        containers = record_containers(directory)
    except FileNotFoundError:
        return {"directory": directory, "record": None}
    except (OSError, ValueError) as error:
        return {"directory": directory, "problem": explain(error)}
    return {"directory": directory, "record": entries[0] if entries else None, "containers": containers}


def _shim(found: WrittenPod) -> dict[str, Any] | None:
    from podlite.cli.guest import NoShimError, Visit

    if found.holder.runtime_endpoint:
        return None  # what another runtime has instead, that one knows
    try:
        with Visit(found) as shim:
            answer, _ = shim.ask({"m": "status"})
    except NoShimError:
        return None
    except PodliteError as error:
        return {"problem": error.message}
    return {key: value for key, value in answer.items() if key not in ("m", "id")}
