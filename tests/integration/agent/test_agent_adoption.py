"""Agents are killed, replaced and stopped; their pods go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from podlite.linux import netns
from tests.support.agents import Machine, container_status, identity, until
from tests.support.leaks import processes_titled
from tests.support.stopped import state

pytestmark = [pytest.mark.root]


def process_of(machine: Machine, name: str) -> tuple[int, int]:
    """(first process of the pod's container, its shim), from the host."""
    found = json.loads(machine.podlite("inspect", "--record", name).stdout)
    [container] = [each for each in found["shim"]["containers"] if each["state"] == "running"]
    pid = container["pid"]
    return pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def dead(pid: int) -> None:
    until(lambda: state(pid) in ("", "Z"), f"process {pid} has ended")


def log_of(machine: Machine, pod: dict[str, Any]) -> str:
    return str(machine.client.request("GET", f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/log"))


def test_a_killed_agents_pods_are_adopted_as_they_are(machine: Machine) -> None:
    machine.start()
    counting = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
    name = machine.drop("web", script=counting)
    other = machine.create("api")["metadata"]["name"]
    before = {each: identity(machine.running(each)) for each in (name, other)}
    pid, _ = process_of(machine, name)
    machine.kill()
    assert state(pid) not in ("", "Z")
    machine.start()
    assert {each: identity(machine.running(each)) for each in (name, other)} == before
    assert process_of(machine, name)[0] == pid
    # No line of the log is lost: the shim writes it, whoever runs.
    numbers = [int(each) for each in log_of(machine, machine.running(name)).split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 1


def test_stopping_leaves_the_pods_to_the_next_one(machine: Machine) -> None:
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    before = identity(machine.running(name))
    assert machine.stop() == 0
    assert not os.path.exists(machine.socket)
    machine.start()
    assert identity(machine.running(name)) == before


def test_an_exit_while_no_agent_runs_is_handled_once(machine: Machine) -> None:
    machine.start()
    name = machine.create("web", script="trap 'exit 3' TERM; while :; do sleep 0.01; done")["metadata"]["name"]
    first = container_status(machine.running(name))
    pid, _ = process_of(machine, name)
    machine.kill()
    while state(pid) not in ("", "Z"):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)
    machine.start()
    pod = machine.wait(name, lambda pod: container_status(pod)["restartCount"] == 1)
    last = container_status(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["containerID"]) == (3, first["containerID"])
    pod = machine.running(name)
    assert container_status(pod)["restartCount"] == 1


def test_an_exit_is_final_where_the_policy_says_so(machine: Machine) -> None:
    machine.start()
    script = "trap 'exit 0' TERM; while :; do sleep 0.01; done"
    name = machine.create("job", script=script, restartPolicy="Never")["metadata"]["name"]
    machine.running(name)
    pid, _ = process_of(machine, name)
    machine.kill()
    while state(pid) not in ("", "Z"):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)
    machine.start()
    pod = machine.wait(name, lambda pod: pod["status"]["phase"] == "Succeeded")
    # And the next agent finds it over, too.
    machine.kill()
    machine.start()
    assert machine.wait(name, lambda pod: True)["status"]["containerStatuses"] == pod["status"]["containerStatuses"]


@pytest.mark.parametrize("agent_lives", [True, False])
def test_a_killed_shim_ends_its_sandbox_and_the_pod_begins_again(machine: Machine, agent_lives: bool) -> None:
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    first = container_status(machine.running(name))
    pid, shim = process_of(machine, name)
    if not agent_lives:
        machine.kill()
    os.kill(shim, signal.SIGKILL)
    dead(pid)
    if not agent_lives:
        machine.start()
    pod = machine.wait(
        name,
        lambda pod: (
            container_status(pod)["state"].get("running")
            and container_status(pod)["containerID"] != first["containerID"]
        ),
    )
    assert pod["metadata"]["uid"] == machine.pod(name)["metadata"]["uid"]  # type: ignore[index]
    last = container_status(pod)["lastState"]["terminated"]
    assert (container_status(pod)["restartCount"], last["exitCode"]) == (1, 137)
    assert process_of(machine, name)[1] != shim


def test_a_killed_spawner_is_replaced(machine: Machine) -> None:
    process = machine.start()
    machine.running(machine.create("one")["metadata"]["name"])
    [spawner] = [
        pid
        for pid in map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        if b"spawner" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(spawner, signal.SIGKILL)
    dead(spawner)
    machine.running(machine.create("two")["metadata"]["name"])
    assert machine.pod("one")["status"]["phase"] == "Running"  # type: ignore[index]


def test_what_is_left_of_a_pod_whose_removal_was_cut_short_goes(machine: Machine) -> None:
    """The lock goes last, and after it the directory."""
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    directory = Path(machine.layout.pods_dir, machine.running(name)["metadata"]["uid"])
    lock = (directory / "pod.lock").read_bytes()
    machine.delete(name)
    machine.gone(name)
    machine.kill()
    directory.mkdir()
    (directory / "pod.lock").write_bytes(lock)
    machine.start()
    assert not directory.exists()


def test_a_deletion_that_was_under_way_is_finished(machine: Machine) -> None:
    machine.start()
    name = machine.create("web", script="trap '' TERM; while :; do sleep 0.05; done")["metadata"]["name"]
    machine.running(name)
    machine.delete(name, grace=2)
    machine.kill()
    machine.start()
    machine.gone(name)


def test_a_manifest_that_went_while_no_agent_ran(machine: Machine) -> None:
    machine.start()
    name, stays = machine.drop("web"), machine.drop("stays")
    machine.running(name)
    before = identity(machine.running(stays))
    machine.kill()
    (machine.manifests / "web.json").unlink()
    machine.start()
    machine.gone(name)
    assert identity(machine.running(stays)) == before


def test_probes_go_on(machine: Machine) -> None:
    machine.start()
    marker = Path(machine.layout.run_dir).parent / "healthy"
    marker.touch()
    probe = {"exec": {"command": ["/bin/cat", "/shared/healthy"]}, "periodSeconds": 1, "failureThreshold": 1}
    name = machine.create(
        "web",
        container={"livenessProbe": probe, "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
        volumes=[{"name": "shared", "hostPath": {"path": str(marker.parent)}}],
    )["metadata"]["name"]
    machine.running(name)
    machine.kill()
    machine.start()
    assert container_status(machine.running(name))["restartCount"] == 0
    marker.unlink()
    machine.wait(name, lambda pod: container_status(pod)["restartCount"] >= 1)


def test_only_one_agent_at_a_time(machine: Machine) -> None:
    machine.start()
    done = machine.podlite("agent", check=False)
    assert done.returncode == 125
    assert "another podlite agent" in done.stderr


def test_other_commands_leave_waiting_pods_alone(machine: Machine) -> None:
    machine.start()
    name = machine.create("web")["metadata"]["name"]
    before = identity(machine.running(name))
    machine.kill()
    machine.podlite("prune")
    done = machine.podlite("run", "--network=none", "--image", "podlite.local/host:1", "--", "/bin/true")
    assert done.returncode == 0
    machine.start()
    assert identity(machine.running(name)) == before


def test_stopping_in_the_middle_of_starts_disturbs_none(machine: Machine) -> None:
    """Upgrades come at any moment: no job is killed by one, none runs twice, and no count goes up."""
    marks = Path(machine.layout.run_dir).parent / "marks"
    marks.mkdir()
    machine.start()
    mount = {"volumeMounts": [{"name": "marks", "mountPath": "/marks"}]}
    volumes = [{"name": "marks", "hostPath": {"path": str(marks)}}]
    names: list[str] = []
    for number in range(12):
        script = f"echo once >> /marks/{number}; sleep 0.2; exit 7"
        made = machine.create(f"job-{number}", script=script, restartPolicy="Never", container=mount, volumes=volumes)
        names.append(made["metadata"]["name"])
        if number % 4 == 3:
            assert machine.stop() == 0
            machine.start()
    for number, name in enumerate(names):
        pod = machine.wait(name, lambda pod: pod["status"]["phase"] == "Failed")
        status = container_status(pod)
        assert (status["state"]["terminated"]["exitCode"], status["restartCount"]) == (7, 0)
        assert (marks / str(number)).read_text() == "once\n"


def reboot(machine: Machine) -> None:
    """What a reboot does to podlite: no process, no run directory, no namespace; what was stored is of another boot."""
    machine.kill()
    for pid, _ in processes_titled("podlite: shim default/"):
        os.kill(pid, signal.SIGKILL)
        dead(pid)
    shutil.rmtree(machine.layout.run_dir)
    for name in os.listdir(machine.layout.netns_dir):
        netns.remove(f"{machine.layout.netns_dir}/{name}")
    for path in Path(machine.layout.state_dir, "agent/pods").iterdir():
        pod = json.loads(path.read_text())
        pod["metadata"]["annotations"]["podlite.io/boot"] = "another"
        path.write_text(json.dumps(pod))
    containers = Path(machine.layout.containers_dir)
    for name in os.listdir(containers):
        Path(machine.layout.images_dir, "pins", name).unlink()  # it carries the boot's id, too
    containers.rename(containers.with_name("another-boot"))


def test_after_a_reboot_pods_come_back_by_their_policy(machine: Machine) -> None:
    machine.start()
    static = machine.drop("static")
    uids = {}
    for name, policy, script in (
        ("always", "Always", "exec sleep 1000"),
        ("on-failure", "OnFailure", "exec sleep 1000"),
        ("never", "Never", "exec sleep 1000"),
        ("done", "Never", "exit 0"),
    ):
        uids[name] = machine.create(name, script=script, restartPolicy=policy)["metadata"]["uid"]
    for name in ("always", "on-failure", "never", static):
        machine.running(name)
    machine.wait("done", lambda pod: pod["status"]["phase"] == "Succeeded")
    stored = Path(machine.layout.state_dir, "agent/pods")

    def is_written(name: str, phase: str) -> bool:
        return json.loads((stored / f"{uids[name]}.json").read_text())["status"]["phase"] == phase

    # What has become of a pod is written down a moment after it is shown.
    wanted = {"always": "Running", "on-failure": "Running", "never": "Running", "done": "Succeeded"}
    until(lambda: all(is_written(*each) for each in wanted.items()))
    reboot(machine)
    machine.start()
    for name in ("always", "on-failure", static):
        machine.running(name)
    never = machine.wait("never", lambda pod: pod["status"]["phase"] == "Failed")
    assert never["status"]["reason"] == "NodeReboot"
    assert container_status(never)["state"]["terminated"]["exitCode"] == 137
    # Also once it has been looked at.
    machine.running(machine.create("marker")["metadata"]["name"])
    done = machine.wait("done", lambda pod: True)
    assert (done["status"]["phase"], container_status(done)["state"]["terminated"]["exitCode"]) == ("Succeeded", 0)
    found = {name: machine.wait(name, lambda pod: True)["metadata"]["uid"] for name in uids}
    assert found == uids
