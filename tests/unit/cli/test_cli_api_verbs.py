"""What the verbs on the API make of their arguments, and of objects; the forms are kubectl's."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.cli import api
from podlite.cli.api_tables import cell_text, escaped, event_row, header, row
from podlite.cli.completion import SCRIPTS, complete
from podlite.cli.verbs import VERBS
from podlite.cli.wait import is_met, look_up, read_condition
from podlite.errors import UsageError

NOW = 1_795_464_000 * 10**9  # 2026-11-23T20:00:00Z
POD = {
    "metadata": {
        "name": "web",
        "namespace": "default",
        "creationTimestamp": "2026-11-23T19:00:00Z",
        "labels": {"a": "b"},
    },
    "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "node-1"},
    "status": {
        "phase": "Running",
        "podIP": "10.85.0.2",
        "podIPs": [{"ip": "10.85.0.2"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "c", "ready": True, "restartCount": 0, "image": "i", "imageID": "", "state": {"running": {}}}
        ],
    },
}


@pytest.mark.parametrize(
    ("words", "kind", "names"),
    [
        (["pods"], "Pod", []),
        (["po", "a", "b"], "Pod", ["a", "b"]),
        (["pod/a", "po/b"], "Pod", ["a", "b"]),
        (["CM"], "ConfigMap", []),
        (["secret/x"], "Secret", ["x"]),
    ],
)
def test_kinds_and_names(words: list[str], kind: str, names: list[str]) -> None:
    found, given = api.named(words)
    assert (found.kind, given) == (kind, names)


@pytest.mark.parametrize("words", [["nodes"], [""], ["pod/a", "b"], ["pod/"], ["pod/a", "cm/b"]])
def test_what_cannot_be_got(words: list[str]) -> None:
    with pytest.raises(UsageError):
        api.named(words)


def test_the_table_of_pods() -> None:
    kind = api.find_kind("pods")
    form: dict[str, Any] = {"wide": False, "namespaces": False, "labels": False}
    assert header(kind, **form) == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row(kind, POD, NOW, **form) == ["web", "1/1", "Running", "0", "60m"]
    form = {"wide": True, "namespaces": True, "labels": True}
    assert header(kind, **form)[0] == "NAMESPACE"
    assert row(kind, POD, NOW, **form) == [
        *("default", "web", "1/1", "Running", "0", "60m", "10.85.0.2", "node-1", "<none>", "<none>", "a=b")
    ]


def test_the_table_of_events() -> None:
    """`kubectl get events` says when it happened last, `kubectl events` (event_printer.go) how often in how long."""
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "web"},
        "type": "Warning",
        "reason": "BackOff",
        "message": "again\n",
        "count": 3,
        "firstTimestamp": "2026-11-23T19:50:00Z",
        "lastTimestamp": "2026-11-23T19:59:00Z",
    }
    kind = api.find_kind("events")
    form: dict[str, Any] = {"wide": False, "namespaces": False, "labels": False}
    assert row(kind, event, NOW, **form) == ["60s", "Warning", "BackOff", "pod/web", "again"]
    assert event_row(kind, event, NOW, namespaces=True) == [
        *("default", "60s (x3 over 10m)", "Warning", "BackOff", "Pod/web", "again")
    ]
    series = {"count": 4, "lastObservedTime": "2026-11-23T19:58:00.000000Z"}
    assert event_row(kind, {**event, "series": series}, NOW, namespaces=False)[0] == "2m (x4 over 10m)"
    assert event_row(kind, {**event, "count": 1}, NOW, namespaces=False)[0] == "10m"


def test_a_cell_is_one_line_and_no_command_for_the_terminal() -> None:
    """tableprinter.go and terminal.go of k8s.io/cli-runtime/pkg/printers."""
    assert cell_text("a\nb") == "a..."
    assert cell_text("a\x1b[31mb") == "a^[[31mb"
    assert cell_text("plain") == "plain"
    assert escaped("a\rb") == "a\\rb"


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("condition=Ready", True),
        ("condition=ready=true", True),
        ("condition=Ready=False", False),
        ("condition=Other", False),
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath='{.status.phase}'=Succeeded", False),
        ("jsonpath={.status.containerStatuses[0].ready}=true", True),
        ("jsonpath={.status.podIP}", True),
        ("jsonpath={.status.nothing}", False),
        ("jsonpath={.status.containerStatuses[3].ready}=true", False),
    ],
)
def test_conditions(text: str, met: bool) -> None:
    assert is_met(read_condition(text), POD) is met


@pytest.mark.parametrize("text", ["", "ready", "condition=", "jsonpath=", "jsonpath=nothing", "delete=yes"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError):
        read_condition(text)


def test_a_path_into_nothing() -> None:
    assert look_up({"a": [1]}, ".a.b[0]") is None
    assert look_up(None, ".a") is None


# --- completion -------------------------------------------------------------------------------


def test_every_command_can_be_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlite.cli.completion.pod_names", lambda: ["web", "db"])
    monkeypatch.setattr("podlite.cli.completion.image_names", lambda: ["podlite.local/host:1"])
    assert set(complete([""])) >= set(VERBS)
    for verb in VERBS:
        assert "--help" in complete([verb, "--h"])
        complete([verb, ""])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ge"], ["get"]),
        (["nonsense", ""], []),
        (["get", "po"], ["pod/db", "pod/web", "pods"]),
        (["get", "pods", "w"], ["web"]),
        (["exec", "w"], ["web"]),
        (["run", "--network", "n"], ["none"]),
        (["run", "--network=h"], ["--network=host"]),
        (["run", "--image", ""], ["podlite.local/host:1"]),
        (["run", ""], [":files"]),
        (["completion", "b"], ["bash"]),
        (["image", "l"], ["load", "ls"]),
    ],
)
def test_what_may_come_next(words: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlite.cli.completion.pod_names", lambda: ["web", "db"])
    monkeypatch.setattr("podlite.cli.completion.image_names", lambda: ["podlite.local/host:1"])
    assert complete(words) == found


def test_there_is_a_script_for_each_shell() -> None:
    for script in SCRIPTS.values():
        assert "podlite completion -- " in script
