from __future__ import annotations

import json
from typing import Any

import pytest
from api_cases import document, pod
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podlite.api import registry
from podlite.api.base import Object
from podlite.api.config import ConfigMap, Secret
from podlite.api.decode import from_builtins, type_named
from podlite.api.defaults import set_pod_defaults
from podlite.api.encode import dump_json, dump_yaml, list_of, to_builtins, to_json, to_yaml
from podlite.api.events import Event
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod
from podlite.api.references import ObjectReference
from podlite.api.responses import Status
from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    PodCondition,
    PodIP,
    PodStatus,
)
from podlite.api.yaml_source import load, plain


def test_a_pod_as_kubectl_prints_it() -> None:
    made = pod({"restartPolicy": "Never"}, {"labels": {"b": "1", "a": "true"}})
    set_pod_defaults(made)
    assert (
        to_yaml(made)
        == """\
apiVersion: v1
kind: Pod
metadata:
  labels:
    a: "true"
    b: "1"
  name: web
  namespace: default
spec:
  containers:
  - image: nginx
    imagePullPolicy: Always
    name: a
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  restartPolicy: Never
  schedulerName: default-scheduler
  securityContext: {}
  terminationGracePeriodSeconds: 30
status: {}
"""
    )


def test_a_status_in_the_v1_shape() -> None:
    # the fields and nulls of `kubectl get pod -o json` on a cluster; types.go says which lack omitempty
    status = PodStatus(
        phase="Failed",
        qos_class="BestEffort",
        host_ip="192.168.0.1",
        host_ips=[HostIP(ip="192.168.0.1")],
        pod_ip="10.85.0.2",
        pod_ips=[PodIP(ip="10.85.0.2")],
        start_time="2026-11-23T20:00:00Z",
        conditions=[
            PodCondition(type="Ready", status="False", last_transition_time="2026-11-23T20:00:01Z", reason="PodFailed")
        ],
        container_statuses=[
            ContainerStatus(
                name="a",
                image="docker.io/library/nginx:latest",
                started=False,
                state=ContainerState(
                    terminated=ContainerStateTerminated(
                        exit_code=0, started_at="2026-11-23T20:00:00Z", finished_at="2026-11-23T20:00:01Z"
                    )
                ),
            ),
            ContainerStatus(
                name="b",
                state=ContainerState(waiting=ContainerStateWaiting()),
                last_state=ContainerState(running=ContainerStateRunning()),
            ),
        ],
    )
    assert to_builtins(status) == {
        "conditions": [
            {
                "lastProbeTime": None,
                "lastTransitionTime": "2026-11-23T20:00:01Z",
                "reason": "PodFailed",
                "status": "False",
                "type": "Ready",
            }
        ],
        "containerStatuses": [
            {
                "image": "docker.io/library/nginx:latest",
                "imageID": "",
                "lastState": {},
                "name": "a",
                "ready": False,
                "restartCount": 0,
                "started": False,
                "state": {
                    "terminated": {
                        "exitCode": 0,
                        "finishedAt": "2026-11-23T20:00:01Z",
                        "startedAt": "2026-11-23T20:00:00Z",
                    }
                },
            },
            {
                "image": "",
                "imageID": "",
                "lastState": {"running": {"startedAt": None}},
                "name": "b",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": {}},
            },
        ],
        "hostIP": "192.168.0.1",
        "hostIPs": [{"ip": "192.168.0.1"}],
        "phase": "Failed",
        "podIP": "10.85.0.2",
        "podIPs": [{"ip": "10.85.0.2"}],
        "qosClass": "BestEffort",
        "startTime": "2026-11-23T20:00:00Z",
    }


def test_keys_are_in_order() -> None:
    assert list(to_builtins(pod())) == ["apiVersion", "kind", "metadata", "spec", "status"]
    text = to_json(pod(), indent=0)
    assert text.startswith('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":')
    assert to_json(pod()).startswith('{\n    "apiVersion": "v1",\n')
    assert json.loads(to_json(pod())) == json.loads(text) == to_builtins(pod())


def test_events_config_and_errors() -> None:
    event = Event(metadata=ObjectMeta(name="e"), involved_object=ObjectReference(kind="Pod"), reason="Started", count=1)
    assert to_builtins(event) == {
        "apiVersion": "v1",
        "count": 1,
        "eventTime": None,
        "firstTimestamp": None,
        "involvedObject": {"kind": "Pod"},
        "kind": "Event",
        "lastTimestamp": None,
        "metadata": {"name": "e"},
        "reason": "Started",
        "reportingComponent": "",
        "reportingInstance": "",
        "source": {},
    }
    assert to_builtins(Secret(data={"a": b"\x00\xff"}, type="Opaque"))["data"] == {"a": "AP8="}
    assert to_builtins(ConfigMap(data={"a": "x"}, immutable=False)) == {
        "apiVersion": "v1",
        "data": {"a": "x"},
        "immutable": False,
        "kind": "ConfigMap",
        "metadata": {},
    }
    assert to_builtins(Status(status="Failure", code=404, reason="NotFound")) == {
        "apiVersion": "v1",
        "code": 404,
        "kind": "Status",
        "metadata": {},
        "reason": "NotFound",
        "status": "Failure",
    }


def test_several_objects_are_a_list() -> None:
    listed = list_of([pod(), pod()])
    assert (listed["kind"], len(listed["items"])) == ("List", 2)
    assert document(dump_yaml(listed)) == json.loads(dump_json(listed)) == listed


