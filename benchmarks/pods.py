"""What pods cost, beside the bars that podlite sets itself: `python benchmarks/pods.py WHAT [OPTIONS]`.

    whole      `podlite run` of a pod that runs /bin/true, process start to exit, and `podman run --rm` of the same
               command, one after the other in turn       bar: 0.35 of podman's median, aim 0.25
    start      in process: RunPodSandbox with a network, request to ready                        bar: p50 3 ms
               CreateContainer and StartContainer of /bin/true together                          bar: p50 6 ms
    memory     of running pods that do nothing: Private_Dirty of a shim                          bar: 2 MB
               what the controller grows by with each                                            bar: 0.3 MB
    churn      one-shot pods one after the other in one controller: what they leave behind, counted, and the
               controller's memory and descriptors on the way                     bar: nothing, and flat from 100 on

Needs root; `whole` needs podman and runc, and takes podman's image from busybox-static: no network. Everything else
on the machine should be quiet. Figures of different runs compare badly, those within one run well.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from podlite.agent.node import Node
    from podlite.api.pod import Pod
    from podlite.runtime.layout import Layout

IMAGE = "podlite.local/host:1"
PODMAN_IMAGE = "localhost/podlite-bench:1"

# Podman as it is where nobody has configured anything, but for what Debian's needs with runc in a container: runc
# instead of crun, and limits that need no CAP_SYS_RESOURCE.
CONTAINERS_CONF = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: bench}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: "podlite.local/host:1", command: [/bin/true]}
"""


def summary(name: str, values: list[float], unit: str = "ms") -> str:
    """Median, 10th and 90th percentile."""
    ordered = sorted(values)
    low, high = (ordered[int(len(ordered) * part)] for part in (0.1, 0.9))
    return (
        f"{name:34} p50 {statistics.median(ordered):8.2f}   p10 {low:8.2f}   p90 {high:8.2f}  {unit}   n {len(ordered)}"
    )


# --- whole -----------------------------------------------------------------------------------------


