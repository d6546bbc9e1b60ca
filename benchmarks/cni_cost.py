"""What CNI costs a pod: `python benchmarks/cni_cost.py [--count 30] [--containerd]`. Needs root and the CNI plugins.

First each plugin by itself: the medians of VERSION (asked once for each program), ADD and DEL, as podlite runs them in
a list of all that work here. Then a whole sandbox (RunPodSandbox) on the built-in network and on a usual list, bridge
and portmap; with --containerd also containerd's RunPodSandbox on that same configuration, interleaved, in a
containerd that this starts for itself (package containerd; podlite[cri] for its client). The bar: podlite's is
at least 1.5 times faster than containerd's. Everything happens in directories and a network namespace of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections import defaultdict
from typing import Any

import anyio

from podlite import steps
from podlite.cri.types import LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata
from podlite.linux.syscalls import CLONE_NEWNET, MNT_DETACH, umount2, unshare
from podlite.runtime.layout import Layout
from podlite.runtime.network.networks import NetworkOptions, Networks
from podlite.runtime.service import Runtime

PLUGINS = next((path for path in ("/usr/lib/cni", "/opt/cni/bin") if os.path.exists(f"{path}/bridge")), "/opt/cni/bin")
PAUSE = "podlite.local/pause:1"


def write_network(directory: str, leases: str, *chained: dict[str, Any]) -> str:
    os.makedirs(directory)
    ipam = {
        "type": "host-local",
        "dataDir": leases,
        "ranges": [[{"subnet": "10.88.0.0/16"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": ipam}
    config = {"cniVersion": "1.0.0", "name": "bench", "plugins": [bridge, *chained]}
    with open(f"{directory}/10-bench.conflist", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return directory


def sandbox_config(number: int) -> PodSandboxConfig:
    uid = f"bench-{os.getpid()}-{number}"
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=uid, uid=uid, namespace="default"),
        hostname="bench",
        log_directory="/tmp",
        linux=LinuxPodSandboxConfig(cgroup_parent=f"/podlite-bench-{os.getpid()}"),
    )


class Timer:
    """RunPodSandbox of one runtime, again and again; each sandbox is stopped and removed outside of the measurement."""

    def __init__(self, name: str, runtime: Any) -> None:
        self.name = name
        self.runtime = runtime
        self.milliseconds: list[float] = []

    async def once(self, number: int) -> None:
        begin = time.perf_counter()
        id = await self.runtime.run_pod_sandbox(sandbox_config(number))
        self.milliseconds.append((time.perf_counter() - begin) * 1000)
        await self.runtime.stop_pod_sandbox(id)
        await self.runtime.remove_pod_sandbox(id)


def runtime(directory: str, name: str, network: str, conf_dir: str = "") -> Runtime:
    base = f"{directory}/{name}"
    layout = Layout(
        run_dir=f"{base}/run",
        state_dir=f"{base}/state",
        log_dir=f"{base}/log",
        netns_dir=f"{base}/netns",
        cgroup_root=f"/podlite-bench-{os.getpid()}",
    )
    networks = Networks(network, layout, NetworkOptions(("10.85.0.0/16", "fd85::/64"), conf_dir, (PLUGINS,)))
    return Runtime(layout, network=networks)


async def plugins(directory: str, count: int) -> None:
    chained = [
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "firewall", "backend": "iptables"},
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
        {"type": "bandwidth", "ingressRate": 10**9, "ingressBurst": 10**9, "egressRate": 10**9, "egressBurst": 10**9},
    ]
    conf_dir = write_network(f"{directory}/all.d", f"{directory}/all-leases", *chained)
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)

    def listen(span: steps.Span) -> None:
        if span.name == "network.plugin":
            spans[span.ids["plugin"], span.ids["command"]].append((span.end_ns - span.start_ns) / 1e6)

    stop = steps.listen(listen)
    async with runtime(directory, "plugins", "cni", conf_dir) as opened:
        timer = Timer("", opened)
        for number in range(count):
            await timer.once(number)
    stop()
    print(f"{'plugin':12}{'VERSION':>10}{'ADD':>10}{'DEL':>10}   milliseconds, medians of {count}")
    for kind in ("bridge", "portmap", "firewall", "tuning", "bandwidth", "host-local"):
        cells = [
            f"{statistics.median(spans[kind, command]):10.1f}" if spans[kind, command] else f"{'in bridge':>10}"
            for command in ("VERSION", "ADD", "DEL")
        ]
        print(f"{kind:12}{''.join(cells)}")
    print()


async def sandboxes(directory: str, count: int, containerd: bool) -> None:
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    conf_dir = write_network(f"{directory}/usual.d", f"{directory}/usual-leases", portmap)
    async with (
        runtime(directory, "builtin", "builtin") as builtin,
        runtime(directory, "cni", "cni", conf_dir) as cni,
    ):
        timers = [Timer("podlite, builtin", builtin), Timer("podlite, bridge+portmap", cni)]
        if containerd:
            from podlite.rpc.client import RemoteRuntime

            process = start_containerd(directory, conf_dir)
            try:
                async with RemoteRuntime(f"unix://{directory}/containerd.sock") as remote:
                    await measure([*timers, Timer("containerd, the same", remote)], count)
            finally:
                process.terminate()
                process.wait()
        else:
            await measure(timers, count)


async def measure(timers: list[Timer], count: int) -> None:
    for number in range(-2, count):
        if number == 0:
            for timer in timers:
                timer.milliseconds.clear()
        for timer in timers:
            await timer.once(number)
    print(f"{'RunPodSandbox':26}{'p50 ms':>8}{'p90 ms':>8}")
    for timer in timers:
        ordered = sorted(timer.milliseconds)
        print(f"{timer.name:26}{statistics.median(ordered):8.1f}{ordered[int(len(ordered) * 0.9)]:8.1f}")
    if len(timers) > 2:
        ratios = [a / b for a, b in zip(timers[2].milliseconds, timers[1].milliseconds, strict=True)]
        print(f"podlite is {statistics.median(ratios):.1f} times faster on the same configuration")


# --- containerd -----------------------------------------------------------------------------------


def start_containerd(directory: str, conf_dir: str) -> subprocess.Popen[bytes]:
    """A containerd of our own, with a pause image that is a statically linked busybox."""
    config = f"""
