"""What the agent costs, and how fast it is: `python benchmarks/agent.py [drop] [adopt] [idle] [burst] [--pods N]`.

Needs root. Everything happens in directories of its own, which are removed. Prints, with the bar beside each:

    drop    a manifest is put into the directory until the container's program has been exec'd (by the shim's clock);
            a manifest is removed until nothing of its pod is left: record, logs, cgroup, network namespace
    adopt   an agent is killed with N pods running; the next one: from its exec until all are its own and shown
    idle    CPU and private memory of an agent with N pods, shims not counted
    burst   N pods are created at once: until all run, how many failed, and the latency of the API meanwhile
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from podlite.agent.client import AnswerError, Client, NoAgentError, pods_path
from podlite.runtime.shim import protocol
from podlite.runtime.shim_client import connect

IMAGE = "podlite.local/host:1"
NODE = os.uname().nodename.lower()
PODS = pods_path("default")
ENDS_AT_ONCE = "trap 'exit 0' TERM; sleep 100000 & wait"
IGNORES_TERM = "trap '' TERM; while :; do sleep 100000; done"


def manifest(name: str, script: str = "exec sleep 100000") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": IMAGE, "command": ["/bin/sh", "-c", script]}],
        },
    }


class Machine:
    """Directories, and the agent that runs there."""

    def __init__(self, directory: str, network: str) -> None:
        self.directory = directory
        self.run_dir = f"{directory}/run"
        self.manifests = f"{directory}/manifests"
        self.socket = f"{self.run_dir}/podlite.sock"
        self.cgroup_root = f"/podlite-bench-{os.getpid()}"
        self._network = network
        os.mkdir(self.manifests)
        self.client = Client(self.socket)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts an agent; seconds until it answers."""
        began = time.monotonic()
        log = open(f"{self.directory}/agent.log", "ab")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "podlite", "agent", f"--manifest-dir={self.manifests}"),
                *(
                    f"--run-dir={self.run_dir}",
                    f"--state-dir={self.directory}/state",
                    f"--log-dir={self.directory}/log",
                ),
                *(f"--netns-dir={self.directory}/netns", f"--cgroup-root={self.cgroup_root}"),
                f"--network={self._network}",
            ],
            stdout=log,
            stderr=log,
        )
        while True:
            try:
                self.client.request("GET", "/healthz")
                return time.monotonic() - began
            except NoAgentError:
                assert self.process.poll() is None, Path(f"{self.directory}/agent.log").read_text()
                time.sleep(0.002)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.client.close()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.client.close()
        self.process.wait()

    def pods(self) -> list[dict[str, Any]]:
        return list(self.client.request("GET", PODS)["items"])

    def wait_running(self, count: int, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while sum(each["status"].get("phase") == "Running" for each in self.pods()) < count:
            assert time.monotonic() < deadline, "not all pods run"
            time.sleep(0.05)

    def create(self, count: int, prefix: str = "pod") -> None:
        def one(number: int) -> None:
            with Client(self.socket) as client:
                client.request("POST", PODS, manifest(f"{prefix}-{number}"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(count)))

    def delete_all(self) -> None:
        self.client.request("DELETE", PODS, {"gracePeriodSeconds": 0})
        while self.pods():
            time.sleep(0.05)

    def close(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.start()
        for each in os.listdir(self.manifests):
            os.unlink(f"{self.manifests}/{each}")
        while any("kubernetes.io/config.source" in each["metadata"].get("annotations", {}) for each in self.pods()):
            time.sleep(0.05)
        self.delete_all()
        self.stop()


# --- drop -------------------------------------------------------------------------------------


def drop(machine: Machine, rounds: int) -> None:
    """The two latencies of a static pod."""
    machine.start()
    started, removed, ignored = [], [], []
    for _ in range(rounds):
        for script, into in ((ENDS_AT_ONCE, removed), (IGNORES_TERM, ignored)):
            path = f"{machine.manifests}/web.json"
            Path(f"{machine.directory}/new").write_text(json.dumps(manifest("web", script)))
            began = time.time_ns()
            os.rename(f"{machine.directory}/new", path)
            name = f"web-{NODE}"
            pod = wait_for(machine, name)
            uid = pod["metadata"]["uid"]
            started.append((exec_time(f"{machine.run_dir}/pods/{uid}") - began) / 1e6)
            time.sleep(0.3)
            began = time.time_ns()
            os.unlink(path)
            while left(machine, uid):
                time.sleep(0.002)
            into.append((time.time_ns() - began) / 1e6)
            time.sleep(0.2)
    show("manifest dropped → container exec'd", started, "60 ms")
    show("manifest removed → nothing left, ends at TERM", removed, "1200 ms")
    show("manifest removed → nothing left, ignores TERM (grace 1 s)", ignored, "1200 ms")
    machine.stop()


def wait_for(machine: Machine, name: str) -> dict[str, Any]:
    while True:
        try:
            pod: dict[str, Any] = machine.client.request("GET", f"{PODS}/{name}")
        except AnswerError:
            pod = {"status": {}}
        if pod["status"].get("phase") == "Running":
            return pod
        time.sleep(0.005)


def exec_time(directory: str) -> int:
    """When the pod's container was exec'd, in nanoseconds since the epoch: what its shim says."""
    with connect(directory) as sock:
        protocol.send(sock, {"m": "status", "id": 1})
        received = protocol.receive(sock)
    assert received is not None
    return int(received[0]["containers"][0]["started_at"])


def left(machine: Machine, uid: str) -> bool:
    """Whether anything of a pod is left."""
    places = [f"{machine.run_dir}/pods", f"{machine.directory}/log", f"{machine.directory}/state/pods"]
    if any(uid in name for place in places if os.path.isdir(place) for name in os.listdir(place)):
        return True
    if os.listdir(f"{machine.directory}/netns"):
        return True
    return any(
        os.path.isdir(f"/sys/fs/cgroup/{hierarchy}{machine.cgroup_root}/kubepods/besteffort/pod{uid}")
        for hierarchy in os.listdir("/sys/fs/cgroup")
    )


# --- adopt, idle ------------------------------------------------------------------------------


def adopt(machine: Machine, count: int, rounds: int) -> None:
    """Killed and replaced."""
    machine.start()
    machine.create(count)
    machine.wait_running(count)
    seconds = []
    for _ in range(rounds):
        before = {each["metadata"]["uid"]: each["status"]["containerStatuses"] for each in machine.pods()}
        machine.kill()
        took = machine.start()
        after = {each["metadata"]["uid"]: each["status"]["containerStatuses"] for each in machine.pods()}
        assert after == before, "the pods have changed"
        seconds.append(took * 1000)
    show(f"agent's exec → all of {count} pods adopted", seconds, "3000 ms for 200")
    machine.delete_all()
    machine.stop()


def idle(machine: Machine, count: int, seconds: float) -> None:
    """Nothing to do."""
    machine.start()
    machine.create(count)
    machine.wait_running(count)
    # What had just been made is collected; then a fresh agent, as after an upgrade, for comparison.
    for what in ("since it made them", "after adopting them"):
        time.sleep(3)
        assert machine.process is not None
        pid = machine.process.pid
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(each) for file in tasks for each in file.read_text().split()]
        own = [pid, *(each for each in children if b"spawner" in Path(f"/proc/{each}/cmdline").read_bytes())]
        before = sum(map(cpu_seconds, own))
        time.sleep(seconds)
        used = (sum(map(cpu_seconds, own)) - before) / seconds
        memory = sum(map(private_bytes, own)) / 1e6
        print(f"idle with {count} pods, {what}: {used:.2%} of a core (bar: 3 % for 200), ", end="")
        print(f"{memory:.1f} MB private memory (bar: 120 MB for 200)", flush=True)
        machine.kill()
        machine.start()
    machine.delete_all()
    machine.stop()


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


# --- burst ------------------------------------------------------------------------------------


def burst(machine: Machine, count: int) -> None:
    """All at once, and somebody who asks all the time."""
    machine.start()
    latencies: dict[str, list[float]] = {"create": [], "get": [], "list": []}
    over = threading.Event()

    def timed(kind: str, client: Client, method: str, path: str, body: Any = None) -> None:
        began = time.monotonic()
        try:
            if method == "GET":
                client.read(path)
            else:
                client.request(method, path, body)
        except AnswerError as error:
            assert error.reason == "NotFound", error
        latencies[kind].append((time.monotonic() - began) * 1000)

    def ask(kind: str, path: str) -> None:
        with Client(machine.socket) as client:
            while not over.is_set():
                timed(kind, client, "GET", path)
                time.sleep(0.05)

    askers = [
        threading.Thread(target=ask, args=("get", f"{PODS}/burst-0")),
        threading.Thread(target=ask, args=("list", f"{PODS}?limit=500".partition("?")[0])),
    ]

    def create(numbers: list[int]) -> None:
        with Client(machine.socket) as client:
            for number in numbers:
                timed("create", client, "POST", PODS, manifest(f"burst-{number}"))

    began = time.monotonic()
    for each in askers:
        each.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, [list(range(first, count, 8)) for first in range(8)]))
    created = time.monotonic() - began
    machine.wait_running(count)
    took = time.monotonic() - began
    over.set()
    for each in askers:
        each.join()
    pods = machine.pods()
    failed = sum(each["status"]["phase"] == "Failed" for each in pods)
    restarts = sum(status["restartCount"] for each in pods for status in each["status"]["containerStatuses"])
    print(f"{count} pods at once: accepted after {created:.1f} s, all running after {took:.1f} s (bar: 30 s for 500), ")
    print(f"  {failed} failed, {restarts} restarts")
    for kind, values in latencies.items():
        show(f"  API, {kind}", values, "p99 250 ms")
    began = time.monotonic()
    machine.delete_all()
    print(f"  all gone after {time.monotonic() - began:.1f} s")
    machine.stop()


