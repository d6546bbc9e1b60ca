"""`podlite run --trace`: the timeline of a run, as Perfetto and chrome://tracing read it (Trace Event Format)."""

from __future__ import annotations

import json

import pytest

from podlite.steps import STEPS
from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]


def test_the_timeline_of_a_run(podlite: Podlite) -> None:
    path = f"{podlite.directory}/trace.json"
    init = f'initContainers:\n- name: first\n  image: {HOST_IMAGE}\n  command: ["/bin/true"]'
    done = podlite("run", "--trace", path, podlite.manifest(pod("sleep 0.1; exit 3", spec=init)))
    assert done.status == 3, done
    with open(path) as file:
        trace = json.load(file)
    names: dict[tuple[int, int], str] = {}
    spans = []
    for event in trace["traceEvents"]:
        if event["ph"] == "M":
            names[event["pid"], event["tid"]] = event["args"]["name"]
        else:
            assert event["ph"] == "X"
            assert event["dur"] >= 0
            spans.append(event)
    found = {each["name"] for each in spans}
    assert found <= set(STEPS)
    # From reading the YAML to the last unlink, across controller, spawner, shim and container.
    expected = {
        "manifest.load", "runtime.open", "pod.admit", "pod.cgroup", "image.ensure", "spawner.start", "sandbox.run",
        "sandbox.record", "sandbox.files", "netns.create", "network.address", "network.setup", "sandbox.confirm",
        "shim.fork", "shim.setup", "container.create", "container.cgroup", "container.mounts", "container.start",
        "container.fork", "container.rootfs", "container.confine", "container.exec", "container.run",
        "container.exit", "sandbox.stop", "shim.stop", "network.teardown", "netns.remove", "container.remove",
        "sandbox.remove", "pod.cleanup", "runtime.close",
    }  # fmt: skip
    assert expected - found == set()
    assert {each["cat"] for each in spans} >= {"controller", "shim", "container"}
    # The pod is a track of its own, and so is each container in it.
    pods = {names[each["pid"], 0] for each in spans if "sandbox_id" in each["args"]}
    assert pods == {"default/demo"}
    runs = [each for each in spans if each["name"] == "container.run"]
    tracks = {names[each["pid"], each["tid"]] for each in runs}
    assert len(runs) == len(tracks) == 2
    assert all(track.startswith("container ") for track in tracks)
    # One clock for all processes: what a shim reports lies within what the controller does.
    [outer] = [each for each in spans if each["name"] == "sandbox.run"]
    [inner] = [each for each in spans if each["name"] == "shim.setup"]
    assert outer["ts"] <= inner["ts"] <= inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    assert max(each["dur"] for each in runs) >= 100_000, "microseconds"


def test_a_failed_step_says_so(podlite: Podlite) -> None:
    path = f"{podlite.directory}/trace.json"
    done = podlite("run", "--trace", path, podlite.manifest(pod("true").replace("/bin/sh", "/no/such")))
    assert done.status == 127, done
    with open(path) as file:
        failed = [each for each in json.load(file)["traceEvents"] if each["ph"] == "X" and "error" in each["args"]]
    assert "container.start" in {each["name"] for each in failed}


def test_the_trace_of_a_run_that_was_never_one(podlite: Podlite) -> None:
    """A bad manifest has a timeline too; a place that cannot be written to is told before anything runs."""
    path = f"{podlite.directory}/trace.json"
    assert podlite("run", "--trace", path, podlite.manifest("a: [")).status == 125
    with open(path) as file:
        assert {each["name"] for each in json.load(file)["traceEvents"]} >= {"manifest.load"}
    done = podlite("run", "--trace", "/no/such/directory/t.json", podlite.manifest(pod("echo ran")))
    assert done.status == 2, done
    assert "/no/such/directory/t.json" in done.err
    assert done.out == ""
