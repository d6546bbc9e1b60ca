"""Many `podlite run` on one machine, of which some are killed: the others do not notice, and nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.support.cli import SECONDS, Podlite, pod
from tests.support.leaks import has_ended

pytestmark = [pytest.mark.root]

WAITING = "echo ready; trap 'exit 0' TERM; while :; do sleep 0.05; done"


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_eight_runs_of_which_one_is_killed(podlite: Podlite) -> None:
    runs = {
        f"pod{number}": podlite.start("run", podlite.manifest(pod(WAITING, name=f"pod{number}"))) for number in range(8)
    }
    for run in runs.values():
        run.until_out("ready")
    listed = {each["metadata"]["name"]: each for each in podlite("ps", "-o", "json").json["items"]}
    assert set(listed) == set(runs)
    addresses = {name: each["status"]["podIP"] for name, each in listed.items()}
    assert len(set(addresses.values())) == 8
    shims = {title.rpartition("/")[2]: pid for pid, title in podlite.processes() if title.startswith("podlite: shim")}
    assert set(shims) == set(runs)

    victim = runs.pop("pod3")
    victim.process.kill()
    victim.process.wait()
    # Its shim ends its container, and itself.
    wait_for(lambda: has_ended(shims["pod3"]), "the shim of the killed run ends")
    left = set(os.listdir(podlite.layout.netns_dir))
    assert len(left) == 8

    # What belonged to it goes when the next command that writes begins.
    assert podlite("run", podlite.manifest(pod("true", name="next"))).status == 0
    assert len(os.listdir(podlite.layout.netns_dir)) == 7
    assert len(os.listdir(podlite.layout.pods_dir)) == 7
    assert len(os.listdir(podlite.layout.containers_dir)) == 7

    # The others have their network, among themselves and from the host, and their containers.
    for name, address in addresses.items():
        if name != "pod3":
            ping = ["nsenter", f"--net={podlite.netns}", "ping", "-c1", "-W5", address]
            assert subprocess.run(ping, capture_output=True, check=False).returncode == 0, name
            assert podlite("exec", name, "--", "/bin/true").status == 0
    inside = podlite("exec", "pod0", "--", "ping", "-c1", "-W5", addresses["pod7"])
    assert inside.status == 0, inside
    for run in runs.values():
        run.signal(signal.SIGTERM)
    assert {run.wait().status for run in runs.values()} == {143}


def test_runs_that_are_killed_while_they_begin(podlite: Podlite) -> None:
    """At any moment, eight at once; the same pods can be run at once afterwards."""
    manifests = [podlite.manifest(pod("echo ran", name=f"pod{number}")) for number in range(8)]
    for delay in (0.1, 0.2, 0.3, 0.45):
        runs = [podlite.start("run", manifest) for manifest in manifests]
        time.sleep(delay)  # not awaited: it is the point that this may be any moment
        for run in runs[::2]:
            run.process.kill()
        assert {run.wait().status for run in runs[1::2]} == {0}
        for run in runs[::2]:
            assert run.wait().status in (-signal.SIGKILL, 0)
    assert podlite("run", *manifests).status == 0
    assert podlite("prune").status == 0


def test_the_shared_rules_go_with_the_last_pod_only(podlite: Podlite) -> None:
    first = podlite.start("run", podlite.manifest(pod(WAITING, name="first")))
    second = podlite.start("run", podlite.manifest(pod(WAITING, name="second")))
    shared = f"{podlite.layout.run_dir}/network/shared.json"
    for run in (first, second):
        run.until_out("ready")
    assert os.path.exists(shared)
    first.signal(signal.SIGTERM)
    assert first.wait().status == 143
    assert os.path.exists(shared)
    assert podlite("exec", "second", "--", "ping", "-c1", "-W5", "169.254.1.1").status == 0
    second.signal(signal.SIGTERM)
    assert second.wait().status == 143
    assert not os.path.exists(shared)
