"""What the verbs on the API make of their arguments, and of objects; the forms are kubectl's."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.cli import api
from podlite.cli.api_tables import Form, cell_text, custom_cell, escaped, event_row, header, row
from podlite.cli.completion import SCRIPTS, complete
from podlite.cli.sort_by import sorted_by
from podlite.cli.verbs import VERBS
from podlite.cli.wait import is_met, read_condition
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
    form = Form(wide=False, namespaces=False, labels=False, label_columns=(), with_kind=False)
    assert header(kind, form) == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row(kind, POD, NOW, form) == ["web", "1/1", "Running", "0", "60m"]
    form = Form(wide=True, namespaces=True, labels=True, label_columns=("a", "x/y"), with_kind=True)
    assert header(kind, form)[0] == "NAMESPACE"
    assert header(kind, form)[-3:] == ["A", "Y", "LABELS"]
    assert row(kind, POD, NOW, form) == [
        *("default", "pod/web", "1/1", "Running", "0", "60m", "10.85.0.2", "node-1", "<none>", "<none>"),
        *("b", "<none>", "a=b"),
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
    form = Form(wide=False, namespaces=False, labels=False, label_columns=(), with_kind=False)
    assert row(kind, event, NOW, form) == ["60s", "Warning", "BackOff", "pod/web", "again"]
    assert event_row(kind, event, NOW, namespaces=True) == [
        *("default", "60s (x3 over 10m)", "Warning", "BackOff", "Pod/web", "again")
    ]
    series = {"count": 4, "lastObservedTime": "2026-11-23T19:58:00.000000Z"}
    assert event_row(kind, {**event, "series": series}, NOW, namespaces=False)[0] == "2m (x4 over 10m)"
    assert event_row(kind, {**event, "count": 1}, NOW, namespaces=False)[0] == "10m"


def test_custom_cells() -> None:
    """customcolumn.go: several values with commas, each as Go prints it with %v."""
    assert custom_cell([]) == "<none>"
    assert custom_cell(["a", 1, True, None]) == "a,1,true,<nil>"
    assert custom_cell([{"b": [1, "x"], "a": {}}]) == "map[a:map[] b:[1 x]]"


def test_the_order_of_sort_by() -> None:
    def names(path: str, *objects: dict[str, Any]) -> list[str]:
        return [each["name"] for each in sorted_by(list(objects), path)]

    assert names(".name", {"name": "web-10"}, {"name": "web-9"}, {"name": "db"}) == ["db", "web-9", "web-10"]
    assert names("{.count}", {"name": "a", "count": 10}, {"name": "b", "count": 9}, {"name": "c"}) == ["c", "b", "a"]
    with pytest.raises(UsageError, match="couldn't find any field"):
        names(".nothing", {"name": "a"})
    assert sorted_by([], ".name") == []


def test_several_kinds() -> None:
    def chosen(*words: str) -> list[tuple[str, list[str]]]:
        return [(kind.kind, names) for kind, names in api.chosen(words)]

    assert chosen("pods,cm") == [("Pod", []), ("ConfigMap", [])]
    assert chosen("po,pods", "a") == [("Pod", ["a"])]
    assert chosen("all") == [("Pod", [])]
    assert chosen("cm/a", "pod/b", "cm/c") == [("ConfigMap", ["a", "c"]), ("Pod", ["b"])]
    assert chosen("pods", "a") == [("Pod", ["a"])]
    for words in (["pods,nodes"], ["pod/a", "b"], [""], ["pod/"]):
        with pytest.raises(UsageError):
            chosen(*words)


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
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True),
        ("jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'='False'", False),
        ("jsonpath=.status.phase=Running", True),
    ],
)
def test_conditions(text: str, met: bool) -> None:
    assert is_met(read_condition(text), POD) is met


@pytest.mark.parametrize(
    "text", ["", "ready", "condition=", "jsonpath=", "jsonpath=nothing", "jsonpath={.a", "jsonpath={.a[}", "delete=yes"]
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError):
        read_condition(text)


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