def whole(arguments: argparse.Namespace) -> None:
    directory = Path(tempfile.mkdtemp(prefix="podlite-bench-"))
    try:
        podman, environment = make_podman(directory)
        manifest = directory / "pod.yaml"
        manifest.write_text(MANIFEST)
        commands = {
            "podlite run": [arguments.podlite, "run", "-q", str(manifest)],
            "podman run --rm": [*podman, "run", "--rm", PODMAN_IMAGE, "/bin/true"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for count in range(arguments.warm_up + arguments.rounds):
            for name, command in commands.items():
                begin = time.perf_counter()
                subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL)
                if count >= arguments.warm_up:
                    seconds[name].append((time.perf_counter() - begin) * 1000)
        for name, values in seconds.items():
            print(summary(name, values))
        ratio = statistics.median(seconds["podlite run"]) / statistics.median(seconds["podman run --rm"])
        print(f"{'ratio':34} {ratio:.3f}   (bar 0.35, aim 0.25)")
    finally:
        subprocess.run([*podman, "rmi", "-f", PODMAN_IMAGE], env=environment, check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)


def make_podman(directory: Path) -> tuple[list[str], dict[str, str]]:
    """The beginning of podman's command line and its environment, with the image imported: all below `directory`."""
    busybox = shutil.which("busybox")
    if shutil.which("podman") is None or shutil.which("runc") is None or busybox is None:
        sys.exit("podman, runc and busybox-static are needed: apt-get install podman runc busybox-static")
    (directory / "containers.conf").write_text(CONTAINERS_CONF)
    bin_directory = directory / "image/bin"
    bin_directory.mkdir(parents=True)
    shutil.copy2(busybox, bin_directory / "busybox")
    (bin_directory / "true").symlink_to("busybox")
    archive = shutil.make_archive(str(directory / "image"), "tar", directory / "image")
    podman = ["podman", "--root", str(directory / "root"), "--runroot", str(directory / "runroot")]
    environment = {**os.environ, "CONTAINERS_CONF": str(directory / "containers.conf")}
    subprocess.run([*podman, "import", archive, PODMAN_IMAGE], env=environment, check=True, capture_output=True)
    return podman, environment


# --- what happens in process ------------------------------------------------------------------------


@asynccontextmanager
async def node_of_our_own(*, many: bool = True) -> AsyncIterator[Node]:
    """A controller with directories of its own, so that it can run beside a podlite that somebody uses."""
    from podlite.agent.node import NodeOptions, open_node
    from podlite.linux.cgroups import Cgroups

    directory = tempfile.mkdtemp(prefix="podlite-bench-")
    try:
        async with open_node(NodeOptions(layout=layout_below(directory), many=many)) as node:
            yield node
    finally:
        await anyio.run_process(["umount", f"{directory}/netns"], check=False)
        root = f"/podlite-bench-{os.getpid()}"
        Cgroups.detect(root).remove(root)
        shutil.rmtree(directory, ignore_errors=True)


def layout_below(directory: str) -> Layout:
    from podlite.runtime.layout import Layout

    return Layout(
        run_dir=f"{directory}/run",
        state_dir=f"{directory}/state",
        log_dir=f"{directory}/log",
        netns_dir=f"{directory}/netns",
        cgroup_root=f"/podlite-bench-{os.getpid()}",
    )


async def start(arguments: argparse.Namespace) -> None:
    from podlite.cri.types import (
        ContainerConfig,
        ContainerMetadata,
        ImageSpec,
        LinuxPodSandboxConfig,
        PodSandboxConfig,
        PodSandboxMetadata,
    )
    from podlite.runtime.names import new_uid

    times: dict[str, list[float]] = {
        each: []
        for each in (
            "RunPodSandbox",
            "CreateContainer",
            "StartContainer",
            "create + start",
            "StopPodSandbox",
            "RemovePodSandbox",
        )
    }
    async with node_of_our_own() as node:
        runtime = node.runtime
        for count in range(arguments.warm_up + arguments.rounds):
            uid = new_uid()
            parent = f"{runtime.layout.cgroup_root}/kubepods/pod{uid}"
            config = PodSandboxConfig(
                metadata=PodSandboxMetadata(name="bench", uid=uid, namespace="default"),
                hostname="bench",
                log_directory=f"{runtime.layout.log_dir}/default_bench_{uid}",
                linux=LinuxPodSandboxConfig(cgroup_parent=parent),
            )
            container = ContainerConfig(
                metadata=ContainerMetadata(name="main"),
                image=ImageSpec(image=IMAGE),
                command=["/bin/true"],
                log_path="main/0.log",
            )
            begin = time.perf_counter()
            sandbox_id = await runtime.run_pod_sandbox(config)
            ready = time.perf_counter()
            container_id = await runtime.create_container(sandbox_id, container, config)
            created = time.perf_counter()
            await runtime.start_container(container_id)
            started = time.perf_counter()
            await runtime.store.containers[container_id].exited.wait()
            ended = time.perf_counter()
            await runtime.stop_pod_sandbox(sandbox_id)
            stopped = time.perf_counter()
            await runtime.remove_pod_sandbox(sandbox_id)
            removed = time.perf_counter()
            if runtime.cgroups is not None:
                runtime.cgroups.remove(parent)
            if count >= arguments.warm_up:
                times["RunPodSandbox"].append(ready - begin)
                times["CreateContainer"].append(created - ready)
                times["StartContainer"].append(started - created)
                times["create + start"].append(started - ready)
                times["StopPodSandbox"].append(stopped - ended)
                times["RemovePodSandbox"].append(removed - stopped)
    bars = {"RunPodSandbox": "bar 3", "create + start": "bar 6"}
    for name, values in times.items():
        print(summary(name, [each * 1000 for each in values]), bars.get(name, ""))


def pod(name: str, *command: str) -> Pod:
    from podlite.api.manifest import load_manifests

    manifest = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": IMAGE, "command": list(command)}],
            },
        }
    )
    return load_manifests([("bench", manifest)], validate="strict").pods[0]


