"""Debian's containerd with directories of its own, and a network for its pods, for podlite to drive.

Where the machine lacks CAP_SYS_RESOURCE oom scores cannot be lowered, and without a registry the image of the pods'
pause container has to be brought along: hence `restrict_oom_score_adj` and the image that is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.images import TestImage, busybox_files, docker_archive

PAUSE = "podlite.test/pause:1"
IMAGE = "podlite.test/busybox:1"
PLUGINS = "/usr/lib/cni"

_CONFIG = """
version = 2
root = "{directory}/root"
state = "{state}"
[grpc]
  address = "{state}/containerd.sock"
[ttrpc]
  address = "{state}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "{pause}"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{plugins}"
  conf_dir = "{directory}/net.d"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
"""

_NETWORK = {
    "cniVersion": "0.4.0",
    "name": "podlite-test",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.198.0.0/24"}]]},
        }
    ],
}


def missing() -> str:
    """What is not installed, or nothing."""
    programs = [each for each in ("containerd", "ctr", "runc") if shutil.which(each) is None]
    if not os.path.exists(f"{PLUGINS}/ptp"):
        programs.append("containernetworking-plugins")
    return ", ".join(programs)


@contextmanager
def containerd() -> Iterator[str]:
    """The socket of a containerd with two images: PAUSE, and IMAGE with a busybox."""
    directory = Path(tempfile.mkdtemp(prefix="podlite-containerd-"))
    state = Path(tempfile.mkdtemp(prefix="podlite-cd-", dir="/run"))
    network = {**_NETWORK, "plugins": [{**_NETWORK["plugins"][0]}]}  # type: ignore[dict-item]
    network["plugins"][0]["ipam"] = {**network["plugins"][0]["ipam"], "dataDir": f"{directory}/ipam"}  # type: ignore[index]
    (directory / "net.d").mkdir()
    (directory / "net.d" / "10-test.conflist").write_text(json.dumps(network))
    config = directory / "config.toml"
    config.write_text(_CONFIG.format(directory=directory, state=state, pause=PAUSE, plugins=PLUGINS))
    log = (directory / "log").open("wb")
    process = subprocess.Popen(["containerd", "-c", str(config)], stdout=log, stderr=log)
    socket = f"{state}/containerd.sock"
    try:
        _wait(process, socket, directory / "log")
        archive = directory / "images.tar"
        pause = TestImage(PAUSE, [busybox_files("sleep")], config={"Entrypoint": ["/bin/sleep", "100000"]})
        applets = ("sh", "echo", "cat", "sleep", "true", "test", "touch", "nc", "stty", "rm")
        docker_archive(archive, [pause, TestImage(IMAGE, [busybox_files(*applets) | {}])])
        _ctr(socket, "images", "import", str(archive))
        yield socket
    finally:
        process.terminate()
        process.wait()
        log.close()
        _clean_up(directory, state)


def _wait(process: subprocess.Popen[bytes], socket: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["ctr", "-a", socket, "version"], capture_output=True, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"containerd does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _ctr(socket: str, *arguments: str) -> None:
    subprocess.run(["ctr", "-a", socket, "-n", "k8s.io", *arguments], check=True, capture_output=True)


def _clean_up(directory: Path, state: Path) -> None:
    """What containerd has mounted, its shims included, goes with the pods; here the directories go."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith((str(directory), str(state))):
            subprocess.run(["umount", "-l", point], check=False)
    shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(state, ignore_errors=True)
