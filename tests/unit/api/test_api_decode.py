from __future__ import annotations

from typing import Any

import pytest
from api_cases import pod_dict

from podlite.api.config import ConfigMap, Secret
from podlite.api.decode import Decoder, from_builtins
from podlite.api.encode import dump_yaml
from podlite.api.events import Event
from podlite.api.pod import Pod
from podlite.api.problems import DUPLICATE, INVALID, TYPE_INVALID
from podlite.api.workloads import Deployment
from podlite.api.yaml_source import load


def decode(text: str, kind: Any = Pod, validate: str = "strict") -> tuple[Any, Decoder]:
    (root,), problems = load(text, "f.yaml")
    assert problems == []
    decoder = Decoder("f.yaml", validate=validate)
    return decoder.read(root, kind), decoder


def complaints(text: str, kind: Any = Pod, validate: str = "strict") -> list[str]:
    return [str(problem) for problem in decode(text, kind, validate)[1].problems]


def in_spec(fields: str) -> str:
    return f"spec: {{{fields}}}"


def in_container(fields: str) -> str:
    return in_spec(f"containers: [{{{fields}}}]")


def test_a_pod() -> None:
    pod, decoder = decode(
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: web, labels: {a: b}, creationTimestamp: 2026-01-02T03:04:05+01:00}
        spec:
          hostPID: true
          terminationGracePeriodSeconds: 0
          containers:
          - name: a
            image: nginx
            ports: [{containerPort: 80, hostIP: 10.0.0.1}]
            resources: {limits: {cpu: 0.5, memory: 64Mi}}
            livenessProbe: {httpGet: {port: http, path: /x}}
            readinessProbe: {tcpSocket: {port: 80}}
          volumes: [{name: v, emptyDir: {}}, {name: w, downwardAPI: {items: [{path: a}]}}]
        """
    )
    assert decoder.problems == []
    assert pod.metadata.name == "web"
    assert pod.metadata.creation_timestamp == "2026-01-02T02:04:05Z"
    assert pod.spec.host_pid is True
    assert pod.spec.termination_grace_period_seconds == 0
    container = pod.spec.containers[0]
    assert (container.ports[0].container_port, container.ports[0].host_ip) == (80, "10.0.0.1")
    assert container.resources.limits == {"cpu": "0.5", "memory": "64Mi"}
    assert container.liveness_probe.http_get.port == "http"
    assert container.readiness_probe.tcp_socket.port == 80
    assert pod.spec.volumes[0].empty_dir is not None
    assert pod.spec.volumes[0].host_path is None
    assert pod.spec.volumes[1].downward_api.items[0].path == "a"


def test_every_problem_is_found() -> None:
    text = """
metadata: {name: 5, labels: {a: 1}}
spec:
  conatiners: []
  containers:
  - name: a
    imgae: x
    name: b
    ports: [{containerPort: "80"}, 5]
    env: {a: b}
    resources: {limits: {cpu: 1x}}