def private_dirty(pid: int | str) -> float:
    """MB, of smaps_rollup (proc(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"the kernel says nothing of the memory of process {pid}")


async def memory(arguments: argparse.Namespace) -> None:
    async with node_of_our_own() as node:
        kubelet, runtime = node.kubelet, node.runtime

        async def run(name: str) -> str:
            added = await kubelet.add_pod(pod(name, "/bin/sleep", "100000"))
            return added.metadata.uid

        uids = [await run(f"first{number}") for number in range(5)]
        await all_run(node, uids)
        gc.collect()
        before = private_dirty("self")
        uids = [await run(f"pod{number}") for number in range(arguments.pods)]
        await all_run(node, uids)
        gc.collect()
        grown = (private_dirty("self") - before) / arguments.pods
        shims = [private_dirty(each.shim.pid) for each in runtime.store.sandboxes.values() if each.shim is not None]
        print(summary("a shim's Private_Dirty", shims, "MB"), "bar 2")
        print(f"{'the controller, for each pod':34} {grown:.3f} MB   n {arguments.pods}   bar 0.3")


async def all_run(node: Node, uids: list[str]) -> None:
    with anyio.fail_after(120):
        for uid in uids:
            while node.kubelet.pod(uid).status.phase != "Running":  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def churn(arguments: argparse.Namespace) -> None:
    async with node_of_our_own() as node:
        before: dict[str, Any] = {}
        begin = time.perf_counter()
        for count in range(1, arguments.pods + 1):
            added = await node.kubelet.add_pod(pod("bench", "/bin/true"))
            uid = added.metadata.uid
            ended = await node.kubelet.wait_terminated(uid)
            assert ended.status.phase == "Succeeded", ended.status
            await node.kubelet.delete_pod(uid)
            await node.kubelet.wait_removed(uid)
            if count in (1, 100) or count % max(1, arguments.pods // 10) == 0:
                gc.collect()
                now = await settled(node, before)
                left = grown(before, now) if before else "the first, counted from here"
                print(f"after {count:5}: {controller()}   left: {left}")
                before = before or now
        print(f"{(time.perf_counter() - begin) / arguments.pods * 1000:.1f} ms a pod")


async def settled(node: Node, before: dict[str, int]) -> dict[str, int]:
    """What is left, once the kernel has freed the last network namespaces, which it does in its own time."""
    deadline = time.monotonic() + 10
    while (now := left_behind(node)) != before and before and time.monotonic() < deadline:  # noqa: ASYNC110
        await anyio.sleep(0.05)
    return now


def controller() -> str:
    threads = len(os.listdir("/proc/self/task"))
    descriptors = len(os.listdir("/proc/self/fd"))
    return f"controller {private_dirty('self'):7.2f} MB private dirty, {descriptors} descriptors, {threads} threads"


def left_behind(node: Node) -> dict[str, int]:
    """What could be left behind, counted (see docs/architecture.md)."""
    layout = node.runtime.layout
    nft = subprocess.run(
        ["nft", "list", "table", "inet", "podlite"], capture_output=True, text=True, check=False
    ).stdout
    addresses = [path for path in Path(layout.run_dir).rglob("*") if path.is_file()]
    return {
        "netns pins": len(os.listdir(layout.netns_dir)),
        "links": sum(name.startswith("pl") for name in os.listdir("/sys/class/net")),
        "nft lines": nft.count("\n"),
        "cgroups": sum(1 for each in Path("/sys/fs/cgroup").glob(f"*{layout.cgroup_root}/**/*/")),
        "mounts": Path("/proc/self/mountinfo").read_text().count("\n"),
        "shims": sum("podlite: shim" in title(pid) for pid in os.listdir("/proc") if pid.isdigit()),
        "pod directories": len(os.listdir(layout.pods_dir)),
        "files in the run directory": len(addresses),
        "layers": len(os.listdir(layout.containers_dir)),
        "logs": len(os.listdir(layout.log_dir)),
        "pods on disk": len(os.listdir(f"{layout.state_dir}/pods")) if os.path.isdir(f"{layout.state_dir}/pods") else 0,
        "image holders": sum(1 for path in Path(layout.images_dir).rglob("*") if path.is_file()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def title(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def grown(before: dict[str, int], after: dict[str, int]) -> str:
    found = [f"{after[each] - before[each]:+} {each}" for each in after if after[each] != before[each]]
    return ", ".join(found) or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="what", required=True)
    for name, rounds in (("whole", 30), ("start", 200)):
        verb = verbs.add_parser(name)
        verb.add_argument("--rounds", type=int, default=rounds)
        verb.add_argument("--warm-up", type=int, default=max(2, rounds // 10))
        if name == "whole":
            beside = os.path.join(os.path.dirname(sys.executable), "podlite")
            verb.add_argument("--podlite", default=beside, help="the installed command")
    for name, pods in (("memory", 50), ("churn", 1000)):
        verbs.add_parser(name).add_argument("--pods", type=int, default=pods)
    arguments = parser.parse_args()
    if arguments.what == "whole":
        whole(arguments)
    else:
        anyio.run({"start": start, "memory": memory, "churn": churn}[arguments.what], arguments)


if __name__ == "__main__":
    main()
