"""podlite check --network: two pods, the host and a stand-in for the rest of the world, and who reaches whom."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from podlite.cli import options, terminal
from podlite.cli.table import format_table
from podlite.cri.types import PortMapping, Protocol
from podlite.errors import PodliteError, UsageError, explain
from podlite.runtime.network import reach

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from podlite.library import Sandbox
    from podlite.runtime.network.interface import NetworkRecord
    from podlite.runtime.service import Runtime

PORT = 80
_COLUMNS = ((4, "TCP"), (4, "UDP"), (6, "TCP"), (6, "UDP"))


def check_network(arguments: argparse.Namespace) -> int:
    """Draws the matrix; returns the exit status: 1 if something is not as it should be."""
    if arguments.network not in ("builtin", "cni"):
        raise UsageError("--network can try builtin and cni: the others have no ways to try")
    trials, problems = anyio.run(_try, arguments)
    if arguments.output:
        from podlite.api.encode import dump_json, dump_yaml

        plain = {
            "network": arguments.network,
            "ways": [
                {
                    "way": each.way.name,
                    "family": f"IPv{each.family}",
                    "protocol": each.protocol,
                    "works": each.works,
                    "wanted": each.way.wanted,
                }
                for each in trials
            ],
            "problems": problems,
        }
        text = dump_json(plain) if arguments.output == "json" else dump_yaml(plain)
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    else:
        _draw(trials, problems)
    return 0 if all(each.as_wanted for each in trials) else 1


async def _try(arguments: argparse.Namespace) -> tuple[list[reach.Trial], list[str]]:
    from podlite.agent.node import make_networks
    from podlite.library import open_sandbox
    from podlite.runtime.service import Runtime

    node = options.node_options(arguments)
    try:
        # Before the network looks at the host: it is a way out like any other.
        outside = await to_thread.run_sync(reach.Outside().__enter__)
    except OSError as error:
        raise PodliteError(
            f"The namespace that is to stand for the rest of the world cannot be made: {explain(error)}.",
            hint=f"it takes the addresses {reach.HOST[4]}/30 and {reach.HOST[6]}/64 for a moment",
        ) from error
    try:
        port = reach.free_port()
        mappings = [
            PortMapping(protocol=protocol, host_port=port, container_port=PORT)
            for protocol in (Protocol.TCP, Protocol.UDP)
        ]
        async with (
            Runtime(node.layout, network=make_networks(node)) as runtime,
            open_sandbox(runtime, "check-pod", ports=mappings) as pod,
            open_sandbox(runtime, "check-other") as other,
        ):
            trials = await to_thread.run_sync(_run, pod, other, outside, port)
            problems = await to_thread.run_sync(_diagnose, runtime)
            return trials, problems
    finally:
        outside.__exit__()


def _run(pod: Sandbox, other: Sandbox, outside: reach.Outside, host_port: int) -> list[reach.Trial]:
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    opened = [os.open(each.netns_path, os.O_RDONLY | os.O_CLOEXEC) for each in (pod, other)]
    try:
        first, second = (
            reach.Pod(fd, {6 if ":" in ip else 4: ip for ip in each.ips}, _mtu(fd))
            for fd, each in zip(opened, (pod, other), strict=True)
        )
        reach.wait_until_settled()
        return list(reach.try_all(first, second, outside.netns, host, host_port, PORT))
    finally:
        for fd in (host, *opened):
            os.close(fd)


def _mtu(netns: int) -> int:
    from podlite.linux.netlink import find_link, open_inside

    with open_inside(netns) as netlink:
        link = find_link(netlink, "eth0")
    return link.mtu if link is not None else 1500


def _diagnose(runtime: Runtime) -> list[str]:
    """What the network has to say of itself, and CNI's plugins (CHECK) of the pods that are there."""
    from podlite.runtime.network.builtin import BuiltinNetwork
    from podlite.runtime.network.cni.network import CNINetwork

    network = runtime.networks.default
    try:
        found = network.check()
        if isinstance(network, BuiltinNetwork):
            found += network.diagnose()
        if isinstance(network, CNINetwork):
            own = set(runtime.store.sandboxes)
            for pod, sandbox_id, record in _records(runtime.layout.pods_dir):
                if sandbox_id not in own:
                    found += [f"Pod {pod}: {problem}" for problem in network.check_pod_network(record)]
        return found
    except (PodliteError, OSError) as error:
        return [explain(error)]


def _records(pods_dir: str) -> Iterator[tuple[str, str, NetworkRecord]]:
    """(pod, sandbox id, record) of what CNI has made for the pods of this boot, whoever runs them."""
    from podlite.runtime.journal import FILE, load

    for name in os.listdir(pods_dir):
        try:
            header = (load(f"{pods_dir}/{name}/{FILE}") or [{}])[0]
        except (OSError, ValueError):
            continue
        record: NetworkRecord = header.get("network") or {}
        record = record.get("additional", record)
        if record.get("network") == "cni":
            metadata = header["config"]["metadata"]
            yield f"{metadata['namespace']}/{metadata['name']}", header["sandbox"], record


def _draw(trials: list[reach.Trial], problems: list[str]) -> None:
    """One row for each way; what is not as it should be is marked."""
    rows: dict[reach.Way, dict[tuple[int, str], reach.Trial]] = {}
    for each in trials:
        rows.setdefault(each.way, {})[each.family, each.protocol] = each
    table = [(way.name, *(_cell(cells.get(column)) for column in _COLUMNS), way.note) for way, cells in rows.items()]
    header = ("WAY", *(f"IPV{family} {protocol}" for family, protocol in _COLUMNS), "")
    sys.stdout.write(format_table(header, table))
    print()
    wrong = [each for each in trials if not each.as_wanted]
    for problem in problems:
        terminal.warning(problem)
    if wrong:
        print(f"{len(wrong)} of {len(trials)} are not as they should be: see those with an exclamation mark.")
    else:
        print(f"All {len(trials)} are as they should be.")


def _cell(trial: reach.Trial | None) -> str:
    if trial is None:
        return "-"
    return ("yes" if trial.works else "no") + ("" if trial.as_wanted else " !")
