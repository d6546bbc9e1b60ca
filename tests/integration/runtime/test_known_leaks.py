"""Real leaks of the systems that podlite learns from, each tried here; what they were is said at each test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from podlite import steps
from podlite.cri.errors import CRIError
from podlite.linux.cgroups import Cgroups
from podlite.linux.netlink import NetlinkSocket
from podlite.runtime.image.store import ImageStore
from podlite.runtime.journal import load
from podlite.runtime.layout import Layout
from podlite.runtime.network.errors import NetworkTeardownError
from podlite.runtime.network.interface import NetworkRecord, PodNetworkRequest, PodNetworkStatus
from podlite.runtime.network.none import HostNetwork, NoneNetwork
from podlite.runtime.reaper import Reaper
from podlite.runtime.service import Runtime
from tests.support.containers import container_config, fd_count, run, sandbox_config, start

pytestmark = [pytest.mark.root, pytest.mark.anyio]

SANDBOX_STEPS = ["sandbox.record", "sandbox.files", "netns.create", "network.setup", "sandbox.confirm"]
VICTIM = Path(__file__).with_name("reaper_victim.py")


@pytest.fixture(autouse=True)
def no_faults() -> Any:
    yield
    steps.clear_faults()


def reaper(layout: Layout, problems: list[str], network: Any = None) -> Reaper:
    networks = {"none": NoneNetwork(), "host": HostNetwork(), "stubborn": network}
    return Reaper(
        layout, networks.get, ImageStore(layout.images_dir), Cgroups.detect(layout.cgroup_root), problems.append
    )


def kill_victim(layout: Layout, fault: str) -> None:
    """A process that runs a pod and is killed at a step."""
    arguments = [layout.run_dir, layout.state_dir, layout.log_dir, layout.netns_dir, layout.cgroup_root]
    done = subprocess.run(
        [sys.executable, str(VICTIM), *arguments],
        env={**os.environ, "PODLITE_FAULTS": fault, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


@pytest.mark.parametrize("step", ["sandbox.record", "sandbox.files", "netns.create"])
async def test_a_network_namespace_that_nobody_has_written_down(layout: Layout, step: str) -> None:
    """containerd/cri#568: the netns was created before the sandbox was saved; killed in between, nobody knew of it."""
    kill_victim(layout, f"{step}=kill")
    records = list(Path(layout.pods_dir).glob("*/record"))
    named = {load(str(path))[0]["netns"] for path in records}
    assert {f"{layout.netns_dir}/{name}" for name in os.listdir(layout.netns_dir)} <= named
    problems: list[str] = []
    reaper(layout, problems).reap()
    assert (problems, os.listdir(layout.netns_dir), os.listdir(layout.pods_dir)) == ([], [], [])


@pytest.mark.parametrize("fault", ["error(ENOSPC)", "error(EIO)"])
@pytest.mark.parametrize(
    "step", ["sandbox.record", "sandbox.files", "netns.create", "network.setup", "sandbox.confirm"]
)
async def test_a_sandbox_that_fails_half_way_and_the_same_pod_again(runtime: Runtime, step: str, fault: str) -> None:
    config = sandbox_config(runtime)
    await runtime.remove_pod_sandbox(await runtime.run_pod_sandbox(sandbox_config(runtime)))
    before = fd_count()
    steps.inject(step, f"1*{fault}")
    with pytest.raises((CRIError, OSError)):
        await runtime.run_pod_sandbox(config)
    assert os.listdir(runtime.layout.netns_dir) == []
    assert os.listdir(runtime.layout.pods_dir) == []
    with anyio.fail_after(60):
        while fd_count() > before:
            await anyio.sleep(0.01)
    id = await runtime.run_pod_sandbox(config)
    assert (await run(runtime, id, container_config(["/bin/true"]))).code == 0


class StubbornNetwork:
    """A network whose set-up fails when it has an address already, and whose teardown fails as often as it is told."""

    name = "stubborn"

    def __init__(self, failures: int) -> None:
        self.addresses: set[str] = set()
        self.failures = failures

    def plan(self, request: PodNetworkRequest) -> NetworkRecord:
        return {"network": self.name, "version": 1, "address": request.sandbox_id}

    def setup_pod_network(
        self, request: PodNetworkRequest, record: NetworkRecord, inside: NetlinkSocket | None
    ) -> PodNetworkStatus:
        self.addresses.add(record["address"])
        raise CRIError("the set-up failed")

    def teardown_pod_network(self, record: NetworkRecord) -> None:
        if self.failures:
            self.failures -= 1
            raise NetworkTeardownError("the teardown failed too")
        self.addresses.discard(record["address"])

    def release_unused(self) -> bool:
        return not self.addresses

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


async def test_a_failed_network_whose_teardown_failed_too(layout: Layout) -> None:
    """containerd#5768: the address was lost, for nothing knew of it any more."""
    network = StubbornNetwork(failures=1)
    async with Runtime(layout, network=network) as runtime:  # type: ignore[arg-type]
        with pytest.raises(CRIError, match="the set-up failed"):
            await runtime.run_pod_sandbox(sandbox_config(runtime))
        assert len(network.addresses) == 1
        # The record is there, and so is what it names; no sandbox is.
        [directory] = os.listdir(layout.pods_dir)
        assert load(f"{layout.pods_dir}/{directory}/record")[0]["network"]["network"] == "stubborn"
        assert await runtime.list_pod_sandbox() == []
        # Whoever reaps next takes it back; nobody owns it any more.
        problems: list[str] = []
        await anyio.to_thread.run_sync(reaper(layout, problems, network).reap)
        assert (problems, network.addresses, os.listdir(layout.pods_dir)) == ([], set(), [])
        assert os.listdir(layout.netns_dir) == []


