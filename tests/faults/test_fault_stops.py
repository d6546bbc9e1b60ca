"""Processes that are stopped for a while (SIGSTOP): nothing else waits for them, and they go on where they were.

For a second here, for thirty with PODLITE_FAULTS_SUITE=full.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from podlite.agent.client import pods_path
from tests.faults.conftest import Account
from tests.support.agents import Machine, container_status, identity, until
from tests.support.stopped import state

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

SECONDS = 30.0 if os.environ.get("PODLITE_FAULTS_SUITE") == "full" else 1.0
COUNTING = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


@contextmanager
def stopped(pid: int, account: Account) -> Iterator[None]:
    """The process is stopped in the block, and for as long as it has to be."""
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T")
    try:
        yield
        time.sleep(max(SECONDS - (time.monotonic() - began), 0))
    finally:
        os.kill(pid, signal.SIGCONT)
    account.other.append(f"a process was stopped for {SECONDS:g} s, and everything went on")


def children(pid: int) -> list[int]:
    return [int(each) for file in Path(f"/proc/{pid}/task").glob("*/children") for each in file.read_text().split()]


def spawner_of(machine: Machine) -> int:
    assert machine.process is not None
    [found] = [
        each for each in children(machine.process.pid) if b"spawner" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]
    return found


def container_of(machine: Machine, name: str) -> int:
    import json

    found = json.loads(machine.podlite("inspect", "--record", name).stdout)
    [pid] = [each["pid"] for each in found["shim"]["containers"] if each["state"] == "running"]
    assert isinstance(pid, int)
    return pid


def shim_of(machine: Machine, name: str) -> int:
    pid = container_of(machine, name)
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def log_is_whole(machine: Machine, name: str) -> None:
    text = str(machine.client.request("GET", pods_path("default", name, "log")))
    numbers = [int(each) for each in text.split()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_agent(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    machine.start()
    name = machine.create("web", script=COUNTING)["metadata"]["name"]
    job = machine.create("job", script="sleep 1.5; exit 7", restartPolicy="Never")["metadata"]["name"]
    before = identity(machine.running(name))
    machine.running(job)
    # The file by which other commands see the pod is written a moment after the status is shown.
    until(lambda: machine.podlite("exec", name, "--", "/bin/true", check=False).returncode == 0)
    machine.client.close()
    assert machine.process is not None
    with stopped(machine.process.pid, account):
        assert machine.podlite("exec", name, "--", "/bin/echo", "hi").stdout == "hi\n"  # the shim serves on
    assert identity(machine.running(name)) == before
    ended = machine.wait(job, lambda pod: pod["status"]["phase"] == "Failed")
    assert container_status(ended)["state"]["terminated"]["exitCode"] == 7
    log_is_whole(machine, name)


def test_the_spawner(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    before = identity(machine.running(name))
    with stopped(spawner_of(machine), account):
        machine.create("late")
        assert machine.client.request("GET", "/healthz") == "ok"
        assert identity(machine.running(name)) == before
    machine.running("late")


def test_a_shim(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    machine.start()
    name = machine.create("web", script=COUNTING)["metadata"]["name"]
    before = identity(machine.running(name))
    with stopped(shim_of(machine, name), account):
        machine.running(machine.create("other")["metadata"]["name"])  # nobody else waits
        machine.delete("other")
        machine.gone("other")
    assert identity(machine.running(name)) == before
    machine.delete(name)
    machine.gone(name)


def test_a_shim_while_the_agent_is_replaced(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    machine.start()
    name, other = machine.create("web", script=COUNTING)["metadata"]["name"], machine.drop("other")
    before = {each: identity(machine.running(each)) for each in (name, other)}
    with stopped(shim_of(machine, name), account):
        machine.kill()
        machine.start()
        assert identity(machine.running(other)) == before[other]
    # It is adopted as soon as it answers.
    until(lambda: name in [each["metadata"]["name"] for each in machine.client.request("GET", "/pods")["items"]])
    assert identity(machine.running(name)) == before[name]
    log_is_whole(machine, name)
    machine.delete(name)
    machine.gone(name)


def test_a_shim_that_is_killed_while_it_is_stopped(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    first = container_status(machine.running(name))
    shim = shim_of(machine, name)
    os.kill(shim, signal.SIGSTOP)
    machine.kill()
    machine.start()
    os.kill(shim, signal.SIGKILL)
    machine.wait(
        name,
        lambda pod: (
            pod["status"]["phase"] == "Running" and container_status(pod)["containerID"] != first["containerID"]
        ),
    )


def test_a_container(fault_machine: Machine, account: Account) -> None:
    machine = fault_machine
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    before = identity(machine.running(name))
    with stopped(container_of(machine, name), account):
        assert identity(machine.running(name)) == before
    machine.delete(name, grace=1)
    machine.gone(name)
