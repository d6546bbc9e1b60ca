"""podlite agent: runs pods that outlive it, from manifests and from its API."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from podlite.cli import options

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched

SUMMARY = "run pods that outlive podlite, from a directory of manifests and from its API"

MANIFEST_DIR = "/etc/podlite/manifests"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite agent`."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--manifest-dir",
        metavar="DIR",
        action="append",
        default=[],
        help=f"run the pods of the files in it ({MANIFEST_DIR})",
    )
    parser.add_argument(
        "--manifest-url", metavar="URL", action="append", default=[], help="run the pods of the manifest at a URL"
    )
    parser.add_argument(
        "--check-frequency",
        type=float,
        metavar="SECONDS",
        default=20.0,
        help="read manifests again this often, changed or not (20)",
    )
    options.add_warm_pool(parser)
    options.add_runtime(parser)
    options.add_network(parser)
    options.add_kubelet(parser)
    options.add_logging(parser)
    options.add_directories(parser)


_EPILOG = """The pods go on when the agent ends, however it ends; the next one adopts them. SIGTERM and SIGINT end it,
SIGHUP has the manifests read again. Its API is Kubernetes-shaped:
curl --unix-socket /run/podlite/podlite.sock http://podlite/api/v1/pods
"""


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Runs the agent; returns the exit status."""
    options.configure_logging(arguments)
    import anyio

    from podlite.agent.agent import AgentOptions, run_agent

    node = options.node_options(arguments)
    node.namespace_threads = 2
    node.warm_pool = arguments.warm_pool
    directories = arguments.manifest_dir or [MANIFEST_DIR]
    agent = AgentOptions(
        node=node,
        manifest_dirs=tuple(os.path.abspath(each) for each in directories),
        manifest_urls=tuple(arguments.manifest_url),
        check_seconds=arguments.check_frequency,
    )
    try:
        anyio.run(run_agent, agent, launched)
    finally:
        if launched is not None:
            launched[0].close()
    return 0