async def test_a_teardown_that_goes_on_failing_is_told_and_tried_again(layout: Layout) -> None:
    network = StubbornNetwork(failures=2)
    async with Runtime(layout, network=network) as runtime:  # type: ignore[arg-type]
        with pytest.raises(CRIError, match="the set-up failed"):
            await runtime.run_pod_sandbox(sandbox_config(runtime))
        for left in (1, 0):
            problems: list[str] = []
            await anyio.to_thread.run_sync(reaper(layout, problems, network).reap)
            assert len(problems) == left
            assert len(network.addresses) == left
        assert os.listdir(layout.pods_dir) == []


@pytest.mark.parametrize("record", [b"", b'{"version":1,"boot":"', b"\0\0\0\0", b'{"version":1}'])
async def test_a_record_without_what_it_should_say(layout: Layout, record: bytes) -> None:
    """containerd#11576: after a kill -9 there was a sandbox without metadata, to be neither used nor removed."""
    async with Runtime(layout, network=NoneNetwork()):
        pass
    directory = f"{layout.pods_dir}/11111111-2222-4333-8444-555555555555"
    os.makedirs(directory)
    for name, content in (("record", record), ("lock", b""), ("hosts", b"")):
        Path(f"{directory}/{name}").write_bytes(content)
    problems: list[str] = []
    reaper(layout, problems).reap()
    assert (problems, os.listdir(layout.pods_dir)) == ([], [])
    # The pod can be run.
    async with Runtime(layout, network=NoneNetwork()) as runtime:
        config = sandbox_config(runtime)
        config.metadata.uid = os.path.basename(directory)
        id = await runtime.run_pod_sandbox(config)
        assert (await run(runtime, id, container_config(["/bin/true"]))).code == 0


async def test_a_record_of_a_version_to_come_is_left_alone(layout: Layout) -> None:
    """Whoever wrote it knows what to do with it; that it is there is said."""
    directory = f"{layout.pods_dir}/11111111-2222-4333-8444-555555555555"
    os.makedirs(directory)
    Path(f"{directory}/record").write_text('{"version":1000,"boot":"x"}\n')
    problems: list[str] = []
    assert reaper(layout, problems).reap() == []
    assert "version 1000" in problems[0]
    assert os.listdir(directory) == ["lock", "record"] or os.path.exists(f"{directory}/record")


async def test_a_sandbox_that_is_removed_while_somebody_is_in_its_network(runtime: Runtime) -> None:
    """containerd/cri#427: the sandbox was removed while its network namespace was still open, and the file stayed."""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    path = runtime.store.sandboxes[id].netns_path
    held = os.open(path, os.O_RDONLY)
    guest = subprocess.Popen(["nsenter", f"--net={path}", "sleep", "1000"])
    try:
        with anyio.fail_after(60):
            while os.stat(f"/proc/{guest.pid}/ns/net").st_ino != os.fstat(held).st_ino:
                await anyio.sleep(0.01)
        await runtime.remove_pod_sandbox(id)
        assert os.listdir(runtime.layout.netns_dir) == []
        assert os.listdir(runtime.layout.pods_dir) == []
        # It lives for as long as they want it, and is nobody's business of ours.
        assert guest.poll() is None
    finally:
        os.close(held)
        guest.kill()
        guest.wait()


async def test_programs_that_are_started_meanwhile_inherit_nothing(runtime: Runtime) -> None:
    """moby#41136: descriptors of network namespaces leaked into whatever was executed at that moment, and kept them."""
    stop = threading.Event()
    seen: set[str] = set()
    program = """
import os
for fd in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink("/proc/self/fd/" + fd))
    except OSError:
        pass
"""
    command = ["/usr/bin/python3", "-I", "-S", "-c", program]

    def start_programs() -> None:
        while not stop.is_set():
            # Every descriptor that is not close-on-exec is the program's.
            done = subprocess.run(command, capture_output=True, text=True, close_fds=False, check=True)
            seen.update(done.stdout.split("\n"))

    thread = threading.Thread(target=start_programs)
    thread.start()
    try:
        for number in range(15):
            id = await runtime.run_pod_sandbox(sandbox_config(runtime, f"pod{number}"))
            await start(runtime, id, container_config(["/bin/sleep", "1000"]))
            await runtime.remove_pod_sandbox(id)
    finally:
        stop.set()
        await anyio.to_thread.run_sync(thread.join)
    ours = (
        runtime.layout.run_dir,
        runtime.layout.netns_dir,
        runtime.layout.state_dir,
        "/dev/null/",
        "net:",
        "mnt:",
        "pid:",
    )
    assert [each for each in seen if each.startswith(ours) or "pidfd" in each or "netlink" in each.lower()] == []
    assert len(seen) >= 3


@pytest.mark.parametrize("step", ["netns.create", "container.create", "container.cgroup", "container.start"])
async def test_a_pod_that_was_being_created_when_its_runtime_was_killed(layout: Layout, step: str) -> None:
    """containerd#7010: such pods stayed in ContainerCreating for ever, as the name of the half-made one was taken."""
    kill_victim(layout, f"{step}=kill")
    [uid] = os.listdir(layout.pods_dir)
    problems: list[str] = []
    reaper(layout, problems).reap()
    assert problems == []
    async with Runtime(layout, network=NoneNetwork()) as runtime:
        config = sandbox_config(runtime, "victim")
        config.metadata.uid = uid
        id = await runtime.run_pod_sandbox(config)
        assert (await run(runtime, id, container_config(["/bin/true"]))).code == 0
