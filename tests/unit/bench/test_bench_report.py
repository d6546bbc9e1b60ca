"""The report: JSON by the schema that other people's programs read, and a table that fits."""

from __future__ import annotations

import json

from podlite.bench import audit, table
from podlite.bench.cpu import CpuTime
from podlite.bench.files import read_json, write_csv, write_json, write_samples
from podlite.bench.measure import Samples
from podlite.bench.plan import PODLITE, Case
from podlite.bench.results import CaseResult, ratios, report_file

MS = 1_000_000
SUMMARY = {"p50", "p90", "p99", "p99_9", "max", "mean"}
ENTRY = {
    "name",
    "impl",
    "mode",
    "concurrency",
    "rate",
    "live",
    "count",
    "errors",
    "create_ms",
    "teardown_ms",
    "ops_per_s",
    "cpu_ms_per_op",
    "settle_ms",
    "pool",
    "steps_ms",
}


def measured(case: Case, rounds: list[list[int]], *, errors: int = 0, keep: bool = False) -> CaseResult:
    """A result whose create latencies are given, in milliseconds, round by round."""
    result = CaseResult(case)
    for number, values in enumerate(rounds):
        samples = Samples()
        for value in values:
            samples.worked(0, value * MS, MS)
        samples.wall_ns = sum(values) * MS + len(values) * MS
        samples.errors = ["No space left on device"] * errors
        result.add(number, samples, CpuTime(0.001, 0.002, 0.003), 40.0, keep=keep)
    return result


def test_the_json_has_the_schemas_fields(tmp_path) -> None:
    pooled = measured(Case(scenario="sandbox", rate=100.0, concurrency=64, pool=10), [[1, 2]])
    pooled.hits, pooled.misses = 99, 1
    pooled.refill.record(3 * MS)
    results = [measured(Case(scenario="floor"), [[1, 2, 3]]), pooled]
    results[0].steps_ms = {"netns.create": 0.5}
    path = str(tmp_path / "report.json")
    write_json(path, report_file(results, {"kernel": "6.1", "cores": 2}, ["podlite", "bench"], {"netns": 0, "veth": 1}))
    with open(path) as file:
        found = json.load(file)
    assert {"schema", "machine", "command", "scenarios", "ratios", "leaks"} <= set(found)
    assert found["schema"] == 1
    assert found["command"] == ["podlite", "bench"]
    assert found["leaks"] == {"netns": 0, "veth": 1}
    for entry in found["scenarios"]:
        assert set(entry) == ENTRY
        assert set(entry["create_ms"]) == set(entry["teardown_ms"]) == SUMMARY
    closed, opened = found["scenarios"]
    assert (closed["mode"], closed["pool"], closed["steps_ms"]) == ("closed", None, {"netns.create": 0.5})
    assert (opened["mode"], opened["rate"]) == ("open", 100.0)
    assert opened["pool"]["hit_rate"] == 0.99
    assert abs(opened["pool"]["refill_ms"] - 3.0) < 0.01
    assert {frozenset(each) for each in found["ratios"]} <= {frozenset(("name", "of", "to", "p50"))}
    assert read_json(path).scenarios[1].pool is not None


def test_the_figures_are_per_operation() -> None:
    result = measured(Case(scenario="netns"), [[1, 1], [3, 3]])
    entry = result.entry()
    assert entry.count == 4
    # Two rounds of 6 ms of processor each, for four operations.
    assert entry.cpu_ms_per_op == 3.0
    # Each takes its create and 1 ms of teardown: 4 operations in 12 ms.
    assert abs(entry.ops_per_s - 4 / 0.012) < 0.01
    assert entry.settle_ms == 40.0


def test_ratios_are_paired_by_round() -> None:
    """A machine that was slow in one round was slow for both."""
    floor = measured(Case(scenario="floor"), [[1], [10], [1]])
    netns = measured(Case(scenario="netns"), [[2], [20], [2]])
    peer = measured(Case(scenario="netns", impl="ip"), [[10], [100], [10]])
    found = {(each.of, each.to): each.p50 for each in ratios([floor, netns, peer])}
    assert round(found["netns", "floor"], 2) == 2.0
    assert round(found["ip", PODLITE], 2) == 5.0


def test_a_peer_that_failed_is_reported_and_not_counted() -> None:
    ours = measured(Case(scenario="pod"), [[10]])
    peer = measured(Case(scenario="pod", impl="podman"), [[300]], errors=1)
    assert ratios([ours, peer]) == []
    text = table.report([ours, peer], [], {"netns": 0})
    assert "podman pod: 1 times: No space left on device" in text


def test_like_is_compared_with_like() -> None:
    variant = "hostNetwork"
    results = [
        measured(Case(scenario="sandbox"), [[3]]),
        measured(Case(scenario="sandbox", variant=variant), [[2]]),
        measured(Case(scenario="sandbox", impl="cri", variant=variant), [[20]]),
    ]
    (only,) = [each for each in ratios(results) if each.of == "cri"]
    assert only.name.endswith("hostNetwork on both")
    assert round(only.p50, 1) == 10.0


def test_the_table_fits_a_hundred_columns() -> None:
    cases = [Case(scenario="sandbox", impl=PODLITE, variant="hostNetwork", concurrency=128, live=100_000)]
    cases += [Case(scenario="sandbox", impl="cri", variant="hostNetwork", concurrency=128)]
    cases += [Case(scenario=name) for name in ("floor", "netns", "sandbox", "pod", "exec", "restart")]
    results = [measured(case, [[1, 123_456]] * 3, errors=3) for case in cases]
    for each in results:
        each.steps_ms = {"container.start": 123_456.789, "network.hostports": 0.001}
    text = table.report(results, ratios(results), {"netns": 2}, idle_settle_ms=70.0, notes=["a note"])
    assert max(map(len, text.splitlines())) <= 100
    assert "LEAKS: 2 pins of network namespaces" in text


def test_no_leak_is_said_too() -> None:
    assert table.leak_line({"netns": 0, "fd": -1}).startswith("leaks: none")
    assert audit.leaks({"netns": 0, "fd": -1, "mount": 2}) == {"mount": 2}
    assert audit.difference({"netns": 3}, {"netns": 1}) == {"netns": -2}


def test_csv_and_samples_have_a_line_for_each(tmp_path) -> None:
    result = measured(Case(scenario="netns"), [[1, 2], [3]], keep=True)
    write_csv(str(tmp_path / "cases.csv"), [result])
    write_samples(str(tmp_path / "samples.csv"), [result])
    lines = (tmp_path / "samples.csv").read_text().splitlines()
    assert lines[0].split(",")[-4:] == ["round", "begin_ns", "create_ns", "teardown_ns"]
    assert [line.split(",")[-2] for line in lines[1:]] == ["1000000", "2000000", "3000000"]
    header, line = (tmp_path / "cases.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["count"] == "3"
