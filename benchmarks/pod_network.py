"""What a pod's network costs: `python benchmarks/pod_network.py [--pods 300] [--threads 1,4] [--alive N]`.

Needs root. Everything happens in a network namespace of its own that stands for the host, with a default route to
a second one, so that the real host's rules, routes and sysctls stay as they are. Prints medians and 90th
percentiles in milliseconds for: the namespace alone, its network, the teardown call, and how long the veth is
still to be seen afterwards, with the pair left to the namespace's end and with it deleted explicitly.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.linux.syscalls import CLONE_NEWNET, unshare
from podlite.runtime.network.builtin import BuiltinNetwork
from podlite.runtime.network.interface import NetworkRecord, PodNetworkRequest

Sample = dict[str, float]


class Bench:
    def __init__(self, directory: str, cidrs: list[str]) -> None:
        self.directory = directory
        self.network = BuiltinNetwork(directory, cidrs)
        self.own = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        os.makedirs(f"{directory}/netns")

    def create(self) -> tuple[str, NetworkRecord, Sample]:
        sandbox_id = os.urandom(32).hex()
        path = f"{self.directory}/netns/{sandbox_id}"
        request = PodNetworkRequest(sandbox_id=sandbox_id, netns_path=path)
        begin = time.perf_counter()
        record = self.network.plan(request)
        planned = time.perf_counter()
        inside = netns.create(path, self.own, NetlinkSocket)
        created = time.perf_counter()
        self.network.setup_pod_network(request, record, inside)
        inside.close()
        end = time.perf_counter()
        sample = {
            "plan": planned - begin,
            "netns": created - planned,
            "network": end - created,
            "create": end - begin,
        }
        return path, record, sample

    def remove(self, path: str, record: NetworkRecord, *, explicit: bool) -> Sample:
        begin = time.perf_counter()
        self.network.teardown_pod_network(record, with_link=explicit)
        torn = time.perf_counter()
        netns.remove(path)
        return {"teardown": torn - begin, "unpin": time.perf_counter() - torn}

    def wait_until_gone(self, name: str) -> float:
        begin = time.perf_counter()
        while True:
            try:
                socket.if_nametoindex(name)
            except OSError:
                return time.perf_counter() - begin
            time.sleep(0.0002)


def run_threads(bench: Bench, pods: int, threads: int, *, explicit: bool, watch: bool = False) -> list[Sample]:
    samples: queue.SimpleQueue[Sample] = queue.SimpleQueue()

    def work() -> None:
        for _ in range(pods // threads):
            path, record, sample = bench.create()
            sample |= bench.remove(path, record, explicit=explicit)
            if watch:
                sample["gone"] = bench.wait_until_gone(record["host_interface"])
            samples.put(sample)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [samples.get() for _ in range(samples.qsize())]


def show(title: str, samples: list[Sample], seconds: float, cpu: float) -> None:
    print(f"{title}: {len(samples) / seconds:.0f} pods/s, {cpu / len(samples) * 1e3:.2f} ms of processor per pod")
    for key in samples[0]:
        values = sorted(sample[key] * 1e3 for sample in samples)
        print(f"    {key:10} p50 {statistics.median(values):7.3f}   p90 {values[int(len(values) * 0.9)]:7.3f} ms")


def busy_seconds() -> float:
    """Processor time that the whole machine has spent, kernel threads included."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def measure(bench: Bench, title: str, pods: int, threads: int, *, explicit: bool = False, watch: bool = False) -> None:
    begin, busy = time.perf_counter(), busy_seconds()
    samples = run_threads(bench, pods, threads, explicit=explicit, watch=watch)
    while len(os.listdir("/proc/sys/net/ipv4/conf")) > bench_devices:
        time.sleep(0.005)
    show(title, samples, time.perf_counter() - begin, busy_seconds() - busy)


def make_host() -> None:
    """This process's own network namespace, with an uplink whose other end is in a third one."""
    unshare(CLONE_NEWNET)
    script = """
        ip link set lo up
        ip link add up0 type veth peer name out0
        ip address add 192.0.2.1/24 dev up0 && ip link set up0 up && ip link set out0 up
        ip route add default via 192.0.2.2
    """
    subprocess.run(["sh", "-ec", script], check=True)


def main() -> None:
    global bench_devices
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=300)
    parser.add_argument("--threads", default="1,4")
    parser.add_argument("--alive", type=int, default=0, help="pods that stay while the others come and go")
    parser.add_argument("--ipv4-only", action="store_true")
    arguments = parser.parse_args()
    make_host()
    bench_devices = len(os.listdir("/proc/sys/net/ipv4/conf"))
    directory = tempfile.mkdtemp(prefix="podlite-bench-", dir="/dev/shm")
    bench = Bench(directory, ["10.85.0.0/16"] if arguments.ipv4_only else ["10.85.0.0/16", "fd85::/64"])
    try:
        begin = time.perf_counter()
        bench.network.prepare()
        print(f"prepare, with the nftables table: {(time.perf_counter() - begin) * 1e3:.2f} ms")
        alive = [bench.create() for _ in range(arguments.alive)]
        bench_devices += arguments.alive
        for threads in (int(word) for word in arguments.threads.split(",")):
            measure(bench, f"{threads} thread(s), link left to the namespace's end", arguments.pods, threads)
        few = max(arguments.pods // 6, 10)
        measure(bench, "one by one, link left to the namespace's end", few, 1, watch=True)
        measure(bench, "one by one, link deleted explicitly", few, 1, explicit=True, watch=True)
        measure(bench, "4 threads, link deleted explicitly", few, 4, explicit=True)
        for path, record, _ in alive:
            bench.remove(path, record, explicit=False)
        begin = time.perf_counter()
        assert bench.network.release_unused()
        print(f"release of what was shared: {(time.perf_counter() - begin) * 1e3:.2f} ms")
    finally:
        bench.network.close()
        for name in os.listdir(f"{directory}/netns"):
            netns.remove(f"{directory}/netns/{name}")
        shutil.rmtree(directory)


bench_devices = 0

if __name__ == "__main__":
    main()
