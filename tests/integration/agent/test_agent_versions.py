"""Agents of different versions, one after the other: what an older one left is adopted, what a newer one left is not
touched (DESIGN 4: version N adopts what N-1 left)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from podlite.runtime import journal
from tests.support.agents import Machine, container_status, identity, until
from tests.support.stopped import state

pytestmark = [pytest.mark.root]

# Written by the first agent that there was, which was killed, and then its shims; what differed from machine to machine
# is replaced. The job had ended before its shim was killed.
FIRST = Path(__file__).with_name("first_records")


def put_first_records(machine: Machine, name: str) -> dict[str, str]:
    """Puts a pod of the first agent's on the machine; its UID and its container's id."""
    layout = machine.layout
    base = str(Path(layout.run_dir).parent)
    uid = json.loads((FIRST / name / "pod.json").read_text())["metadata"]["uid"]
    pods, stored = Path(layout.pods_dir, uid), Path(layout.state_dir, "agent/pods")
    for directory in (pods, stored):
        directory.mkdir(parents=True, exist_ok=True)
    for source in (FIRST / name).iterdir():
        text = source.read_text().replace("@BOOT@", journal.boot_id()).replace("@CGROUP@", layout.cgroup_root)
        target = stored / f"{uid}.json" if source.name == "stored.json" else pods / source.name
        target.write_text(text.replace("@DIR@", base))
    [container] = [
        entry["container"]
        for entry in map(json.loads, (FIRST / name / "record").read_text().splitlines())
        if "container" in entry
    ]
    return {"uid": uid, "container": f"podlite://{container}"}


def test_what_the_first_agent_left_is_adopted(machine: Machine) -> None:
    job, web = put_first_records(machine, "job"), put_first_records(machine, "web")
    machine.start()
    # An exit of which no agent knows yet is in the shim's own file.
    over = machine.wait("job", lambda pod: pod["status"]["phase"] == "Failed")
    status = container_status(over)
    assert (over["metadata"]["uid"], status["containerID"]) == (job["uid"], job["container"])
    assert (status["state"]["terminated"]["exitCode"], status["restartCount"]) == (7, 0)
    assert over["status"]["startTime"] == "2026-11-26T22:02:29Z"
    # The other one died with its shim, and is restarted as its policy says.
    runs = machine.wait("web", lambda pod: container_status(pod)["state"].get("running"))
    assert container_status(runs)["restartCount"] == 1
    last = container_status(runs)["lastState"]["terminated"]
    assert runs["metadata"]["uid"] == web["uid"]
    # ContainerStatusUnknown: kubelet_pods.go, convertToAPIContainerStatuses.
    assert (last["reason"], last["exitCode"]) == ("ContainerStatusUnknown", 137)
    assert container_status(runs)["containerID"] != web["container"]
    for name in ("job", "web"):
        machine.delete(name)
        machine.gone(name)
    assert os.listdir(machine.layout.pods_dir) == []
    assert os.listdir(machine.layout.netns_dir) == []


def rewrite_version(record: Path, change: Callable[[int], int]) -> None:
    header, newline, rest = record.read_text().partition("\n")
    entry = json.loads(header)
    entry["version"] = change(entry["version"])
    record.write_text(json.dumps(entry, separators=(",", ":")) + newline + rest)


def ours_of(machine: Machine) -> set[str]:
    """The names of the pods that the agent itself has."""
    return {each["metadata"]["name"] for each in machine.client.request("GET", "/pods")["items"]}


def test_what_a_newer_agent_left_is_not_touched(machine: Machine) -> None:
    machine.start()
    newer, ours = machine.drop("newer"), machine.create("ours")["metadata"]["name"]
    stored = machine.create("stored")["metadata"]["name"]
    before = {name: identity(machine.running(name)) for name in (newer, ours, stored)}
    processes = {
        name: each["pid"]
        for name in (newer, stored)
        for each in json.loads(machine.podlite("inspect", "--record", name).stdout)["shim"]["containers"]
    }
    machine.kill()
    records = [Path(machine.layout.pods_dir, str(before[name]["uid"]), journal.FILE) for name in (newer, stored)]
    for record in records:
        rewrite_version(record, lambda version: version + 1)
    written = [record.read_bytes() for record in records]

    machine.start()
    assert identity(machine.running(ours)) == before[ours]
    # Others are begun and ended meanwhile, and sources read again; of these pods nothing is begun anew.
    machine.running(machine.create("another")["metadata"]["name"])
    machine.running(machine.drop("more"))
    machine.podlite("prune")
    log = machine.log.read_text()
    for record in records:
        [said] = [line for line in log.splitlines() if "cannot be adopted" in line and str(record) in line]
        assert "a newer podlite wrote it, in version 2 of the records, and this one reads 1 at most" in said
    assert [record.read_bytes() for record in records] == written
    assert {name: state(pid) in ("", "Z") for name, pid in processes.items()} == {newer: False, stored: False}
    assert ours_of(machine).isdisjoint(processes)

    # The newer one, when it comes again, finds them as they were; so does this one, when they are its own.
    for record in records:
        rewrite_version(record, lambda version: version - 1)
    until(lambda: processes.keys() <= ours_of(machine), "they are adopted")
    assert {name: identity(machine.running(name)) for name in before} == before
    machine.delete(stored)
    machine.gone(stored)


def test_a_records_version_is_said(tmp_path: Path) -> None:
    record = tmp_path / journal.FILE
    shutil.copy(FIRST / "job" / "record", record)
    rewrite_version(record, lambda version: version - 2)
    with pytest.raises(journal.RecordVersionError, match=r"it is of version -1 of the records"):
        journal.load(str(record))
