"""Validation, against what the API server of Kubernetes 1.36 says of the same pods (data/pod_validation.yaml)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from api_cases import data_yaml, pod

from podlite.api.config import ConfigMap, Secret
from podlite.api.decode import from_builtins
from podlite.api.defaults import set_pod_defaults, set_secret_defaults
from podlite.api.meta import ObjectMeta
from podlite.api.problems import DUPLICATE, FORBIDDEN, INVALID, NOT_FOUND, NOT_SUPPORTED, REQUIRED, TOO_LONG
from podlite.api.validation.config import validate_config_map, validate_secret
from podlite.api.validation.pod import validate_pod

CASES = data_yaml("pod_validation.yaml")


def found(spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> list[str]:
    made = pod(spec, metadata)
    set_pod_defaults(made)
    return [str(problem) for problem in validate_pod(made)]


def without_objects(sentence: str) -> str:
    """The sentence without an object that it shows: the API server shows its internal type."""
    return re.sub(r"Invalid value: \{.*\}: ", "Invalid value: {}: ", sentence)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_as_the_api_server(case: dict[str, Any]) -> None:
    said = sorted(map(without_objects, found(case.get("spec"), case.get("metadata"))))
    assert said == sorted(map(without_objects, case["problems"]))


def test_objects_are_shown_as_their_json() -> None:
    context = {"privileged": True, "allowPrivilegeEscalation": False, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}
    shown = '{"capabilities":{"add":["CAP_SYS_ADMIN"]},"privileged":true,"allowPrivilegeEscalation":false}'
    assert found({"containers": [{"name": "a", "image": "x", "securityContext": context}]}) == [
        f"spec.containers[0].securityContext: Invalid value: {shown}: "
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        f"spec.containers[0].securityContext: Invalid value: {shown}: "
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ]


def test_annotations_have_a_limit() -> None:
    # objectmeta.go, TotalAnnotationSizeLimitB
    assert found(metadata={"annotations": {"a": "x" * (256 * 1024 - 1)}}) == []
    assert found(metadata={"annotations": {"a": "x" * 256 * 1024}}) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]


def test_a_name_that_is_still_to_be_generated_is_not_missed() -> None:
    assert found(metadata={"name": "", "generateName": "web-"}) == []
    assert found(metadata={"name": ""}) == ["metadata.name: Required value: name or generateName is required"]


def test_quantities_that_a_program_got_wrong() -> None:
    made = pod()
    made.spec.containers[0].resources.limits = {"cpu": "lots"}
    set_pod_defaults(made)
    assert [problem.path for problem in validate_pod(made)] == [
        "spec.containers[0].resources.limits[cpu]",
        "spec.containers[0].resources.requests[cpu]",
    ]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"containers": []}, REQUIRED),
        ({"containers": [{"name": "A", "image": "x"}]}, INVALID),
        ({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}, DUPLICATE),
        ({"restartPolicy": "No"}, NOT_SUPPORTED),
        ({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}, NOT_FOUND),
        ({"hostUsers": False, "hostPID": True}, FORBIDDEN),
        (
            {
                "containers": [
                    {
                        "name": "a",
                        "image": "x",
                        "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x" * 4096}},
                    }
                ]
            },
            TOO_LONG,
        ),
    ],
)
def test_causes_have_the_api_servers_reasons(spec: dict[str, Any], reason: str) -> None:
    # metav1.CauseType
    made = pod(spec)
    set_pod_defaults(made)
    assert [problem.reason for problem in validate_pod(made)] == [reason]


# the same program: ValidateConfigMap and ValidateSecret
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, []),
        ({"data": {"a.b-c_D": "x"}, "binaryData": {"b": "eA=="}}, []),
        (
            {"data": {"a b": "x"}},
            [
                'data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '
                "'-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', "
                "regex used for validation is '[-._a-zA-Z0-9]+')"
            ],
        ),
        ({"data": {"..a": "x"}}, ["data[..a]: Invalid value: \"..a\": must not start with '..'"]),
        ({"binaryData": {"..": ""}}, ["binaryData[..]: Invalid value: \"..\": must not be '..'"]),
        (
            {"data": {"a": "x"}, "binaryData": {"a": ""}},
            ['data[a]: Invalid value: "a": duplicate of key present in binaryData'],
        ),
        ({"data": {"a": "x" * 2**20, "b": "x"}}, ["[]: Too long: may not be more than 1048576 bytes"]),
        (
            {"data": {"a" * 254: "x"}},
            [f'data[{"a" * 254}]: Invalid value: "{"a" * 254}": must be no more than 253 characters'],
        ),
    ],
)
def test_config_maps(fields: dict[str, Any], said: list[str]) -> None:
    config_map = from_builtins({"metadata": {"name": "c", "namespace": "default"}, **fields}, ConfigMap)
    assert [str(problem) for problem in validate_config_map(config_map)] == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": {"a": "eA=="}, "stringData": {"b": "x"}}, []),
        ({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}, ["data[tls.key]: Required value"]),
        ({"type": "kubernetes.io/basic-auth"}, ["data[username]: Required value", "data[password]: Required value"]),
        ({"type": "kubernetes.io/basic-auth", "stringData": {"username": ""}}, []),
        (
            {"type": "kubernetes.io/ssh-auth", "stringData": {"ssh-privatekey": ""}},
            ["data[ssh-privatekey]: Required value"],
        ),
        ({"type": "kubernetes.io/dockerconfigjson"}, ["data[.dockerconfigjson]: Required value"]),
        ({"type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "{}"}}, []),
        (
            {"type": "kubernetes.io/service-account-token"},
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
        ({"stringData": {"a": "x" * (2**20 + 1)}}, ["data: Too long: may not be more than 1048576 bytes"]),
    ],
)
def test_secrets(fields: dict[str, Any], said: list[str]) -> None:
    secret = from_builtins({"metadata": {"name": "s", "namespace": "default"}, **fields}, Secret)
    set_secret_defaults(secret)
    assert [str(problem) for problem in validate_secret(secret)] == said


def test_broken_registry_credentials_are_not_shown() -> None:
    secret = Secret(
        metadata=ObjectMeta(name="s", namespace="d"), type="kubernetes.io/dockercfg", data={".dockercfg": b"hunter2"}
    )
    (problem,) = validate_secret(secret)
    assert str(problem).startswith('data[.dockercfg]: Invalid value: "<secret contents redacted>": ')
    assert "hunter2" not in str(problem)
