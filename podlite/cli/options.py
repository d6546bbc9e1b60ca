"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from podlite.cli.directories import DEFAULTS, variable
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.agent.node import NodeOptions
    from podlite.runtime.layout import Layout

# The groups that these options are in: the documentation describes each of them once.
DIRECTORIES, NETWORK, LOG = "directories", "network", "podlite's own log, on standard error"
KUBELET = "settings of the kubelet, by the names of its flags"
SHARED = (NETWORK, KUBELET, LOG, DIRECTORIES)

_HELP = {
    "run-dir": "runtime state",
    "state-dir": "images and volumes",
    "log-dir": "the containers' logs",
    "netns-dir": "the pins of network namespaces",
    "cgroup-root": "the cgroup that pods live below",
}


def add_directories(parser: argparse.ArgumentParser, *names: str) -> None:
    """The directory options, all of them or those that are named."""
    group = parser.add_argument_group(DIRECTORIES)
    for name, default in DEFAULTS.items():
        if not names or name in names:
            value = os.environ.get(variable(name)) or default
            group.add_argument(f"--{name}", metavar="PATH", default=value, help=f"{_HELP[name]} ({default})")


def add_network(parser: argparse.ArgumentParser) -> None:
    """How pods get their network."""
    group = parser.add_argument_group(NETWORK)
    group.add_argument(
        "--network",
        choices=("builtin", "cni", "none", "host"),
        default="builtin",
        help="the pods' network (builtin); a pod's annotation podlite.local/network says otherwise",
    )
    _add_network_details(group)


def add_network_details(parser: argparse.ArgumentParser) -> None:
    """What belongs to the one network or the other, without the choice between them."""
    _add_network_details(parser.add_argument_group(NETWORK))


def _add_network_details(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--pod-cidr",
        metavar="RANGE",
        action="append",
        default=[],
        help="the pods' addresses, once for each family (10.85.0.0/16 and fd85::/64)",
    )
    group.add_argument(
        "--firewall",
        choices=("leave", "integrate"),
        default="leave",
        help="what to do about firewalls of others that stop pods: name the rule that would help, or add it while"
        " there are pods (leave)",
    )
    group.add_argument("--cni-conf-dir", metavar="PATH", default="", help="CNI configurations (/etc/cni/net.d)")
    group.add_argument(
        "--cni-bin-dir",
        metavar="PATH",
        action="append",
        default=[],
        help="CNI plugins; may be given several times (/opt/cni/bin, /usr/lib/cni, /usr/libexec/cni)",
    )


def add_kubelet(parser: argparse.ArgumentParser) -> None:
    """What of a kubelet's configuration makes a difference to pods on one machine."""
    group = parser.add_argument_group(KUBELET)
    group.add_argument(
        "--runtime-class",
        metavar="NAME=HANDLER",
        action="append",
        default=[],
        help="which runtime handler a pod's runtimeClassName stands for (podlite=podlite)",
    )
    group.add_argument(
        "--allowed-unsafe-sysctls",
        metavar="NAME,...",
        default="",
        help="sysctls that pods may set beside the safe ones; a * at the end stands for anything",
    )
    group.add_argument("--seccomp-default", action="store_true", help="RuntimeDefault for containers that say nothing")
    group.add_argument("--pod-max-pids", type=int, metavar="N", default=-1, help="processes of one pod (no limit)")
    group.add_argument(
        "--cluster-dns", metavar="ADDRESS,...", default="", help="name servers of pods with dnsPolicy ClusterFirst"
    )
    group.add_argument(
        "--cluster-domain", metavar="NAME", default="cluster.local", help="the end of their full names (cluster.local)"
    )
    group.add_argument(
        "--resolv-conf", metavar="FILE", default="/etc/resolv.conf", help="of pods without one (/etc/resolv.conf)"
    )


def kubelet_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_kubelet` offers, as fields of KubeletConfig. Raises UsageError."""
    handlers = {}
    for word in arguments.runtime_class:
        name, equals, handler = word.partition("=")
        if not name or not equals:
            raise UsageError(f"--runtime-class {word}: it has to be NAME=HANDLER")
        handlers[name] = handler
    return {
        "runtime_handlers": {"podlite": "podlite", **handlers},
        "allowed_unsafe_sysctls": tuple(_words(arguments.allowed_unsafe_sysctls)),
        "seccomp_default": arguments.seccomp_default,
        "pod_pids_limit": arguments.pod_max_pids,
        "cluster_dns": tuple(_words(arguments.cluster_dns)),
        "cluster_domain": arguments.cluster_domain,
        "resolv_conf": os.path.abspath(arguments.resolv_conf) if arguments.resolv_conf else "",
    }


def _words(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Which runtime runs the pods."""
    parser.add_argument(
        "--runtime-endpoint",
        metavar="ADDRESS",
        default="",
        help="run the pods on another CRI runtime: unix:///run/containerd/containerd.sock",
    )


def add_warm_pool(parser: argparse.ArgumentParser) -> None:
    """For the programs that live long."""
    parser.add_argument(
        "--warm-pool", metavar="N", type=_count, default=0, help="keep N ready sandboxes for the pods to come (0)"
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("it must be 0 or more")
    return value


def add_logging(parser: argparse.ArgumentParser) -> None:
    """podlite's own log."""
    group = parser.add_argument_group(LOG)
    group.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="warning", help="how much (warning)"
    )
    group.add_argument("--log-format", choices=("console", "json"), default="console", help="in which form (console)")


def configure_logging(arguments: argparse.Namespace) -> None:
    """Does what `add_logging` offers."""
    from podlite import log

    log.configure(level=arguments.log_level, format=arguments.log_format)


def layout(arguments: argparse.Namespace) -> Layout:
    """The directories that the command line says; absolute, whatever was given."""
    from podlite.runtime.layout import Layout

    given = vars(arguments)
    values = {}
    for name in DEFAULTS:
        key = name.replace("-", "_")
        if key in given:
            values[key] = given[key] if key == "cgroup_root" else os.path.abspath(given[key])
    return Layout(**values)


def node_options(arguments: argparse.Namespace) -> NodeOptions:
    """What the command line says about the machine's podlite; commands that make no pods say nothing of networks."""
    from podlite.agent.node import NodeOptions
    from podlite.runtime.layout import POD_CIDRS

    if not hasattr(arguments, "pod_cidr"):
        return NodeOptions(layout=layout(arguments))
    endpoint = getattr(arguments, "runtime_endpoint", "")
    if endpoint:
        from podlite.rpc.extra import require_grpc

        require_grpc("--runtime-endpoint")
    return NodeOptions(
        layout=layout(arguments),
        runtime_endpoint=endpoint,
        network=getattr(arguments, "network", "") or "builtin",
        pod_cidrs=tuple(arguments.pod_cidr) or POD_CIDRS,
        cni_conf_dir=arguments.cni_conf_dir,
        cni_bin_dirs=tuple(arguments.cni_bin_dir),
        firewall=arguments.firewall,
        kubelet=kubelet_settings(arguments) if hasattr(arguments, "runtime_class") else {},
    )


def reap_orphans(arguments: argparse.Namespace) -> None:
    """What every command that changes something does first: removes what killed podlites have left. Blocking."""
    node = node_options(arguments)
    from podlite.agent.node import has_records

    if has_records(node.layout):
        from podlite.agent.orphans import orphans
        from podlite.agent.orphans import reap_orphans as reap

        if orphans(node):
            reap(node)
