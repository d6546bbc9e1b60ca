"""`podlite agent` with the kubelet's back-offs shortened: `python -m tests.support.impatient_agent DIRECTORY NETWORK`.

Its directories come from the environment, as a command's.
"""

from __future__ import annotations

import gc
import os
import sys

import anyio

from podlite import log, steps
from podlite.agent.agent import AgentOptions, run_agent
from podlite.agent.node import NodeOptions
from podlite.cli.directories import directories
from podlite.runtime.layout import Layout

BACK_OFFS = {"sync_error_back_off": 0.2, "container_back_off": 0.2, "image_back_off": 0.2}


def main() -> None:
    manifests, network = sys.argv[1:3]
    steps.inject_from_environment(os.environ)
    log.configure(level="warning")
    found = directories([], os.environ)
    layout = Layout(**{name.replace("-", "_"): value for name, value in found.items()})
    node = NodeOptions(layout=layout, network=network, namespace_threads=2, kubelet=BACK_OFFS)
    gc.disable()
    anyio.run(run_agent, AgentOptions(node=node, manifest_dirs=(manifests,), check_seconds=0.5))


if __name__ == "__main__":
    main()
