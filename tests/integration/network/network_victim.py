"""A process that makes or takes back a pod's network and is killed on the way, in the namespaces of who started it.

    network_victim.py RUN_DIR RECORD set-up|tear-down WHERE

WHERE is the name of a step, at whose beginning it is killed, `batch N`, after the kernel has dealt with the Nth
netlink batch or request from the beginning of the work, or `never`. RECORD is the file for the record. It prints
the number of batches it sent, when it lives to tell.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from network_hosts import CIDRS

from podlite import steps
from podlite.cri.types import PortMapping, Protocol
from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.runtime.network.builtin import BuiltinNetwork
from podlite.runtime.network.interface import PodNetworkRequest

sent = 0


def kill_after(count: int) -> None:
    """SIGKILL once the kernel has carried out the count-th batch (0: never), whoever sent it."""
    submit = NetlinkSocket.submit

    def submit_and_count(self: NetlinkSocket, batch: bytes, messages: int) -> object:
        global sent
        result = submit(self, batch, messages)
        sent += 1
        if sent == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    NetlinkSocket.submit = submit_and_count  # type: ignore[assignment,method-assign]


def arm(where: str) -> None:
    kill_after(int(where.removeprefix("batch ")) if where.startswith("batch ") else 0)
    if where in steps.STEPS:
        steps.inject(where, "kill")


def main(run_dir: str, record_path: str, work: str, where: str) -> None:
    network = BuiltinNetwork(run_dir, CIDRS)
    own = os.open(netns.THREAD_NETNS, os.O_RDONLY)
    sandbox_id = os.urandom(32).hex()
    request = PodNetworkRequest(
        sandbox_id=sandbox_id,
        netns_path=f"{run_dir}/netns/{sandbox_id}",
        port_mappings=[
            PortMapping(host_port=18090, container_port=80),
            PortMapping(protocol=Protocol.UDP, host_port=18090, container_port=80),
        ],
    )
    record = network.plan(request)
    with open(record_path, "w", encoding="utf-8") as file:
        json.dump({"record": record, "netns": request.netns_path}, file)
    if work == "set-up":
        arm(where)
    inside = netns.create(request.netns_path, own, NetlinkSocket)
    network.setup_pod_network(request, record, inside)
    if work == "tear-down":
        arm(where)
        network.teardown_pod_network(record)
        netns.remove(request.netns_path)
        network.release_unused()
    print(sent)


if __name__ == "__main__":
    main(*sys.argv[1:])
