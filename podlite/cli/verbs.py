"""The table of commands."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """One command: where its code is, what it does in a line, and the exit status of its failures."""

    module: str
    summary: str
    group: str
    failure: int = 1


_PODS = "Pods"
_MACHINE = "This machine"

VERBS = {
    "run": Verb(
        "podlite.cli.run", "run pods from manifests, or from an image, and follow them to their end", _PODS, 125
    ),
    "agent": Verb("podlite.cli.agent", "run pods that outlive podlite, from manifests and from its API", _PODS, 125),
    "ps": Verb("podlite.cli.ps", "list the pods that podlite runs on this machine", _PODS),
    "get": Verb("podlite.cli.get", "list or watch pods, events, ConfigMaps and Secrets, as kubectl does", _PODS),
    "logs": Verb("podlite.cli.logs", "print or follow the output of a container", _PODS),
    "exec": Verb("podlite.cli.exec", "run a command in a container", _PODS, 125),
    "attach": Verb("podlite.cli.attach", "connect to the streams of a running container", _PODS, 125),
    "debug": Verb("podlite.cli.debug", "look into a running pod with a container of your own in it", _PODS, 125),
    "nsenter": Verb("podlite.cli.nsenter", "run a command of the host in a pod's namespaces", _PODS, 125),
    "inspect": Verb("podlite.cli.inspect", "print a pod with its status, as JSON or YAML", _PODS),
    "describe": Verb(
        "podlite.cli.describe", "say all about a pod for a person, with its events, as kubectl does", _PODS
    ),
    "rm": Verb("podlite.cli.rm", "end pods and remove them", _PODS),
    "delete": Verb("podlite.cli.delete", "end and remove pods, ConfigMaps and Secrets, as kubectl does", _PODS),
    "events": Verb("podlite.cli.events", "list or watch what happened to pods", _PODS),
    "wait": Verb("podlite.cli.wait", "wait until pods are ready, gone or otherwise as they should be", _PODS),
    "image": Verb("podlite.cli.image", "pull, load, list, inspect and remove images", _MACHINE),
    "volume": Verb("podlite.cli.volume", "list and remove the volumes that pods have claimed", _MACHINE),
    "prune": Verb("podlite.cli.prune", "remove what ended and killed podlites left behind", _MACHINE),
    "netns": Verb("podlite.cli.netns", "name network namespaces and work in them, as `ip netns` does", _MACHINE),
    "cri": Verb("podlite.cli.cri", "serve CRI v1 to a kubelet, crictl or critest", _MACHINE, 125),
    "completion": Verb(
        "podlite.cli.completion", "print the script that completes podlite's commands in a shell", _MACHINE
    ),
    "bench": Verb("podlite.cli.bench", "measure how fast pod sandboxes come and go, beside other runtimes", _MACHINE),
    "check": Verb("podlite.cli.check", "say what this machine can and cannot do", _MACHINE),
}
