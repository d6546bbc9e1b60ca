"""Measures everything in RESULTS.md anew, and writes it: `python benchmarks/reproduce.py [--quick] [--only NAME]`.

Between two series the machine rests for --rest seconds: it is slower for a while after hard work (docs/bench.md).
Needs root, the extra `bench`, and, for the peers, whichever of their packages are there (Debian: iproute2 util-linux
containernetworking-plugins runc crun bubblewrap podman containerd): a peer that is missing is named and left out. Takes
about forty minutes, on a machine that should do nothing else meanwhile. Each series is one `podlite bench`, so that
what is compared is interleaved; its JSON and its plot are kept in `results/`, and the report is made of those.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from containerd import IMAGE, Missing, private_containerd
from published import report

from podlite.bench.files import read_json
from podlite.bench.results import ReportFile
from podlite.errors import PodliteError

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = f"{HERE}/results"


class Series(NamedTuple):
    """One `podlite bench`. `count` is for each case, `quick` that of --quick; with --duration neither matters."""

    name: str
    title: str
    arguments: str
    count: int
    quick: int
    rounds: int = 8


SERIES = (
    Series("ladder", "The ladder", "floor netns sandbox pod exec restart", 400, 40),
    Series("sweep", "Throughput against concurrency", "floor netns sandbox pod --sweep 1,2,4,8", 400, 60),
    # Long enough for the kernel's cleanup to run all the while beside what makes more for it.
    Series("sustained", "Namespaces without a pause", "floor netns --concurrency 4 --duration 16", 1, 1),
    # A round of the sweep has 50 pods, half a second: its begin and end, with fewer at a time, are a part of that.
    Series("pods", "Pods without a pause", "pod --sweep 4,8 --duration 16", 1, 1),
    Series("live-sandbox", "A sandbox among others", "sandbox --live 10,100,1000", 320, 40),
    Series("live-pod", "A pod among others", "pod --live 10,100,1000 --rest 45", 160, 20, 4),
    Series("pool", "Open loop, with a warm pool", "sandbox --rate 100 --warm-pool 30", 2000, 200),
    Series("open", "Open loop, without", "sandbox --rate 100", 1000, 200),
    Series(
        "peers",
        "Beside other programs",
        "netns sandbox pod --vs ip --vs unshare --vs cni --vs runc --vs crun --vs bwrap --vs podman",
        80,
        16,
        4,
    ),
    Series("containerd", "Beside containerd", "sandbox pod exec restart", 80, 16, 4),
)


def main() -> int:
    """Measures, and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the operations: to see whether it works")
    parser.add_argument(
        "--only", action="append", choices=[each.name for each in SERIES], help="these series, no others"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="only write the report, of the results that are there"
    )
    parser.add_argument("--rest", type=float, default=120.0, metavar="S", help="before each series (120 s)")
    arguments = parser.parse_args()
    os.makedirs(RESULTS, exist_ok=True)
    if not arguments.report_only:
        for series in SERIES:
            if not arguments.only or series.name in arguments.only:
                time.sleep(0.0 if arguments.quick else arguments.rest)
                run(series, quick=arguments.quick)
    with open(f"{HERE}/RESULTS.md", "w", encoding="utf-8") as file:
        file.write(report([(each.name, each.title, each.arguments) for each in SERIES], read_results()))
    return 0


def run(series: Series, *, quick: bool) -> None:
    """One series; a failure is said, and the others are measured all the same."""
    print(f"== {series.title}", flush=True)
    command = [sys.executable, "-m", "podlite", "bench", *shlex.split(series.arguments)]
    command += ["--count", str(series.quick if quick else series.count), "--rounds", str(series.rounds)]
    if quick:
        command += ["--rest", "0"]
    command += ["--json", f"{RESULTS}/{series.name}.json", "--plot", f"{RESULTS}/{series.name}.png"]
    with ExitStack() as stack:
        if series.name == "containerd":
            directory = tempfile.mkdtemp(prefix="podlite-bench-", dir="/run")
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            try:
                peer = stack.enter_context(private_containerd(directory))
            except (Missing, OSError, subprocess.CalledProcessError) as error:
                print(f"without containerd: {error}", flush=True)
                return
            print(f"containerd {peer.version}", flush=True)
            command += [f"--vs=cri:unix://{peer.socket}", f"--peer-image={IMAGE}", f"--cni-conf-dir={peer.conf_dir}"]
        done = subprocess.run(command, cwd=os.path.dirname(HERE), check=False)
    if done.returncode:
        print(f"{series.name}: exit status {done.returncode}", flush=True)


def read_results() -> dict[str, ReportFile]:
    found = {}
    for series in SERIES:
        try:
            found[series.name] = read_json(f"{RESULTS}/{series.name}.json")
        except PodliteError as error:
            print(f"{series.name} is not in the report: {error}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
