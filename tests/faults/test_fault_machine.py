"""What happens to the machine, or beside the agent: a full disk, foreground runs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from podlite.linux.syscalls import MNT_DETACH, umount2
from tests.faults.conftest import Account
from tests.support.agents import IMAGE, Machine, container_status, identity, is_running, until
from tests.support.leaks import processes_titled

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


def test_a_full_disk_while_containers_write_logs(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    os.makedirs(machine.layout.log_dir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", machine.layout.log_dir], check=True)
    try:
        machine.start()
        script = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo line $i of what will not fit; done"
        name = machine.create("web", script=script)["metadata"]["name"]
        before = identity(machine.running(name))
        until(lambda: os.statvfs(machine.layout.log_dir).f_bavail == 0, "the disk is full")
        # Others are started and ended meanwhile, and the agent answers.
        machine.create("job", script="exit 7", restartPolicy="Never")
        ended = machine.wait("job", lambda pod: pod["status"]["phase"] == "Failed")
        assert container_status(ended)["state"]["terminated"]["exitCode"] in (7, 128)
        assert machine.client.request("GET", "/healthz") == "ok"
        # An agent that is killed then is replaced, and the pod goes on, as long as it does.
        machine.kill()
        machine.start()
        assert identity(machine.running(name)) == before
        machine.delete("job")
        machine.delete(name, grace=1)
        machine.gone(name)
        machine.gone("job")
        account.other.append("the disk was full while containers wrote their logs, and none of them noticed")
    finally:
        if machine.process is not None and machine.process.poll() is None:
            machine.stop()
        umount2(machine.layout.log_dir, MNT_DETACH)


def test_foreground_runs_beside_the_agent(fault_machine: Machine, account: Account) -> None:
    """Eight runs at once, of which one is killed; the agent is killed and replaced meanwhile."""
    machine = fault_machine
    machine.start()
    names = [machine.create(f"web-{number}")["metadata"]["name"] for number in range(3)]
    before = {name: identity(machine.running(name)) for name in names}
    gate = Path(machine.layout.run_dir).parent / "gate"
    gate.mkdir()

    def run(number: int) -> subprocess.Popen[bytes]:
        script = f"until [ -e /gate/open ]; do sleep 0.05; done; exit {number}"
        return subprocess.Popen(
            machine.command(
                *("run", f"--name=run-{number}", "-v", f"{gate}:/gate", "--image", IMAGE, "--", "/bin/sh", "-c", script)
            ),
            env=machine.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    runs = [run(number) for number in range(8)]
    try:
        for number in range(8):
            machine.wait(f"run-{number}", is_running)
        machine.kill()
        os.kill(runs[0].pid, signal.SIGKILL)
        runs[0].wait()
        machine.start()
        assert {name: identity(machine.running(name)) for name in names} == before
        (gate / "open").touch()
        assert [each.wait(60) for each in runs[1:]] == list(range(1, 8))
    finally:
        for each in runs:
            each.kill()
            each.wait()
    # What the killed one left was ended by its shim, and is taken back by whoever comes next.
    machine.podlite("prune")
    until(lambda: machine.pod("run-0") is None, "the killed run's pod is gone")
    until(lambda: not [title for _, title in processes_titled("podlite: shim default/run-")])
    assert {name: identity(machine.running(name)) for name in names} == before
    account.other.append(
        "eight foreground runs beside the agent, one of them and the agent killed: nobody else noticed"
    )
