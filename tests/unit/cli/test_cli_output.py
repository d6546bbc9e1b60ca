"""What is printed: labelled lines, changes of a pod, the columns of a table, the run's exit status, the timeline."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.agent.printers.duration import human_duration
from podlite.api.pod import Pod
from podlite.api.status import ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus
from podlite.cli.exit_status import verdict
from podlite.cli.lines import Lines
from podlite.cli.pod_changes import describe
from podlite.cli.table import format_table, human_size
from podlite.cli.trace import trace_events
from podlite.steps import Span
from tests.support.pods import a_pod


def test_lines_without_labels_are_byte_for_byte(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = Lines(labels=False)
    one, two = lines.writer("one"), lines.writer("two")
    one.write("stdout", b"\xff\x00a")
    two.write("stdout", b"b")
    one.end()
    two.end()
    assert capsysbinary.readouterr().out == b"\xff\x00ab"


def test_labelled_lines_are_whole(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = Lines(labels=True)
    one, two = lines.writer("one"), lines.writer("two")
    one.write("stdout", b"begun")
    one.write("stdout", b", ended\nbegun")
    two.write("stdout", b"mine\n")
    one.write("stdout", b" again\n")
    two.write("stdout", b"last")
    one.end()
    two.end()
    assert capsysbinary.readouterr().out.decode() == (
        "one begun, ended\none begun\ntwo mine\none  again\ntwo last\n"
    ), "an interrupted line is ended once, and goes on with its label"


def test_an_interrupted_line_is_ended_once(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = Lines(labels=True)
    one, two = lines.writer("one"), lines.writer("two")
    one.write("stdout", b"no end")
    two.write("stdout", b"x\n")
    one.end()
    two.end()
    assert capsysbinary.readouterr().out == b"one no end\ntwo x\n"


def pod(phase: str, *containers: ContainerStatus, reason: str = "", message: str = "") -> Pod:
    made = a_pod(name="demo")
    status = made.status
    status.phase, status.reason, status.message = phase, reason, message
    status.container_statuses = list(containers)
    return made


def ended(name: str, code: int, when: str = "2026-11-23T20:00:00Z", **fields: Any) -> ContainerStatus:
    reason = fields.pop("reason", "Error" if code else "Completed")
    terminated = ContainerStateTerminated(exit_code=code, reason=reason, finished_at=when, **fields)
    return ContainerStatus(name=name, state=ContainerState(terminated=terminated), container_id="podlite://x")


@pytest.mark.parametrize(
    ("pods", "status", "why"),
    [
        ([pod("Succeeded", ended("main", 0))], 0, ""),
        ([pod("Failed", ended("main", 3))], 3, "container main of pod default/demo failed with exit code 3"),
        (
            [pod("Failed", ended("main", 143))],
            143,
            "container main of pod default/demo was ended by signal 15 (exit code 143)",
        ),
        (
            [pod("Failed", ended("main", 1, message="first\nthe disk is full\n"))],
            1,
            "container main of pod default/demo failed with exit code 1: the disk is full",
        ),
        (
            [pod("Failed", ended("late", 3, "2026-11-23T20:00:02Z"), ended("early", 4, "2026-11-23T20:00:01Z"))],
            4,
            "container early of pod default/demo failed with exit code 4",
        ),
        (
            [pod("Failed", ended("main", 128, reason="StartError", message='exec: "x": permission denied'))],
            126,
            'container main of pod default/demo could not be started: exec: "x": permission denied',
        ),
        (
            [pod("Failed", ended("main", 137), reason="DeadlineExceeded", message="Pod was active too long")],
            1,
            "pod default/demo is Failed: DeadlineExceeded: Pod was active too long",
        ),
        ([pod("Unknown")], 125, "pod default/demo is Unknown"),
        ([pod("Succeeded", ended("main", 0)), pod("Failed", ended("main", 9))], 9, None),
    ],
)
def test_verdicts(pods: list[Pod], status: int, why: str | None) -> None:
    found = verdict(pods)
    assert found.status == status
    assert why is None or found.why == why


def test_the_end_of_a_pod_is_told_after_its_containers() -> None:
    assert [each.text for each in describe(pod("Failed", ended("main", 3)))] == [
        "demo/main ended: Error, exit code 3",
        "default/demo is Failed",
    ]
    assert [each.text for each in describe(pod("Running", ended("main", 0)))] == [
        "default/demo is Running",
        "demo/main ended: Completed, exit code 0",
    ]


def test_what_an_instance_printed_comes_before_its_end() -> None:
    again = ended("main", 3)
    again.restart_count = 2
    [_, change] = describe(pod("Running", again))
    assert (change.container, change.after) == ("main", 2)


def test_what_went_by_unseen_is_told_all_the_same() -> None:
    """Of states that follow each other quickly, a status may have only the last."""
    short = ended("main", 0, started_at="2026-11-23T20:00:00Z")
    short.restart_count = 1
    texts = [
        "demo/main started again (restart 1)",
        "demo/main ended: Completed, exit code 0",
        "default/demo is Succeeded",
    ]
    assert [each.text for each in describe(pod("Succeeded", short))] == texts
    again = ContainerStatus(name="main", state=ContainerState(running=ContainerStateRunning()), restart_count=1)
    again.last_state = ended("main", 3).state
    changes = describe(pod("Running", again))
    texts = ["default/demo is Running", "demo/main ended: Error, exit code 3", "demo/main started again (restart 1)"]
    assert [each.text for each in changes] == texts
    assert [each.after for each in changes[1:]] == [0, 0], "after what the first instance printed"
    unable = ended("main", 128, reason="StartError", started_at="1970-01-01T00:00:00Z")
    assert [each.text for each in describe(pod("Running", unable))][1:] == [
        "demo/main ended: StartError, exit code 128"
    ]


def test_a_container_that_never_was_has_no_end() -> None:
    assert [each.text for each in describe(pod("Failed", ended("main", 137, reason="ContainerStatusUnknown")))] == [
        "default/demo is Failed"
    ]


# Each branch of HumanDuration, apimachinery's util/duration/duration.go.
DURATIONS = [
    (1, "1s"), (70, "70s"), (190, "3m10s"), (600, "10m"), (47 * 60, "47m"), (60 * 60, "60m"), (3 * 3600, "3h"),
    (48 * 3600, "2d"), (60 * 3600, "2d12h"), (365 * 86400, "365d"), (800 * 86400, "2y70d"), (1 << 31, "68y"),
    (-2, "<invalid>"), (0, "0s"),
]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1440, "1.44 kB"), (12_500_000, "12.5 MB"), (999_600_000, "1 GB")],
)
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


def test_tables() -> None:
    assert format_table(("A", "LONG"), [("xyz", "1"), ("", "22")]) == "A     LONG\nxyz   1\n      22\n"
    assert format_table(("A",), [("x",)], with_header=False) == "x\n"


def test_the_timeline() -> None:
    """A process per pod and a thread per container; times in microseconds (Trace Event Format, "ts", "dur")."""
    spans = [
        Span("manifest.load", 1_000, 3_500, {}, "controller"),
        Span("sandbox.run", 4_000, 9_000, {"pod": "default/a", "sandbox_id": "5" * 64}, "controller"),
        Span("shim.setup", 5_000, 6_000, {"pod": "default/a", "sandbox_id": "5" * 64}, "shim", "OSError: no"),
        Span("container.run", 7_000, 8_000, {"pod": "default/a", "container_id": "c" * 64}, "container"),
    ]
    made = trace_events(spans, 100)
    names = {(each["pid"], each["tid"]): each["args"]["name"] for each in made["traceEvents"] if each["ph"] == "M"}
    rows = {each["name"]: each for each in made["traceEvents"] if each["ph"] == "X"}
    assert (rows["manifest.load"]["ts"], rows["manifest.load"]["dur"]) == (1.0, 2.5)
    assert rows["shim.setup"]["args"]["error"] == "OSError: no"
    pods = {name: names[rows[name]["pid"], 0] for name in rows}
    assert pods == {
        "manifest.load": "podlite",
        "sandbox.run": "default/a",
        "shim.setup": "default/a",
        "container.run": "default/a",
    }
    tracks = {name: names[rows[name]["pid"], rows[name]["tid"]] for name in rows}
    assert tracks["shim.setup"] == "shim"
    assert tracks["container.run"] == "container cccccccccccc"
