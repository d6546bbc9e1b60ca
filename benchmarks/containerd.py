"""A containerd of one's own for a benchmark: `with private_containerd(directory) as peer: …`.

The machine's containerd (Debian's package will do) with its state, its socket and its CNI configuration in `directory`,
so that nothing of an installed one is touched: a bridge by the reference plugins, no registry (the pause image, and one
with /bin/true and /bin/sleep, are made here of the host's own programs and imported), and what a machine without
CAP_SYS_RESOURCE needs (restrict_oom_score_adj).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from podlite.bench.peers.commands import make_rootfs

PAUSE = "podlite.bench/pause:1"
IMAGE = "podlite.bench/tools:1"
BRIDGE = "plbench0"
_BIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")


class Missing(Exception):
    """containerd, or what it needs, is not installed; the text says what."""


class PrivateContainerd(NamedTuple):
    """`conflist` is the CNI configuration that it uses, for podlite's `--cni-conf-dir` too."""

    socket: str
    conf_dir: str
    version: str


@contextmanager
def private_containerd(directory: str) -> Iterator[PrivateContainerd]:
    """Runs one; everything of it is gone afterwards. Raises Missing, OSError, subprocess.CalledProcessError."""
    for name in ("containerd", "ctr", "runc", "ip"):
        if shutil.which(name) is None:
            raise Missing(f"{name} is not installed")
    bin_dir = next((each for each in _BIN_DIRS if os.path.exists(f"{each}/bridge")), None)
    if bin_dir is None:
        raise Missing("the reference CNI plugins are not installed")
    os.makedirs(f"{directory}/net.d")
    with open(f"{directory}/net.d/10-bench.conflist", "w", encoding="utf-8") as file:
        json.dump(conflist(), file)
    socket = f"{directory}/containerd.sock"
    with open(f"{directory}/config.toml", "w", encoding="utf-8") as file:
        file.write(configuration(directory, socket, bin_dir))
    log = open(f"{directory}/log", "wb")
    daemon = subprocess.Popen(["containerd", "--config", f"{directory}/config.toml"], stdout=log, stderr=log)
    try:
        _wait_ready(daemon, socket, f"{directory}/log")
        rootfs = make_rootfs(directory, ["/bin/true", "/bin/sleep"])
        for name, command in ((PAUSE, ["/bin/sleep", "1000000"]), (IMAGE, ["/bin/true"])):
            archive = f"{directory}/image.tar"
            write_archive(archive, rootfs, name, command)
            _ctr(socket, "images", "import", "--no-unpack", archive)
        version = subprocess.run(
            ["containerd", "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[2]
        yield PrivateContainerd(socket, f"{directory}/net.d", version)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        log.close()
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)


def configuration(directory: str, socket: str, bin_dir: str) -> str:
    """config.toml, version 2: understood by containerd 1.5 and later."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[{cri}]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [{cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [{cri}.cni]
    bin_dir = "{bin_dir}"
    conf_dir = "{directory}/net.d"
"""


def conflist() -> dict[str, object]:
    """The usual one: a bridge with host-local addresses, masquerade and port mappings."""
    return {
        "cniVersion": "0.4.0",
        "name": "podlite-bench",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "ipMasq": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.89.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def write_archive(path: str, rootfs: str, name: str, command: list[str]) -> None:
    """One layer, in the form of `docker save`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(rootfs, arcname=".")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for member, content in (
            (config_name, config),
            ("layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _wait_ready(daemon: subprocess.Popen[bytes], socket: str, log: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(["ctr", "--address", socket, "version"], capture_output=True, check=False)
        if done.returncode == 0:
            return
        if daemon.poll() is not None or time.monotonic() > deadline:
            with open(log, encoding="utf-8", errors="replace") as file:
                raise Missing(f"containerd does not start: {file.read()[-500:]}")
        time.sleep(0.1)


def _ctr(socket: str, *arguments: str) -> None:
    subprocess.run(["ctr", "--address", socket, "--namespace", "k8s.io", *arguments], capture_output=True, check=True)
