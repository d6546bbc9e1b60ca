"""Events: counts, aggregation and limits of client-go's correlator.

Source: k8s.io/client-go/tools/record/events_cache.go, Kubernetes 1.36.
"""

from __future__ import annotations

import pytest

from podlite.kubelet import events
from podlite.kubelet.events import EventRecorder
from tests.support.clock import FakeClock
from tests.support.pods import UID, a_pod, container, ephemeral, init


def test_what_an_event_says() -> None:
    recorder = EventRecorder(FakeClock(), "node-1")
    recorder.container_event(a_pod(), container("c1"), "Normal", "Started", "Container started")
    [event] = recorder.events()
    assert (event.type, event.reason, event.message, event.count) == ("Normal", "Started", "Container started", 1)
    assert event.first_timestamp == event.last_timestamp == "2026-11-23T20:00:00Z"
    assert (event.source.component, event.source.host) == ("kubelet", "node-1")
    about = event.involved_object
    assert (about.kind, about.namespace, about.name, about.uid) == ("Pod", "default", "web", UID)
    assert about.field_path == "spec.containers{c1}"
    assert event.metadata.namespace == "default"
    assert event.metadata.name.startswith("web.")


def test_where_containers_are() -> None:
    pod = a_pod(init("i1"), ephemeral("e1"))
    recorder = EventRecorder(FakeClock(), "node-1")
    for name in ("i1", "e1"):
        recorder.container_event(pod, container(name), "Normal", "Started", name)
    recorder.pod_event(pod, "Normal", "SandboxChanged", "x")
    paths = [each.involved_object.field_path for each in recorder.events()]
    assert paths == ["spec.initContainers{i1}", "spec.ephemeralContainers{e1}", ""]


def test_the_same_again_counts_up() -> None:
    clock = FakeClock()
    recorder = EventRecorder(clock, "n")
    for _ in range(3):
        recorder.pod_event(a_pod(), "Warning", "BackOff", "again")
        clock.tick(60)
    [event] = recorder.events()
    assert event.count == 3
    assert (event.first_timestamp, event.last_timestamp) == ("2026-11-23T20:00:00Z", "2026-11-23T20:02:00Z")


def test_ids_do_not_make_events_different() -> None:
    recorder = EventRecorder(FakeClock(), "n")
    for id in ("abc", "def"):
        recorder.container_event(a_pod(), container("c1"), "Warning", "Failed", f"cannot start {id}", id)
    [event] = recorder.events()
    assert (event.message, event.count) == ("cannot start c1", 2)


def test_similar_events_are_combined() -> None:
    recorder = EventRecorder(FakeClock(), "n")
    for number in range(14):
        recorder.pod_event(a_pod(), "Warning", "Failed", f"problem {number}")
    found = recorder.events()
    assert len(found) == 10
    assert found[-1].message == "(combined from similar events): problem 13"
    assert found[-1].count == 5


def test_similar_events_long_ago_do_not_count() -> None:
    clock = FakeClock()
    recorder = EventRecorder(clock, "n")
    for number in range(9):
        recorder.pod_event(a_pod(), "Warning", "Failed", f"problem {number}")
    clock.tick(601)
    recorder.pod_event(a_pod(), "Warning", "Failed", "problem 9")
    assert not any(each.message.startswith("(combined") for each in recorder.events())


def test_a_pod_that_never_stops_is_cut_off() -> None:
    # 25 at once, then one every five minutes, for each object and type.
    clock = FakeClock()
    recorder = EventRecorder(clock, "n")
    for number in range(40):
        recorder.pod_event(a_pod(), "Normal", f"Reason{number}", "x")
    assert len(recorder.events()) == 25
    recorder.pod_event(a_pod(), "Warning", "Other", "x")
    recorder.pod_event(a_pod(uid="another"), "Normal", "Reason", "x")
    assert len(recorder.events()) == 27
    clock.tick(301)
    recorder.pod_event(a_pod(), "Normal", "Reason98", "x")
    recorder.pod_event(a_pod(), "Normal", "Reason99", "x")
    assert [each.reason for each in recorder.events()][-1] == "Reason98"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENTS", 10)
    recorder = EventRecorder(FakeClock(), "n")
    for number in range(30):
        recorder.pod_event(a_pod(uid=f"u{number}"), "Normal", "Started", "x")
    assert [each.involved_object.uid for each in recorder.events()] == [f"u{number}" for number in range(20, 30)]


def test_events_of_one_pod() -> None:
    recorder = EventRecorder(FakeClock(), "n")
    recorder.pod_event(a_pod(uid="a"), "Normal", "Started", "x")
    recorder.pod_event(a_pod(uid="b"), "Normal", "Started", "x")
    assert [each.involved_object.uid for each in recorder.events("b")] == ["b"]
    recorder.remove("b")
    assert recorder.events("b") == []
    assert len(recorder.events()) == 1


def test_events_of_the_machine() -> None:
    recorder = EventRecorder(FakeClock(), "node-1")
    recorder.node_event("Warning", "FreeDiskSpaceFailed", "full")
    [event] = recorder.events()
    assert (event.involved_object.kind, event.involved_object.name) == ("Node", "node-1")


@pytest.mark.anyio
async def test_watching_events() -> None:
    recorder = EventRecorder(FakeClock(), "n")
    with recorder.watch() as changes:
        for reason in ("Pulled", "Created", "Pulled"):
            recorder.pod_event(a_pod(), "Normal", reason, "x")
        assert [(each.reason, each.count) for each in [await anext(changes), await anext(changes)]] == [
            ("Pulled", 2),
            ("Created", 1),
        ]
        recorder.close()
        assert [each async for each in changes] == []
