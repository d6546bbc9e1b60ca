"""kubectl's JSONPath, by its documentation (https://kubernetes.io/docs/reference/kubectl/jsonpath/) and by the cases of
k8s.io/client-go/util/jsonpath/jsonpath_test.go, Kubernetes 1.36."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.cli.jsonpath import JsonPathError, Template, relaxed

STORE: dict[str, Any] = {
    "Name": "jsonpath",
    "Book": [
        {"Category": "reference", "Author": "Nigel Rees", "Price": 8.95},
        {"Category": "fiction", "Author": "Evelyn Waugh", "Price": 12.99},
        {"Category": "fiction", "Author": "Herman Melville", "Price": 8.99},
    ],
    "Bicycle": [{"Color": "red", "Price": 19.95, "IsNew": True}, {"Color": "green", "Price": 20.01, "IsNew": False}],
    "Labels": {"engieer": 10, "web/html": 15, "k8s-app": 20},
}
POINTS: list[dict[str, Any]] = [
    {"id": "i1", "x": 4, "y": -5},
    {"id": "i2", "x": -2, "y": -5, "z": 1},
    {"id": "i5", "x": 0, "y": 2, "z": 1},
    {"id": "i7", "x": None, "y": 4},
]
NODES: dict[str, Any] = {
    "kind": "List",
    "items": [
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
            "status": {
                "capacity": {"cpu": "4"},
                "ready": True,
                "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}],
            },
        },
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.2", "labels": {"kubernetes.io/hostname": "127.0.0.2"}},
            "status": {
                "capacity": {"cpu": "8"},
                "ready": False,
                "addresses": [
                    {"type": "LegacyHostIP", "address": "127.0.0.2"},
                    {"type": "another", "address": "127.0.0.3"},
                ],
            },
        },
    ],
    "users": [
        {"name": "myself", "user": {}},
        {"name": "e2e", "user": {"username": "admin", "password": "secret"}},
    ],
}


@pytest.mark.parametrize(
    ("template", "value", "text"),
    [
        ("hello jsonpath", None, "hello jsonpath"),
        ("{..}", [1, 2, 3], "[1,2,3]"),
        ("{[?(@<5)]}", [2, 6, 3, 7], "2 3"),
        ('{"{"}', None, "{"),
        ("{[1,3,4]}", [0, 1, 2, 3, 4], "1 3 4"),
        ("{[0:2]}", ["Monday", "Tuesday"], "Monday Tuesday"),
        ("hello {.Name}", STORE, "hello jsonpath"),
        ("{$.Labels.web/html}", STORE, "15"),
        ("{.Labels.k8s-app}", STORE, "20"),
        ("{.Bicycle[*].Color}", STORE, "red green"),
        ("{.Book[*].Author}", STORE, "Nigel Rees Evelyn Waugh Herman Melville"),
        ('{range .Bicycle[*]}{ "{" }{ @.* }{ "} " }{end}', STORE, "{red 19.95 true} {green 20.01 false} "),
        ("{..Price}", STORE, "8.95 12.99 8.99 19.95 20.01"),
        ("{...Price}", STORE, "8.95 12.99 8.99 19.95 20.01"),
        ("{.Book[-1:].Author}", STORE, "Herman Melville"),
        ("{.Book[::2].Author}", STORE, "Nigel Rees Herman Melville"),
        ("{.Book[-1].Author}", STORE, "Herman Melville"),
        ("{..Book[2].Author}", STORE, "Herman Melville"),
        ("{.Bicycle[?(@.IsNew==true)].Color}", STORE, "red"),
        ("{.Bicycle[?(@.Price>=20)].Color}", STORE, "green"),
        ("{.hello}", STORE, ""),
        ("before-{.hello}after", STORE, "before-after"),
        ("{[?(@.z)].id}", POINTS, "i2 i5"),
        ("{[0]['id']}", POINTS, "i1"),
        ("{[-1]['x']}", POINTS, "null"),
        ("{range .items[*]}{.metadata.name}, {end}{.kind}", NODES, "127.0.0.1, 127.0.0.2, List"),
        ('{range .items[*]}{.metadata.name}{"\\t"}{end}', NODES, "127.0.0.1\t127.0.0.2\t"),
        ("{.items[*].status.addresses[*].address}", NODES, "127.0.0.1 127.0.0.2 127.0.0.3"),
        (
            "{range .items[*]}{range .status.addresses[*]}{.address}, {end}{end}",
            NODES,
            "127.0.0.1, 127.0.0.2, 127.0.0.3, ",
        ),
        (
            "{.items[*]['metadata.name', 'status.capacity']}",
            NODES,
            '127.0.0.1 127.0.0.2 {"cpu":"4"} {"cpu":"8"}',
        ),
        (
            "{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}",
            NODES,
            '[127.0.0.1, {"cpu":"4"}] [127.0.0.2, {"cpu":"8"}] ',
        ),
        ('{.users[?(@.name=="e2e")].user.password}', NODES, "secret"),
        ("{.users[?(@.name != 'e2e')].name}", NODES, "myself"),
        ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", NODES, "127.0.0.1"),
        ('{.items[?(@.metadata.labels.kubernetes\\.io/hostname=="127.0.0.1")].kind}', NODES, "None"),
        ("{.items[?(@..ready==true)].metadata.name}", NODES, "127.0.0.1"),
        ("{range .items[*]}{.metadata.name}{end}", {"items": []}, ""),
        (
            '{range .items[*]}{.metadata.name}{":"}{range @.spec.containers[*]}{.name}{","}{end}{"+"}{end}',
            {"items": [{"metadata": {"name": "pod1"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}]},
            "pod1:a,b,+",
        ),
        ("{.}", "x", "x"),
    ],
)
def test_templates(template: str, value: Any, text: str) -> None:
    assert Template(template).render(value) == text


@pytest.mark.parametrize(
    ("template", "value", "message"),
    [
        ("{hello}", STORE, "unrecognized identifier hello"),
        ("{.Labels[0]}", STORE, "is not array or slice"),
        ("{.Book[?(@.Price<>10)]}", STORE, "unrecognized filter operator <>"),
        ("{range .Labels.*}{@}{end}{end}", STORE, "not in range, nothing to end"),
        ("{range .Labels.*}{@}", STORE, "unclosed range"),
        ("{.Book[9]}", STORE, "array index out of bounds: index 9, length 3"),
        ("{.Book[x]}", STORE, "invalid array index x"),
        ("{.Name", STORE, "unclosed action"),
        ('{"a}', STORE, "unterminated quoted string"),
        ("{.Book[0}", STORE, "unterminated array"),
        ("{.Book[?(@.Author<1)]}", STORE, "cannot be compared"),
    ],
)
def test_what_is_no_template(template: str, value: Any, message: str) -> None:
    with pytest.raises(JsonPathError, match=message.replace("{", r"\{")):
        Template(template).render(value)


def test_relaxed_paths() -> None:
    """RelaxedJSONPathExpression (k8s.io/kubectl/pkg/cmd/get/customcolumn.go)."""
    for text in ("metadata.name", ".metadata.name", "{metadata.name}", "{.metadata.name}"):
        assert relaxed(text).find({"metadata": {"name": "web"}}) == ["web"]
    with pytest.raises(JsonPathError, match="unexpected path string"):
        relaxed("{a}{b}")
