"""Runs one pod with podlite's runtime, then kills itself: at a step that PODLITE_FAULTS names, or at the end."""

from __future__ import annotations

import os
import signal
import sys

import anyio

from podlite import steps
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, sandbox_config, start


async def main() -> None:
    run_dir, state_dir, log_dir, netns_dir, cgroup_root = sys.argv[1:6]
    layout = Layout(run_dir=run_dir, state_dir=state_dir, log_dir=log_dir, netns_dir=netns_dir, cgroup_root=cgroup_root)
    steps.inject_from_environment(os.environ)
    async with Runtime(layout, network=NoneNetwork()) as runtime:
        config = sandbox_config(runtime, "victim")
        id = await runtime.run_pod_sandbox(config)
        container = await start(runtime, id, container_config(["/bin/sleep", "1000"]))
        await runtime.stop_container(container, 0)
        await runtime.remove_container(container)
        await runtime.stop_pod_sandbox(id)
        await runtime.remove_pod_sandbox(id)
    os.kill(os.getpid(), signal.SIGKILL)


anyio.run(main)