# sigs.k8s.io/yaml v1.6, JSONToYAML of {"a": text}
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x", "a: x"),
        ("", 'a: ""'),
        ("true", 'a: "true"'),
        ("Yes", 'a: "Yes"'),
        ("null", 'a: "null"'),
        ("~", 'a: "~"'),
        ("5", 'a: "5"'),
        ("0644", 'a: "0644"'),
        ("1e3", 'a: "1e3"'),
        ("1_000", 'a: "1_000"'),
        (".inf", 'a: ".inf"'),
        ("1:30", 'a: "1:30"'),
        ("2001-12-14", 'a: "2001-12-14"'),
        ("10.85.0.1", "a: 10.85.0.1"),
        ("500m", "a: 500m"),
        ("/bin/sh", "a: /bin/sh"),
        ("-c", "a: -c"),
        ("- x", "a: '- x'"),
        ("-", "a: '-'"),
        ("a: b", "a: 'a: b'"),
        ("a:b", "a: a:b"),
        ("a #b", "a: 'a #b'"),
        ("#a", "a: '#a'"),
        ("*a", "a: '*a'"),
        ("it's", "a: it's"),
        ("'a'", "a: '''a'''"),
        ('"a"', "a: '\"a\"'"),
        (" a", "a: ' a'"),
        ("a ", "a: 'a '"),
        ("{a}", "a: '{a}'"),
        ("%a", "a: '%a'"),
        ("@a", "a: '@a'"),
        ("é😀", "a: é😀"),
        ("a\tb", 'a: "a\\tb"'),
        ("\x07", 'a: "\\a"'),
        ("a\nb", "a: |-\n  a\n  b"),
        ("a\nb\n", "a: |\n  a\n  b"),
        ("a\nb\n\n", "a: |+\n  a\n  b\n"),
        (" a\nb", "a: |2-\n   a\n  b"),
    ],
)
def test_strings_in_yaml(text: str, line: str) -> None:
    assert dump_yaml({"a": text}) == line + "\n"


def test_other_values_in_yaml() -> None:
    value = {
        "a": [],
        "b": {},
        "c": None,
        "d": [[1, 2], [{"x": 1, "y": [True]}], []],
        "1": 1.5,
        "e\nf": 0,
        "k" * 600: {"x": 1},
    }
    text = dump_yaml(value)
    assert document(text) == value
    assert text.splitlines()[:2] == ['"1": 1.5', "a: []"]
    scalars: list[Any] = [None, 5, "x", [], {}]
    for alone in scalars:
        assert plain(load(f"a: {dump_yaml(alone)}", "f")[0][0]) == {"a": alone}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=15,
)


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), values, min_size=1, max_size=3))
def test_yaml_reads_as_what_was_written(value: dict[str, Any]) -> None:
    roots, problems = load(dump_yaml(value), "f.yaml")
    assert problems == []
    assert plain(roots[0]) == value


@given(st.text(st.sampled_from("ab01 :#-?[]{}'\"\n\t,&*!|>%@`~.<=y\\\r\x07\u2028"), max_size=12))
def test_every_string_survives(text: str) -> None:
    value = {"x": text, f"k{text}": "b", "c": [text, [text]], "d": {text: None}}
    roots, problems = load(dump_yaml(value), "f.yaml")
    assert problems == []
    assert plain(roots[0]) == value


# --- pods of any shape ----------------------------------------------------------------------

_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text("abc-./ ", max_size=6),
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "Int32": st.integers(-(2**31), 2**31 - 1),
    "IntOrString": st.one_of(st.integers(0, 65535), st.sampled_from(["http", "25%"])),
    "Quantity": st.sampled_from(["0", "1", "500m", "64Mi", "1e3", "1.5"]),
    "Time": st.just("2026-11-23T20:00:00Z"),
    "MicroTime": st.just("2026-11-23T20:00:00.000001Z"),
    "bytes": st.binary(max_size=4),
    "Any": st.dictionaries(st.text("ab", max_size=2), st.integers(0, 5), max_size=2),
}


def of(annotation: str, module: str, depth: int) -> st.SearchStrategy[Any]:
    annotation = annotation.removesuffix(" | None")
    if annotation in _LEAVES:
        return _LEAVES[annotation]
    if annotation.startswith("list["):
        return st.lists(of(annotation[5:-1], module, depth), min_size=1, max_size=2)
    if annotation.startswith("dict[str, "):
        return st.dictionaries(st.text("ab/", max_size=3), of(annotation[10:-1], module, depth), min_size=1, max_size=2)
    return objects(type_named(annotation, module), depth + 1)


@st.composite
def objects(draw: st.DrawFn, kind: type[Object], depth: int = 0) -> Object:
    """An object with a few of its fields set, whatever they mean together."""
    fields = {name: base for base in reversed(kind.__mro__) for name in getattr(base, "__annotations__", {})}
    names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4 if depth < 4 else 1, unique=True))
    annotations = {name: fields[name].__annotations__[name] for name in names if name not in ("kind", "api_version")}
    return kind(**{name: draw(of(annotations[name], fields[name].__module__, depth)) for name in annotations})


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(objects(Pod))
def test_any_pod_survives_json_and_yaml(made: Pod) -> None:
    assert from_builtins(to_builtins(made), Pod) == made
    assert from_builtins(json.loads(to_json(made)), Pod) == made
    assert document(to_yaml(made)) == to_builtins(made)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from(registry.names()).flatmap(lambda name: objects(registry.find(name))))
def test_any_object_survives(made: Object) -> None:
    assert from_builtins(to_builtins(made), type(made)) == made
