"""A process that makes a pod's network by CNI and is killed on the way.

    cni_victim.py RUN_DIR RECORD N

It is killed by SIGKILL when N plugins have ended their ADD; if there are fewer, when all of it is done.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from cni_networks import make_cni

from podlite.cri.types import PortMapping
from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.runtime.network.cni import attachment
from podlite.runtime.network.interface import PodNetworkRequest


def main(run_dir: str, record_path: str, count: str) -> None:
    network = make_cni(run_dir)
    own = os.open(netns.THREAD_NETNS, os.O_RDONLY)
    sandbox_id = os.urandom(32).hex()
    request = PodNetworkRequest(
        sandbox_id=sandbox_id,
        netns_path=f"{run_dir}/netns/{sandbox_id}",
        port_mappings=[PortMapping(host_port=18090, container_port=80)],
    )
    record = network.plan(request)
    with open(record_path, "w", encoding="utf-8") as file:
        json.dump({"record": record, "netns": request.netns_path}, file)
    left = int(count)
    invoke = attachment.invoke

    def invoke_and_count(*arguments: object, **options: object) -> bytes:
        nonlocal left
        printed = invoke(*arguments, **options)  # type: ignore[arg-type]
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return printed

    attachment.invoke = invoke_and_count  # type: ignore[assignment]
    with netns.create(request.netns_path, own, NetlinkSocket) as inside:
        network.setup_pod_network(request, record, inside)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