def show(what: str, values: list[float], bar: str) -> None:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    middle = statistics.median(ordered)
    print(
        f"{what}: p50 {middle:.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms, n {len(values)} (bar: {bar})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["drop", "adopt", "idle", "burst", []], help="which (all)")
    parser.add_argument("--pods", type=int, help="how many (200; burst: 500)")
    parser.add_argument("--rounds", type=int, default=10, help="how often (10)")
    parser.add_argument("--seconds", type=float, default=20, help="of doing nothing (20)")
    parser.add_argument("--network", default="builtin", choices=("builtin", "none", "host"), help="the pods' (builtin)")
    arguments = parser.parse_args()
    what = arguments.what or ["drop", "adopt", "idle", "burst"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    del soft
    for each in what:
        directory = tempfile.mkdtemp(prefix="podlite-bench-")
        machine = Machine(directory, arguments.network)
        try:
            if each == "drop":
                drop(machine, arguments.rounds)
            elif each == "adopt":
                adopt(machine, arguments.pods or 200, max(arguments.rounds // 3, 1))
            elif each == "idle":
                idle(machine, arguments.pods or 200, arguments.seconds)
            else:
                burst(machine, arguments.pods or 500)
        except BaseException:
            print(Path(f"{directory}/agent.log").read_text()[-5000:], file=sys.stderr)
            raise
        finally:
            machine.close()
            subprocess.run(["umount", "-q", f"{directory}/netns"], check=False)
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