"""
    assert complaints(text) == [
        'f.yaml:2:18: metadata.name: Invalid value: 5: must be a string; in quotes it is one: "5"',
        'f.yaml:2:33: metadata.labels[a]: Invalid value: 1: must be a string; in quotes it is one: "1"',
        'f.yaml:4:3: spec.conatiners: unknown field, did you mean "containers"?',
        'f.yaml:7:5: spec.containers[0].imgae: unknown field, did you mean "image"?',
        'f.yaml:9:29: spec.containers[0].ports[0].containerPort: Invalid value: "80": must be an integer; '
        "without quotes it is one",
        "f.yaml:9:36: spec.containers[0].ports[1]: Invalid value: 5: must be an object",
        "f.yaml:10:10: spec.containers[0].env: Invalid value: an object: must be a list",
        'f.yaml:11:31: spec.containers[0].resources.limits[cpu]: Invalid value: "1x": quantities must match '
        "the regular "
        "expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        "f.yaml:8:5: spec.containers[0].name: duplicate field, first given in line 6",
    ]


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("imgae", "image"),
        ("Image", "image"),
        ("images", "image"),
        ("volumeMount", "volumeMounts"),
        ("working_dir", "workingDir"),
        ("imagePullpolicy", "imagePullPolicy"),
        ("enviroment", ""),
        ("replicas", ""),
    ],
)
def test_the_nearest_field_is_named_if_it_is_near(field: str, meant: str) -> None:
    hint = f', did you mean "{meant}"?' if meant else ""
    (sentence,) = complaints(in_container(f"{field}: x"))
    assert sentence.endswith(f"spec.containers[0].{field}: unknown field{hint}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            in_container("tty: 'true'"),
            'tty: Invalid value: "true": must be a boolean, true or false; without quotes it is one',
        ),
        (in_container("tty: 1"), "tty: Invalid value: 1: must be a boolean, true or false"),
        (in_container("args: x"), 'args: Invalid value: "x": must be a list'),
        (in_container("args: [yes]"), 'args[0]: Invalid value: true: must be a string; in quotes it is one: "true"'),
        (in_container("args: [[a]]"), "args[0]: Invalid value: a list: must be a string"),
        (in_container("args: [null]"), "args[0]: Invalid value: null: an element of a list must not be null"),
        (in_container("resources: [a]"), "resources: Invalid value: a list: must be an object"),
        (
            in_container("ports: [{containerPort: 80.5}]"),
            "ports[0].containerPort: Invalid value: 80.5: must be an integer",
        ),
        (
            in_container("ports: [{containerPort: 3000000000}]"),
            "ports[0].containerPort: Invalid value: 3000000000: must be an integer of 32 bits, "
            "from -2147483648 to 2147483647",
        ),
        (
            in_container("livenessProbe: {httpGet: {port: 8.5}}"),
            "livenessProbe.httpGet.port: Invalid value: 8.5: must be an integer",
        ),
        (
            in_container("resources: {limits: {cpu: yes}}"),
            "resources.limits[cpu]: Invalid value: true: must be a quantity, such as 500m or 64Mi",
        ),
    ],
)
def test_wrong_types(text: str, said: str) -> None:
    (sentence,) = complaints(text)
    assert sentence.partition("spec.containers[0].")[2] == said


def test_what_json_would_make_of_numbers() -> None:
    # sigs.k8s.io/yaml turns 80.0 and 1e3 into JSON's 80 and 1000, and a quantity may be a number
    pod, decoder = decode(in_container("ports: [{containerPort: 8e1}], resources: {limits: {cpu: 1.0, memory: 0x10}}"))
    assert decoder.problems == []
    assert pod.spec.containers[0].ports[0].container_port == 80
    assert pod.spec.containers[0].resources.limits == {"cpu": "1", "memory": "16"}


def test_null_is_as_good_as_nothing() -> None:
    pod, decoder = decode(
        "metadata: {name: null, labels: null, annotations: {a: null}}\nspec: {containers: null, securityContext: null}"
    )
    assert decoder.problems == []
    assert pod.metadata.name == ""
    assert pod.metadata.annotations == {"a": ""}
    assert pod.spec.containers == []
    assert pod.spec.security_context is None


def test_modes() -> None:
    text = in_container("name: a, imgae: x, name: b, tty: 5")
    strict = decode(text, validate="strict")[1]
    assert [problem.reason for problem in strict.problems] == [INVALID, TYPE_INVALID, DUPLICATE]
    assert strict.warnings == []
    pod, warn = decode(text, validate="warn")
    assert [problem.reason for problem in warn.problems] == [TYPE_INVALID]
    assert [str(warning) for warning in warn.warnings] == [
        'f.yaml:1:31: spec.containers[0].imgae: unknown field, did you mean "image"?',
        "f.yaml:1:41: spec.containers[0].name: duplicate field, first given in line 1",
    ]
    assert pod.spec.containers[0].name == "b"
    ignore = decode(text, validate="ignore")[1]
    assert [problem.reason for problem in ignore.problems] == [TYPE_INVALID]
    assert ignore.warnings == []
    with pytest.raises(ValueError, match="strict, warn, ignore"):
        Decoder(validate="lax")


def test_duplicate_labels() -> None:
    assert complaints("metadata:\n  labels:\n    a: x\n    a: z\n") == [
        "f.yaml:4:5: metadata.labels[a]: duplicate field, first given in line 3"
    ]


def test_a_document_of_another_kind_of_value() -> None:
    pod, decoder = decode("- a", Pod)
    assert pod == Pod()
    assert [str(problem) for problem in decoder.problems] == ["f.yaml:1:1: Invalid value: a list: must be an object"]


def test_bytes() -> None:
    secret, decoder = decode("data: {a: aGVsbG8=, b: 'aGVs\n bG8=', c: ''}", Secret)
    assert [problem.path for problem in decoder.problems] == ["data[b]"]  # a space is no base64
    assert secret.data == {"a": b"hello", "c": b""}
    config_map, decoder = decode('binaryData: {a: "aGVs\\nbG8="}', ConfigMap)
    assert config_map.binary_data == {"a": b"hello"}
    assert complaints("data: {a: '*'}", Secret)[0].startswith(
        "f.yaml:1:11: data[a]: Invalid value: illegal base64 data: "
    )


@pytest.mark.parametrize("value", ["2026-01-02", "now", "2026-01-02T03:04:05", "5", "'2026-13-02T03:04:05Z'"])
def test_what_is_no_time(value: str) -> None:
    (sentence,) = complaints(f"metadata: {{creationTimestamp: {value}}}")
    assert sentence.endswith("must be a time as in RFC 3339, such as 2026-11-23T20:00:00Z")


def test_times_of_events_have_microseconds() -> None:
    event, decoder = decode("eventTime: 2026-01-02T03:04:05.1234567Z\nfirstTimestamp: 2026-01-02T03:04:05.9Z", Event)
    assert decoder.problems == []
    assert event.event_time == "2026-01-02T03:04:05.123456Z"
    assert event.first_timestamp == "2026-01-02T03:04:05Z"


def test_inherited_fields_and_paths_with_a_prefix() -> None:
    (root,), _ = load("spec: {ephemeralContainers: [{name: a, targetContainerName: b, nope: 1}]}", "f.yaml")
    decoder = Decoder("f.yaml")
    pod = decoder.read(root, Pod, "items[3]")
    container = pod.spec.ephemeral_containers[0]
    assert (container.name, container.target_container_name) == ("a", "b")
    assert [problem.path for problem in decoder.problems] == ["items[3].spec.ephemeralContainers[0].nope"]


def test_a_workload() -> None:
    deployment, decoder = decode(
        "spec: {replicas: 2, strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}}, template: {spec: "
        "{hostIPC: true}}}\n"
        "status: {anything: [goes]}",
        Deployment,
    )
    assert decoder.problems == []
    assert deployment.spec.replicas == 2
    assert deployment.spec.strategy.rolling_update.max_surge == "25%"
    assert deployment.spec.strategy.rolling_update.max_unavailable == 1
    assert deployment.spec.template.spec.host_ipc is True


def test_from_builtins() -> None:
    assert from_builtins(pod_dict(), Pod).spec.containers[0].image == "nginx"
    assert from_builtins({"unknown": 1, **pod_dict()}, Pod).metadata.name == "web"
    with pytest.raises(ValueError, match=r"metadata\.name: Invalid value: 5"):
        from_builtins(pod_dict(metadata={"name": 5}), Pod)


def test_both_forms_of_one_object_decode_alike() -> None:
    plain = pod_dict({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}], "nodeSelector": {"a": "b"}})
    assert decode(dump_yaml(plain))[0] == from_builtins(plain, Pod)
