from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from api_cases import data_lines, pod

from podlite.api.defaults import set_pod_defaults
from podlite.api.fields import _FIELDS, ACCEPTED, IMPLEMENTED, REFUSED, Row, _used, rows, used_fields
from podlite.api.fields_page import main, markdown
from podlite.api.pod import Pod
from podlite.api.problems import FORBIDDEN

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))


def refused(spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> list[str]:
    made = pod(spec, metadata)
    set_pod_defaults(made)
    return [str(problem) for problem in used_fields(made)[0]]


def accepted_in_use(made: Pod) -> list[tuple[str, str]]:
    """The path and reason of each accepted field that the pod uses."""
    return [(path, reason) for path, status, reason in _used(made) if status == ACCEPTED]


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "image": "x", **fields}]}


def test_no_field_of_a_pod_is_missing_from_the_table() -> None:
    assert [row.path for row in rows()] == data_lines("pod_v1_fields.txt")


def test_no_row_is_of_a_field_that_is_none() -> None:
    assert set(_FIELDS) <= {row.path for row in rows()}


def test_every_row_says_what_and_why() -> None:
    for row in rows():
        assert row.status in (IMPLEMENTED, ACCEPTED, REFUSED), row
        assert bool(row.reason) == (row.status != IMPLEMENTED), row


def test_the_page_of_the_documentation_is_current() -> None:
    with open(os.path.join(ROOT, "docs", "fields.md"), encoding="utf-8") as page:
        assert page.read() == markdown(), "run: python -m podlite.api.fields_page docs/fields.md"


def test_the_generator_writes_the_page(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "fields.md"
    assert main([str(page)]) == 0
    assert page.read_text() == markdown()
    assert main([]) == 0
    assert capsys.readouterr().out == markdown()
    assert main(["a", "b"]) == 2
    command = [sys.executable, "-m", "podlite.api.fields_page"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout == markdown()


def test_a_pod_of_implemented_fields() -> None:
    spec = {
        "initContainers": [{"name": "i", "image": "x", "command": ["true"]}],
        "containers": [
            {
                "name": "a",
                "image": "x",
                "command": ["sh"],
                "args": ["-c", "true"],
                "workingDir": "/",
                "env": [{"name": "A", "value": "1"}, {"name": "B"}],
                "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
                "resources": {"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": "100m"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s", "readOnly": True}],
                "imagePullPolicy": "Never",
                "terminationMessagePath": "/t",
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "tty": True,
                "stdin": True,
                "stdinOnce": True,
                "securityContext": {
                    "runAsUser": 0,
                    "runAsGroup": 0,
                    "runAsNonRoot": False,
                    "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                    "allowPrivilegeEscalation": False,
                    "seccompProfile": {"type": "RuntimeDefault"},
                    "procMount": "Default",
                },
            }
        ],
        "volumes": [
            {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "w", "hostPath": {"path": "/x", "type": "File"}},
        ],
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 1,
        "activeDeadlineSeconds": 5,
        "hostIPC": True,
        "shareProcessNamespace": True,
        "hostname": "h",
        "subdomain": "s",
        "setHostnameAsFQDN": True,
        "securityContext": {
            "runAsUser": 1,
            "runAsGroup": 1,
            "runAsNonRoot": True,
            "supplementalGroups": [5],
            "seccompProfile": {"type": "Unconfined"},
        },
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}]},
    }
    assert refused(spec, {"labels": {"a": "b"}, "annotations": {"a": "b"}, "generateName": "x-"}) == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"volumes": [{"name": "v", "csi": {"driver": "d"}}]},
            "spec.volumes[0].csi: Forbidden: not supported by podlite: there are no CSI drivers here",
        ),
        ({"os": {"name": "windows"}}, "spec.os.name: Forbidden: not supported by podlite: only Linux pods run here"),
        (
            container(resources={"limits": {"nvidia.com/gpu": 1}, "requests": {"nvidia.com/gpu": 1}}),
            "spec.containers[0].resources.limits[nvidia.com/gpu]: Forbidden: not supported by podlite: "
            "there are no device plugins here that could provide it",
        ),
        (
            {"resources": {"limits": {"cpu": 1}}},
            "spec.resources: Forbidden: not supported by podlite: resources belong to containers here, not to "
            "the pod as a whole",
        ),
    ],
)
def test_refused_for_good(spec: dict[str, Any], said: str) -> None:
    assert said in refused(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"hostUsers": True},
        {"os": {"name": "linux"}},
        container(
            volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": "None", "recursiveReadOnly": "Disabled"}]
        ),
        {"securityContext": {"supplementalGroupsPolicy": "Merge"}},
        {"hostNetwork": True, **container(ports=[{"containerPort": 80}])},
        container(resources={"requests": {"ephemeral-storage": "1Gi"}}),
        container(lifecycle={}),
    ],
)
def test_the_defaults_of_refused_fields_are_harmless(spec: dict[str, Any]) -> None:
    assert refused(spec) == []


def test_accepted_fields_are_told_with_their_reasons() -> None:
    made = pod({"nodeSelector": {"a": "b"}, "serviceAccountName": "s", "automountServiceAccountToken": True})
    set_pod_defaults(made)
    assert used_fields(made)[0] == []
    assert [path for path, _ in accepted_in_use(made)] == [
        "spec.nodeSelector",
        "spec.serviceAccountName",
        "spec.serviceAccount",
        "spec.automountServiceAccountToken",
    ]
    assert all(reason for _, reason in accepted_in_use(made))


def test_a_pod_that_says_nothing_uses_nothing_that_is_only_accepted() -> None:
    made = pod()
    set_pod_defaults(made)
    assert accepted_in_use(made) == []


def test_a_row_is_flipped_by_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = container(livenessProbe={"httpGet": {"port": 80}})
    monkeypatch.setitem(_FIELDS, "spec.containers[].livenessProbe", "refused: no probes")
    assert refused(spec)
    monkeypatch.setitem(_FIELDS, "spec.containers[].livenessProbe", IMPLEMENTED)
    assert refused(spec) == []
    below = {row.path: row for row in rows()}["spec.containers[].livenessProbe.httpGet.port"]
    assert below == Row("spec.containers[].livenessProbe.httpGet.port", IMPLEMENTED)
    monkeypatch.setitem(_FIELDS, "spec.containers[].livenessProbe.httpGet", "refused: no network")
    assert refused(spec) == [
        "spec.containers[0].livenessProbe.httpGet: Forbidden: not supported by podlite: no network"
    ]


def test_a_field_without_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_FIELDS, "spec.hostname")
    with pytest.raises(LookupError, match=r"spec\.hostname has no row"):
        rows()


def test_problems_have_the_reason_of_a_forbidden_value() -> None:
    made = pod({"resources": {"limits": {"cpu": 1}}})
    set_pod_defaults(made)
    assert [problem.reason for problem in used_fields(made)[0]] == [FORBIDDEN]
