"""`podlite agent` with the kubelet's back-offs shortened.

    python -m tests.support.impatient_agent DIRECTORY NETWORK [OPTIONS]

Its directories come from the environment, as a command's. On SIGUSR1 it says what its tasks and threads wait for.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys

from msgspec import structs

from podlite import steps
from podlite.agent import node
from podlite.cli.main import main
from podlite.kubelet.types import KubeletConfig

BACK_OFFS = {"sync_error_back_off": 0.2, "container_back_off": 0.2, "image_back_off": 0.2}


def tell(number: int, frame: object) -> None:
    """What everything waits for, to standard error."""
    for task in asyncio.all_tasks():
        print(f"\ntask {task.get_name()}", file=sys.stderr)
        task.print_stack(file=sys.stderr)
    faulthandler.dump_traceback(all_threads=True)
    print("told", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    steps.inject_from_environment(os.environ)
    patient = node.kubelet_config

    def impatient(options: node.NodeOptions) -> KubeletConfig:
        return structs.replace(patient(options), **BACK_OFFS)

    node.kubelet_config = impatient
    arguments = ["--check-frequency=0.5", f"--manifest-dir={sys.argv[1]}", f"--network={sys.argv[2]}"]
    sys.exit(main(["agent", *arguments, *sys.argv[3:]]))
