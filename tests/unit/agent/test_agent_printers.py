"""Columns and cells of tables, by the cases of pkg/printers/internalversion/printers_test.go, Kubernetes 1.36."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.agent.printers.tables import COLUMNS, Cell, cells, conditions
from podlite.api.config import ConfigMap, Secret
from podlite.api.decode import from_builtins
from podlite.api.events import Event
from podlite.api.pod import Pod

NOW = 1_795_464_000 * 10**9  # 2026-11-23T20:00:00Z

COMPLETED = {"terminated": {"reason": "Completed", "exitCode": 0}}
RUNNING: dict[str, Any] = {"running": {}}


def ended(seconds: str, **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": 0, "finishedAt": f"2026-11-23T19:59:{seconds}Z", **fields}}


def status(name: str = "c", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0, **fields}


def pod(name: str, containers: int, *statuses: dict[str, Any], **fields: Any) -> Pod:
    plain = {
        "metadata": {"name": name, **fields.pop("metadata", {})},
        "spec": {
            "containers": [{"name": f"c{index}", "image": "i"} for index in range(containers)],
            **fields.pop("spec", {}),
        },
        "status": {"phase": "podPhase", "containerStatuses": list(statuses), **fields},
    }
    return from_builtins(plain, Pod)


def shown(value: Pod) -> list[Cell]:
    return cells("Pod", value, NOW)[:5]


SIDECAR = {"initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}]}
TWO_INITS = {"initContainers": [{"name": "i1", "image": "i"}, {"name": "i2", "image": "i"}]}
ONE_INIT = {"initContainers": [{"name": "i1", "image": "i"}]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            pod("test1", 2, status(ready=True, restartCount=3, state=RUNNING), status(restartCount=3)),
            ["1/2", "podPhase", "6"],
        ),
        (
            pod(
                "test2",
                2,
                status(ready=True, restartCount=3, state=RUNNING),
                status(restartCount=3, state={"waiting": {"reason": "ContainerWaitingReason"}}),
            ),
            ["1/2", "ContainerWaitingReason", "6"],
        ),
        (
            pod(
                "test3",
                2,
                status(restartCount=3, state={"waiting": {"reason": "ContainerWaitingReason"}}),
                status(restartCount=3, state={"terminated": {"reason": "ContainerTerminatedReason", "exitCode": 0}}),
            ),
            ["0/2", "ContainerWaitingReason", "6"],
        ),
        (
            pod("test5", 2, status(ready=True, restartCount=3, state=RUNNING), status(ready=True), reason="podReason"),
            ["1/2", "podReason", "3"],
        ),
        (
            pod("test6", 2, status(ready=True, state=COMPLETED), status(ready=True, state=RUNNING), phase="Running"),
            ["1/2", "NotReady", "0"],
        ),
        (
            pod(
                "test6",
                2,
                status(ready=True, state=COMPLETED),
                status(ready=True, state=RUNNING),
                phase="Running",
                conditions=[{"type": "Ready", "status": "True"}],
            ),
            ["1/2", "Running", "0"],
        ),
        (
            pod(
                "test7",
                1,
                status(),
                spec=ONE_INIT,
                phase="Pending",
                initContainerStatuses=[status("i1", restartCount=3, lastState=ended("50"), state={"waiting": {}})],
            ),
            ["0/1", "Init:0/1", "3 (10s ago)"],
        ),
        (
            pod(
                "test9",
                1,
                status(),
                spec=TWO_INITS,
                phase="Pending",
                initContainerStatuses=[
                    status("i1", restartCount=1, lastState=ended("50"), state={"terminated": {"exitCode": 0}}),
                    status("i2", restartCount=4, lastState=ended("30"), state={"running": {}}),
                ],
            ),
            ["0/1", "Init:1/2", "5 (10s ago)"],
        ),
        (
            # Only what sidecars and containers did counts once the pod is initialized.
            pod(
                "test13",
                1,
                status(ready=True, restartCount=3, lastState=ended("50"), state=RUNNING),
                spec=SIDECAR,
                phase="Running",
                initContainerStatuses=[
                    status("s", restartCount=6, lastState=ended("40"), ready=True, started=True, state=RUNNING)
                ],
                conditions=[{"type": "Initialized", "status": "True"}],
            ),
            ["2/2", "Running", "9 (10s ago)"],
        ),
        (
            pod("test15", 2, conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
            ["0/2", "SchedulingGated", "0"],
        ),
        (pod("test16", 1, status(state=COMPLETED), phase="Succeeded"), ["0/1", "Completed", "0"]),
        (
            pod(
                "test18",
                1,
                status(state=COMPLETED),
                phase="Succeeded",
                metadata={"deletionTimestamp": "2026-11-23T19:59:50Z"},
            ),
            ["0/1", "Completed", "0"],
        ),
        (
            pod(
                "test19",
                1,
                status(state=RUNNING),
                phase="Running",
                metadata={"deletionTimestamp": "2026-11-23T19:59:50Z"},
            ),
            ["0/1", "Terminating", "0"],
        ),
        (
            pod("lost", 1, reason="NodeLost", metadata={"deletionTimestamp": "2026-11-23T19:59:50Z"}),
            ["0/1", "Unknown", "0"],
        ),
        (
            pod("signal", 1, status(state={"terminated": {"exitCode": 137, "signal": 9}}), phase="Failed"),
            ["0/1", "Signal:9", "0"],
        ),
        (pod("code", 1, status(state={"terminated": {"exitCode": 5}}), phase="Failed"), ["0/1", "ExitCode:5", "0"]),
    ],
)
def test_a_pods_cells(value: Pod, expected: list[Cell]) -> None:
    assert shown(value) == [value.metadata.name, *expected, "<unknown>"]


def test_a_pods_wide_cells() -> None:
    bare = pod("bare", 1, podIP="10.0.0.9")  # the addresses count, not the first alone
    assert cells("Pod", bare, NOW)[5:] == ["<none>"] * 4
    whole = pod(
        "whole",
        1,
        podIPs=[{"ip": "1.1.1.1"}, {"ip": "fd00::1"}],
        nominatedNodeName="node2",
        conditions=[
            {"type": "condition1", "status": "False"},
            {"type": "condition2", "status": "True"},
            {"type": "condition1", "status": "True"},
        ],
        spec={
            "nodeName": "test1",
            "readinessGates": [{"conditionType": f"condition{number}"} for number in (1, 2, 3)],
        },
    )
    assert cells("Pod", whole, NOW)[5:] == ["1.1.1.1", "test1", "node2", "1/3"]


def test_a_pod_that_is_over_is_completed() -> None:
    over = {"type": "Completed", "status": "True"}
    assert conditions("Pod", pod("a", 1, phase="Succeeded")) == [
        {**over, "reason": "Succeeded", "message": "The pod has completed successfully."}
    ]
    assert conditions("Pod", pod("a", 1, phase="Failed")) == [
        {**over, "reason": "Failed", "message": "The pod failed."}
    ]
    assert conditions("Pod", pod("a", 1, phase="Running")) == []
    assert conditions("Secret", Secret()) == []


def event(**fields: Any) -> list[Cell]:
    plain = {
        "metadata": {"name": "event1"},
        "involvedObject": {"kind": "Deployment", "name": "Deployment Name", "fieldPath": "spec.containers{foo}"},
        "reason": "Event Reason",
        "message": "  Message Data  ",
        "source": {"component": "kubelet", "host": "Node1"},
        "firstTimestamp": "2026-11-23T17:00:00Z",
        "lastTimestamp": "2026-11-23T18:00:00Z",
        "count": 6,
        "type": "Warning",
        **fields,
    }
    return cells("Event", from_builtins(plain, Event), NOW)


def test_an_events_cells() -> None:
    assert event() == [
        *("120m", "Warning", "Event Reason", "deployment/Deployment Name", "spec.containers{foo}", "kubelet, Node1"),
        *("Message Data", "3h", 6, "event1"),
    ]
    # Of the new form (events.k8s.io): one time, who reports it, and a series instead of a count.
    new = {
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "count": 0,
        "eventTime": "2026-11-23T17:00:00.000000Z",
        "reportingComponent": "kubelet",
        "reportingInstance": "Node1",
    }
    assert event(**new)[0::7] == ["3h", "3h"]
    assert event(**new)[5] == "kubelet, Node1"
    assert event(**new)[8] == 1
    series = {"count": 3, "lastObservedTime": "2026-11-23T19:59:00.000000Z"}
    assert (event(**new, series=series)[0], event(**new, series=series)[8]) == ("60s", 3)
    assert event(involvedObject={"kind": "Node"})[3] == "node"


def test_the_cells_of_config_maps_and_secrets() -> None:
    meta = {"name": "x", "creationTimestamp": "2026-11-23T19:59:55Z"}
    both = from_builtins({"metadata": meta, "data": {"a": "1"}, "binaryData": {"b": "Mg==", "c": "Mw=="}}, ConfigMap)
    assert cells("ConfigMap", both, NOW) == ["x", 3, "5s"]
    secret = from_builtins({"metadata": meta, "type": "Opaque", "data": {"a": "MQ=="}}, Secret)
    assert cells("Secret", secret, NOW) == ["x", "Opaque", 1, "5s"]
    assert cells("Secret", Secret(), NOW) == ["", "", 0, "<unknown>"]


def test_the_columns() -> None:
    """printers.go, AddHandlers: (name, type, format, priority)."""

    def given(kind: str) -> list[tuple[str, str, str, int]]:
        return [(each.name, each.type, each.format, each.priority) for each in COLUMNS[kind]]

    name = ("Name", "string", "name", 0)
    assert given("Pod") == [
        name,
        *((each, "string", "", 0) for each in ("Ready", "Status", "Restarts", "Age")),
        *((each, "string", "", 1) for each in ("IP", "Node", "Nominated Node", "Readiness Gates")),
    ]
    assert given("Event") == [
        *((each, "string", "", 0) for each in ("Last Seen", "Type", "Reason", "Object")),
        *((each, "string", "", 1) for each in ("Subobject", "Source")),
        ("Message", "string", "", 0),
        *((each, "string", "", 1) for each in ("First Seen", "Count")),
        ("Name", "string", "name", 1),
    ]
    assert given("ConfigMap") == [name, *((each, "string", "", 0) for each in ("Data", "Age"))]
    assert given("Secret") == [name, *((each, "string", "", 0) for each in ("Type", "Data", "Age"))]
    assert all(each.description for columns in COLUMNS.values() for each in columns)
