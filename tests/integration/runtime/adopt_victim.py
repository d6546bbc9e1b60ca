"""Runs one pod that is to outlive its runtime, says what it made, and waits to be killed; faults by PODLITE_FAULTS."""

from __future__ import annotations

import json
import os
import sys

import anyio

from podlite import steps
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, sandbox_config, start


async def main() -> None:
    run_dir, state_dir, log_dir, netns_dir, cgroup_root, script = sys.argv[1:7]
    layout = Layout(run_dir=run_dir, state_dir=state_dir, log_dir=log_dir, netns_dir=netns_dir, cgroup_root=cgroup_root)
    steps.inject_from_environment(os.environ)
    async with Runtime(layout, network=NoneNetwork(), adoptable=True) as runtime:
        config = sandbox_config(runtime, "victim")
        id = await runtime.run_pod_sandbox(config)
        first = container_config(["/bin/sh", "-c", script])
        created = container_config(["/bin/sleep", "1000"])
        created.metadata.name = "created"
        container = await start(runtime, id, first)
        other = await runtime.create_container(id, created, config)
        status = await runtime.container_status(container)
        print(
            json.dumps([id, container, other, status.started_at, runtime.store.containers[container].pid]), flush=True
        )
        await anyio.sleep_forever()


anyio.run(main)
