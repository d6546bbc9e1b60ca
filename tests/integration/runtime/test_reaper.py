"""What a killed podlite leaves behind is torn down from its records alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from podlite import steps
from podlite.linux import unix_sockets
from podlite.linux.cgroups import Cgroups
from podlite.runtime import reaper
from podlite.runtime.image.store import ImageStore
from podlite.runtime.layout import Layout
from podlite.runtime.network.interface import PodNetwork
from podlite.runtime.network.none import HostNetwork, NoneNetwork
from podlite.runtime.reaper import Reaper
from podlite.runtime.service import Runtime
from podlite.runtime.shim.names import SOCKET
from tests.support.containers import container_config, sandbox_config, sh, start
from tests.support.leaks import processes_titled

pytestmark = [pytest.mark.root]

VICTIM = Path(__file__).with_name("reaper_victim.py")


def make_reaper(layout: Layout, problems: list[str]) -> Reaper:
    networks: dict[str, PodNetwork] = {"none": NoneNetwork(), "host": HostNetwork()}
    cgroups = Cgroups.detect(layout.cgroup_root)
    return Reaper(layout, networks.get, ImageStore(layout.images_dir), cgroups, problems.append)


def run_victim(layout: Layout, fault: str) -> None:
    """A process that runs a pod, and is killed: at the named step, or when its container runs."""
    environment = {**os.environ, "PODLITE_FAULTS": fault, "PYTHONPATH": os.getcwd()}
    arguments = [layout.run_dir, layout.state_dir, layout.log_dir, layout.netns_dir, layout.cgroup_root]
    done = subprocess.run(
        [sys.executable, str(VICTIM), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


# Every step of a sandbox's and a container's life that the controller itself goes through.
STEPS = [
    "runtime.open",
    "sandbox.run",
    "sandbox.record",
    "sandbox.files",
    "netns.create",
    "network.setup",
    "sandbox.confirm",
    "container.create",
    "container.cgroup",
    "container.mounts",
    "container.start",
    "container.stop",
    "container.remove",
    "sandbox.stop",
    "shim.stop",
    "network.teardown",
    "netns.remove",
    "sandbox.remove",
    "runtime.close",
]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(layout: Layout, step: str) -> None:
    run_victim(layout, f"{step}=kill")
    problems: list[str] = []
    make_reaper(layout, problems).reap()
    assert problems == []
    assert os.listdir(layout.pods_dir) == [] if os.path.isdir(layout.pods_dir) else True
    assert os.listdir(layout.containers_dir) == [] if os.path.isdir(layout.containers_dir) else True
    assert os.listdir(layout.netns_dir) == [] if os.path.isdir(layout.netns_dir) else True
    deadline = time.monotonic() + 10
    while list(processes_titled("podlite: shim default/victim")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # The pod's cgroup is the kubelet side's; no container's is left in it.
    root = Path(f"/sys/fs/cgroup/unified{layout.cgroup_root}/kubepods")
    if root.is_dir():
        assert [each for each in root.glob("pod*/*") if each.is_dir()] == []


def test_a_shim_that_was_starting_makes_its_socket_late(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at what is in the directory and its removal; or after all that, beside the kubelet's files."""
    run_victim(layout, "network.setup=kill")
    (directory,) = (f"{layout.pods_dir}/{name}" for name in os.listdir(layout.pods_dir))
    original = os.rmdir

    def late(path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            unix_sockets.listen(listener, f"{directory}/{SOCKET}", 1)
        monkeypatch.setattr(reaper.os, "rmdir", original)
        os.rmdir(path)

    monkeypatch.setattr(reaper.os, "rmdir", late)
    problems: list[str] = []
    make_reaper(layout, problems).reap()
    assert os.listdir(layout.pods_dir) == []
    os.mkdir(directory)
    Path(f"{directory}/pod.json").write_text("{}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        unix_sockets.listen(listener, f"{directory}/{SOCKET}", 1)
    make_reaper(layout, problems).reap()
    assert os.listdir(directory) == ["pod.json"]
    assert problems == []


def test_one_that_cannot_be_torn_down_stops_nobody(layout: Layout) -> None:
    """It is said, and tried again by whoever comes next."""
    run_victim(layout, "container.start=kill")
    problems: list[str] = []
    steps.inject("reap.orphans", "1*error(EIO)")
    try:
        assert make_reaper(layout, problems).reap() == []
    finally:
        steps.clear_faults()
    [problem] = problems
    assert "default/victim" in problem
    assert "Input/output error" in problem
    assert make_reaper(layout, problems).reap() == ["default/victim"]
    assert os.listdir(layout.pods_dir) == []


@pytest.mark.anyio
async def test_what_has_an_owner_is_left_alone(runtime: Runtime) -> None:
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    await start(runtime, id, container_config(["/bin/sleep", "1000"]))
    problems: list[str] = []
    reaper = make_reaper(runtime.layout, problems)
    assert await anyio.to_thread.run_sync(reaper.reap) == []
    assert problems == []
    assert (await sh(runtime, "true")).code == 0
    assert runtime.store.sandboxes[id].ready