version = 2
root = "{directory}/containerd/root"
state = "{directory}/containerd/state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{conf_dir}"
"""
    with open(f"{directory}/containerd.toml", "w", encoding="utf-8") as file:
        file.write(config)
    write_pause_image(f"{directory}/pause.tar")
    # Nobody reads a pipe of it, or of its shims, which would outlive it.
    with open(f"{directory}/containerd.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["containerd", "--config", f"{directory}/containerd.toml"], stdout=log, stderr=subprocess.STDOUT
        )
    ctr = ["ctr", "--address", f"{directory}/containerd.sock", "--namespace", "k8s.io"]
    for _ in range(100):
        if subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.1)
    subprocess.run([*ctr, "images", "import", f"{directory}/pause.tar"], check=True, stdout=subprocess.DEVNULL)
    return process


def write_pause_image(path: str) -> None:
    """A `docker save` archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(shutil.which("busybox") or "/bin/busybox", arcname="bin/sleep")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Entrypoint": ["/bin/sleep", "1000000"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, mode="w") as archive:
        for member, content in (
            (f"{name}.json", config),
            ("layer.tar", layer.getvalue()),
            ("manifest.json", manifest),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--containerd", action="store_true")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="podlite-cni-", dir="/dev/shm")
    unshare(CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    try:
        anyio.run(plugins, directory, arguments.count)
        anyio.run(sandboxes, directory, arguments.count, arguments.containerd)
    finally:
        for parent, names, _ in os.walk(directory):
            if os.path.basename(parent) == "netns" or os.path.ismount(parent):
                try:
                    umount2(parent, MNT_DETACH)
                except OSError:
                    pass
                names.clear()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
