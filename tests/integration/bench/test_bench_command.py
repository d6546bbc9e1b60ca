"""`podlite bench` as its user runs it: what it prints and writes, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from podlite.runtime.layout import Layout
from tests.unit.bench.test_bench_report import ENTRY, SUMMARY

pytestmark = [pytest.mark.root]

SCENARIOS = ("floor", "netns", "sandbox", "pod", "exec", "restart")


def command(layout: Layout, *arguments: str) -> list[str]:
    directories = [
        f"--run-dir={layout.run_dir}",
        f"--state-dir={layout.state_dir}",
        f"--log-dir={layout.log_dir}",
        f"--netns-dir={layout.netns_dir}",
        f"--cgroup-root={layout.cgroup_root}",
    ]
    return [sys.executable, "-m", "podlite", "bench", *arguments, *directories]


def bench(layout: Layout, *arguments: str, faults: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PODLITE_FAULTS": faults}
    return subprocess.run(command(layout, *arguments), env=environment, capture_output=True, text=True, check=False)


def report(path: str) -> dict[str, Any]:
    with open(path) as file:
        found: dict[str, Any] = json.load(file)
    return found


@pytest.fixture
def json_file(short_tmp: str) -> Iterator[str]:
    yield f"{short_tmp}/report.json"


def test_every_scenario(layout: Layout, json_file: str) -> None:
    done = bench(
        layout,
        *SCENARIOS,
        "--network=none",
        "--count=6",
        "--rounds=2",
        "--warm-up=1",
        "--sweep=1,2",
        "--json",
        json_file,
    )
    assert done.returncode == 0, done.stderr
    found = report(json_file)
    assert found["schema"] == 1
    assert max(found["leaks"].values()) <= 0
    assert {"kernel", "cores", "memory_bytes", "sysctls"} <= set(found["machine"])
    assert [(each["name"], each["concurrency"]) for each in found["scenarios"]] == [
        (name, concurrency) for name in SCENARIOS for concurrency in (1, 2)
    ]
    for each in found["scenarios"]:
        assert set(each) == ENTRY
        assert set(each["create_ms"]) == SUMMARY
        assert (each["impl"], each["mode"], each["count"], each["errors"]) == ("podlite", "closed", 6, 0)
        assert 0 < each["create_ms"]["p50"] <= each["create_ms"]["p90"] <= each["create_ms"]["max"]
        assert each["settle_ms"] > 0
        assert each["ops_per_s"] > 0
    steps = {each["name"]: each["steps_ms"] for each in found["scenarios"]}
    assert steps["floor"] == {}
    assert "netns.create" in steps["netns"]
    assert {"netns.create", "shim.fork", "sandbox.run"} <= set(steps["sandbox"])
    assert {"container.create", "container.exec", "pod.cleanup"} & set(steps["pod"])
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "leaks: none" in done.stdout
    assert "round 2 of 2" in done.stderr


def test_the_builtin_network_leaves_nothing(layout: Layout, json_file: str) -> None:
    done = bench(layout, "sandbox", "--count=8", "--rounds=2", "--concurrency=4", "--json", json_file)
    assert done.returncode == 0, done.stdout + done.stderr
    found = report(json_file)
    assert max(found["leaks"].values()) <= 0
    assert "network.setup" in found["scenarios"][0]["steps_ms"]


def test_live_sandboxes_and_pods_stay_meanwhile_and_go_at_the_end(layout: Layout, json_file: str) -> None:
    arguments = ("--live=3", "--count=4", "--rounds=2", "--rest=0.01", "--network=none")
    done = bench(layout, "sandbox", "pod", *arguments, "--json", json_file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("resting: podlite pod") == 2
    found = report(json_file)
    assert [each["live"] for each in found["scenarios"]] == [3, 3]
    assert max(found["leaks"].values()) <= 0


def test_the_open_loop(layout: Layout, json_file: str) -> None:
    done = bench(layout, "netns", "--rate=50", "--count=10", "--rounds=2", "--json", json_file)
    assert done.returncode == 0, done.stdout + done.stderr
    (entry,) = report(json_file)["scenarios"]
    assert (entry["mode"], entry["rate"], entry["count"]) == ("open", 50.0, 10)


def test_a_failed_operation_is_reported_and_status_1(layout: Layout, json_file: str) -> None:
    # Ten of warm-up, four of each two rounds: the fault is in the second.
    done = bench(
        layout,
        *("sandbox", "--network=none", "--count=8", "--rounds=2", "--warm-up=10", "--json", json_file),
        faults="netns.create=15*off->1*error(ENOSPC)",
    )
    assert done.returncode == 1
    (entry,) = report(json_file)["scenarios"]
    assert (entry["count"], entry["errors"]) == (7, 1)
    assert "No space left on device" in done.stdout
    assert "leaks: none" in done.stdout


def test_a_leak_is_reported_and_status_1(layout: Layout, json_file: str) -> None:
    arguments = command(layout, "netns", "--duration=3", "--rounds=1", "--json", json_file)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "round 1" in line:
                break
        with open(f"{layout.netns_dir}/somebody-elses", "w"):
            pass
        stdout, _ = running.communicate()
    assert running.returncode == 1
    assert report(json_file)["leaks"]["netns"] == 1
    assert "LEAKS: 1 pins of network namespaces" in stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_early_it_prints_what_was_measured_and_leaves_nothing(
    layout: Layout, json_file: str, number: int, status: int
) -> None:
    arguments = command(
        layout, *("floor", "sandbox", "pod", "--duration=600", "--rounds=400", "--live=2", "--json", json_file)
    )
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "round 2" in line and "pod" in line:
                break
        running.send_signal(number)
        stdout, stderr = running.communicate()
    assert running.returncode == status, stderr
    found = report(json_file)
    assert all(each["count"] > 0 and each["errors"] == 0 for each in found["scenarios"])
    assert max(found["leaks"].values()) <= 0, stdout
    assert "leaks: none" in stdout


def test_peers_run_in_between_and_are_ratios(layout: Layout, json_file: str) -> None:
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2")
    done = bench(
        layout,
        *("netns", "pod", "--vs=ip", "--vs=unshare", "--vs=runc:/no/such/runc", "--network=none"),
        *("--count=4", "--rounds=2", "--warm-up=1", "--json", json_file),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = report(json_file)
    assert [(each["name"], each["impl"]) for each in found["scenarios"]] == [
        ("netns", "podlite"),
        ("netns", "ip"),
        ("netns", "unshare"),
        ("pod", "podlite"),
        ("pod", "unshare"),
    ]
    assert {(each["of"], each["to"]) for each in found["ratios"]} == {("ip", "podlite"), ("unshare", "podlite")}
    assert all(each["p50"] > 0 for each in found["ratios"])
    assert "peer runc:/no/such/runc is skipped: /no/such/runc is not installed" in done.stdout
    assert max(found["leaks"].values()) <= 0


def test_a_cri_endpoint_is_a_peer(layout: Layout, json_file: str, short_tmp: str) -> None:
    """podlite's own server, which speaks the same CRI as containerd's."""
    other = [
        f"--run-dir={short_tmp}/cri/run",
        f"--state-dir={short_tmp}/cri/state",
        f"--log-dir={short_tmp}/cri/log",
        f"--netns-dir={layout.netns_dir}",
        f"--cgroup-root={layout.cgroup_root}",
    ]
    socket = f"{short_tmp}/peer.sock"
    server = [sys.executable, "-m", "podlite", "cri", f"--listen=unix://{socket}", "--network=none", *other]
    with subprocess.Popen(server, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            assert "served" in running.stderr.readline()
            done = bench(
                layout,
                *("sandbox", "pod", "exec", "restart", f"--vs=cri:unix://{socket}"),
                *("--peer-image=podlite.local/host:1", "--network=none"),
                *("--count=4", "--rounds=2", "--warm-up=1", "--json", json_file),
            )
        finally:
            running.terminate()
            running.communicate()
    assert done.returncode == 0, done.stdout + done.stderr
    found = report(json_file)
    assert max(found["leaks"].values()) <= 0
    counts = {(each["name"], each["impl"]): (each["count"], each["errors"]) for each in found["scenarios"]}
    for name in ("sandbox", "sandbox (hostNetwork)", "pod", "pod (hostNetwork)", "exec", "restart"):
        assert counts[name, "peer"] == (4, 0)
    assert "hostNetwork on both" in " ".join(each["name"] for each in found["ratios"])


def test_the_warm_pool(layout: Layout, json_file: str) -> None:
    done = bench(
        layout, *("sandbox", "pod", "--warm-pool=4", "--network=none", "--count=6", "--rounds=2", "--json", json_file)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = report(json_file)
    assert max(found["leaks"].values()) <= 0
    for each in found["scenarios"]:
        assert 0 < each["pool"]["hit_rate"] <= 1
        assert each["pool"]["refill_ms"] > 0
    assert "sandbox.claim" in found["scenarios"][0]["steps_ms"]
    assert "hit rate" in done.stdout


def test_a_peer_that_fails_is_reported_and_never_counted(layout: Layout, json_file: str, short_tmp: str) -> None:
    broken = f"{short_tmp}/ip"
    with open(broken, "w") as file:
        file.write("#!/bin/sh\necho 'this ip is broken' >&2\nexit 7\n")
    os.chmod(broken, 0o755)
    done = bench(layout, "netns", f"--vs=ip:{broken}", "--count=4", "--rounds=2", "--json", json_file)
    assert done.returncode == 0, done.stdout + done.stderr
    found = report(json_file)
    assert [each["impl"] for each in found["scenarios"]] == ["podlite"]
    assert found["ratios"] == []
    assert "this ip is broken" in done.stdout


def test_files_and_plots(layout: Layout, short_tmp: str) -> None:
    done = bench(
        layout,
        *(
            "netns",
            "--count=4",
            "--rounds=2",
            "--sweep=1,2",
            f"--csv={short_tmp}/a.csv",
            f"--samples={short_tmp}/b.csv",
        ),
        *(f"--plot={short_tmp}/c.png", f"--plot={short_tmp}/d.html"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with open(f"{short_tmp}/a.csv") as file:
        assert len(file.readlines()) == 3
    with open(f"{short_tmp}/b.csv") as file:
        assert len(file.readlines()) == 1 + 2 * 4
    with open(f"{short_tmp}/c.png", "rb") as picture:
        assert picture.read(8) == b"\x89PNG\r\n\x1a\n"  # the PNG specification's signature
    with open(f"{short_tmp}/d.html") as file:
        assert "data:image/svg+xml;base64," in file.read()


@pytest.mark.parametrize(
    "arguments",
    [[], ["pods"], ["pod", "--count=0"], ["netns", "--plot=a.gif"], ["netns", "--json=/no/such/directory/a.json"]],
)
def test_a_command_line_that_makes_no_sense_is_status_2(layout: Layout, arguments: list[str]) -> None:
    done = bench(layout, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("podlite: ")
