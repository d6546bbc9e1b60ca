"""What real pods with probes cost while they idle: `python benchmarks/probed_pods.py [--pods 300] [--seconds 30]`.

    one    one pod with HTTP liveness and readiness probes every second       bar: 0.5 % of one core
    many   300 pods with the same probes every 10 s, in one controller        bar: 15 % of one core, 1 GB in all

Each pod has a network of its own and runs busybox's httpd, which the probes ask. Counted is what podlite itself takes,
the controller with everything in it, the spawner and the shims: their CPU time, the kernel's part included, and their
private memory (Private_Clean and Private_Dirty of smaps_rollup). The containers' own processes are the pods' affair.

Needs root, and busybox with httpd (Debian: busybox-static). Everything else on the machine should be quiet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from podlite.agent.node import Node
    from podlite.api.pod import Pod
    from podlite.kubelet.kubelet import Kubelet

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: pod-{number}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: podlite.local/host:1
    command: [busybox, httpd, -f, -p, "8080", -h, /etc]
    livenessProbe: {{httpGet: {{path: /hostname, port: 8080}}, periodSeconds: {period}, failureThreshold: 30}}
    readinessProbe: {{httpGet: {{path: /hostname, port: 8080}}, periodSeconds: {period}}}
"""


class Usage(NamedTuple):
    """CPU seconds and bytes of private memory."""

    cpu: float
    memory: int


def usage(pid: int) -> Usage:
    cpu = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        # Nanoseconds on a CPU; the ticks of /proc/PID/stat are too coarse for a pod that idles.
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            cpu += int(file.read().split()[0])
    memory = 0
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                memory += int(line.split()[1]) * 1024
    return Usage(cpu / 1e9, memory)


def ours() -> dict[str, list[int]]:
    """The process ids of podlite by what they are: this controller, its spawner, the shims that came from that."""
    parents: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    title = file.read().rstrip(b"\0. ").decode(errors="replace")
            except OSError:
                continue
            parents[int(name)] = (parent, title)
    found: dict[str, list[int]] = {"controller": [os.getpid()], "spawner": [], "shims": []}
    for pid, (parent, title) in parents.items():
        if title.startswith("podlite: spawner") and parent == os.getpid():
            found["spawner"].append(pid)
    for pid, (parent, title) in parents.items():
        if title.startswith("podlite: shim") and parent in found["spawner"]:
            found["shims"].append(pid)
    return found


def total(pids: list[int]) -> Usage:
    every = [usage(pid) for pid in pids]
    return Usage(sum(each.cpu for each in every), sum(each.memory for each in every))


@asynccontextmanager
async def node_of_our_own() -> AsyncIterator[Node]:
    from podlite.agent.node import NodeOptions, open_node
    from podlite.runtime.layout import Layout

    directory = tempfile.mkdtemp(prefix="podlite-bench-")
    layout = Layout(
        run_dir=f"{directory}/run",
        state_dir=f"{directory}/state",
        log_dir=f"{directory}/log",
        netns_dir=f"{directory}/netns",
        cgroup_root=f"/podlite-bench-{os.getpid()}",
    )
    try:
        async with open_node(NodeOptions(layout=layout, many=True)) as node:
            yield node
    finally:
        await anyio.run_process(["umount", layout.netns_dir], check=False)
        shutil.rmtree(directory, ignore_errors=True)


async def measure(name: str, pods: int, period: int, seconds: float, profile: str) -> None:
    from podlite.api.manifest import load_manifests

    async with node_of_our_own() as node:
        kubelet = node.kubelet
        began = time.monotonic()
        uids = []
        for number in range(pods):
            [pod] = load_manifests([("pod", MANIFEST.format(number=number, period=period))]).pods
            uids.append((await kubelet.add_pod(pod)).metadata.uid)
            if number % 20 == 19:
                # A few at a time: all at once is another benchmark.
                await until(kubelet, lambda: sum(is_ready(each) for each in kubelet.pods()) > len(uids) - 10)
        await until(kubelet, lambda: all(is_ready(each) for each in kubelet.pods()))
        up = time.monotonic() - began
        await anyio.sleep(min(period, 10))
        groups = ours()
        assert len(groups["shims"]) == pods, groups
        before = {kind: total(pids) for kind, pids in groups.items()}
        began = time.monotonic()
        if profile:
            await profiled(seconds, profile)
        else:
            await anyio.sleep(seconds)
        wall = time.monotonic() - began
        after = {kind: total(pids) for kind, pids in groups.items()}
        restarts = sum(each.restart_count for pod in kubelet.pods() for each in pod.status.container_statuses)
        ready = sum(is_ready(each) for each in kubelet.pods())
        report(name, before, after, wall)
        print(f"{'':12} up after {up:.1f} s; {ready} of {pods} ready at the end, {restarts} restarts", flush=True)
        for uid in uids:
            await kubelet.delete_pod(uid, 0)
        for uid in uids:
            await kubelet.wait_removed(uid)


def report(name: str, before: dict[str, Usage], after: dict[str, Usage], wall: float) -> None:
    cpu = {kind: 100 * (after[kind].cpu - before[kind].cpu) / wall for kind in after}
    memory = {kind: after[kind].memory / 1e6 for kind in after}
    parts = "  ".join(f"{kind} {cpu[kind]:.2f} % {memory[kind]:.1f} MB" for kind in after)
    print(f"{name:12} {sum(cpu.values()):.2f} % of one core, {sum(memory.values()):.1f} MB private   ({parts})")


async def profiled(seconds: float, path: str) -> None:
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    await anyio.sleep(seconds)
    profile.disable()
    profile.dump_stats(path)


async def until(kubelet: Kubelet, condition: Callable[[], object]) -> None:
    with anyio.fail_after(600), kubelet.watch() as changes:
        while not condition():
            await anext(aiter(changes))


def is_ready(pod: Pod) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions)


async def run(arguments: argparse.Namespace) -> None:
    if arguments.case in ("one", "all"):
        await measure("1 pod, 1 s", 1, 1, arguments.seconds, arguments.profile)
    if arguments.case in ("many", "all"):
        await measure(f"{arguments.pods} pods, 10 s", arguments.pods, 10, arguments.seconds, arguments.profile)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", nargs="?", choices=("one", "many", "all"), default="all")
    parser.add_argument("--pods", type=int, default=300, help="how many pods of the second case (300)")
    parser.add_argument("--seconds", type=float, default=30, help="how long each case is measured (30)")
    parser.add_argument("--profile", metavar="FILE", default="", help="write a profile of the event loop's thread")
    arguments = parser.parse_args()
    if shutil.which("busybox") is None:
        sys.exit("busybox with httpd is needed: apt-get install busybox-static")
    anyio.run(run, arguments)


if __name__ == "__main__":
    main()
