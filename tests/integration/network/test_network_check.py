"""`podlite check --network`: what it draws is what is; a drop somewhere shows in the right row, and nothing is left."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from cni_networks import PLUGINS, PORTMAP, bridge, needs_plugins, write_network
from network_hosts import Host, sh, wait_for

# The first process of a pid namespace has no default for SIGTERM.
LOITER = ["sh", "-c", "trap exit TERM; sleep 1000 & wait"]

ALL_WANTED = {
    "pod → pod": True,
    "host → pod": True,
    "pod → host": True,
    "pod → outside": True,
    "pod → outside, packets as large as the MTU": True,
    "outside → host port": True,
    "host → host port": True,
    "host → host port by 127.0.0.1": True,
    "host → host port by [::1]": False,
    "another pod → host port": True,
    "pod → its own host port": True,
    "pod → host's loopback": False,
}


def check(host: Host, *words: str) -> tuple[dict[tuple[str, str, str], bool], dict[str, Any], int]:
    """(way, family, protocol) → whether it works; the whole answer; the exit status."""
    directories = [f"--{name}-dir={host.run_dir}/{name}" for name in ("run", "state", "log", "netns")]
    command = [sys.executable, "-m", "podlite", "check", "--output=json", *directories, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    return (
        {(each["way"], each["family"], each["protocol"]): each["works"] for each in answer["ways"]},
        answer,
        done.returncode,
    )


@pytest.fixture(params=["builtin", pytest.param("cni", marks=needs_plugins)])
def words(request: pytest.FixtureRequest, run_dir: str) -> list[str]:
    if request.param == "builtin":
        return ["--network"]
    directory = write_network(run_dir, bridge(run_dir), PORTMAP)
    return ["--network", "cni", f"--cni-conf-dir={directory}", f"--cni-bin-dir={PLUGINS}"]


def test_every_way_is_tried_and_as_wanted(host: Host, words: list[str]) -> None:
    before = host.state()
    found, answer, code = check(host, *words)
    assert {way for way, _, _ in found} == set(ALL_WANTED)
    assert {key: works for key, works in found.items() if works != ALL_WANTED[key[0]]} == {}
    assert {(family, protocol) for _, family, protocol in found} == {
        (family, protocol) for family in ("IPv4", "IPv6") for protocol in ("TCP", "UDP")
    }
    assert code == 0 and answer["problems"] == []
    if words == ["--network"]:
        wanted = {key: value for key, value in before.items() if key != "files"}
        host.wait_for_state({**wanted, "files": host.state()["files"]})


def test_a_drop_shows_where_it_is(host: Host) -> None:
    sh("nft 'add table ip x; add chain ip x f { type filter hook forward priority 0; policy drop; }'")
    found, answer, code = check(host, "--network")
    assert code == 1
    stopped = {key for key, works in found.items() if works != ALL_WANTED[key[0]]}
    assert {family for _, family, _ in stopped} == {"IPv4"}
    assert {way for way, _, _ in stopped} == {
        "pod → pod",
        "pod → outside",
        "pod → outside, packets as large as the MTU",
        "outside → host port",
        "another pod → host port",
        "pod → its own host port",
    }
    [problem] = answer["problems"]
    assert problem.startswith("The chain ip x f drops packets from pods to elsewhere and between pods")


def test_it_can_be_read(host: Host) -> None:
    directories = [f"--{name}-dir={host.run_dir}/{name}" for name in ("run", "state", "log", "netns")]
    done = subprocess.run(
        [sys.executable, "-m", "podlite", "check", "--network", *directories],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["WAY", "IPV4", "TCP", "IPV4", "UDP", "IPV6", "TCP", "IPV6", "UDP"]
    assert "pod → pod                                    yes        yes        yes        yes" in lines
    assert lines[-1] == "All 42 are as they should be."
    assert done.returncode == 0


@needs_plugins
def test_cni_says_what_has_changed_about_pods_that_are_there(host: Host) -> None:
    """CHECK, for a pod of somebody else's."""
    words = [f"--cni-conf-dir={write_network(host.run_dir, bridge(host.run_dir), PORTMAP)}", f"--cni-bin-dir={PLUGINS}"]
    directories = [f"--{name}-dir={host.run_dir}/{name}" for name in ("run", "state", "log", "netns")]
    command = [sys.executable, "-m", "podlite", "run", "--network=cni", *words, *directories]
    pod = subprocess.Popen([*command, "--image", "podlite.local/host:1", "--name", "web", "--", *LOITER])
    try:
        pins = f"{host.run_dir}/netns"
        wait_for(lambda: bool(glob.glob(f"{host.run_dir}/state/cni/results/*")), "ADD")
        (pin,) = os.listdir(pins)
        wait_for(lambda: "inet 10.88" in sh(f"nsenter --net={pins}/{pin} ip address"), "the pod's address")
        assert check(host, "--network", "cni", *words)[1]["problems"] == []
        sh(f"nsenter --net={pins}/{pin} ip address flush dev eth0")
        [problem] = check(host, "--network", "cni", *words)[1]["problems"]
        assert problem.startswith(
            f"Pod default/web: CHECK by the CNI plugin {PLUGINS}/bridge, network testnet, failed:"
        )
    finally:
        pod.terminate()
        pod.wait()
