"""Defaulting, against what the API server of Kubernetes 1.36 makes of the same specs (data/pod_defaults.yaml)."""

from __future__ import annotations

from typing import Any

import pytest
from api_cases import data_yaml, pod

from podlite.api.admission import admit, generated_name
from podlite.api.config import Secret
from podlite.api.defaults import set_pod_defaults, set_secret_defaults, set_template_defaults
from podlite.api.encode import to_builtins
from podlite.api.image_name import image_pull_policy
from podlite.api.qos import qos_class
from podlite.api.status import PodStatus

CASES = data_yaml("pod_defaults.yaml")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_as_the_api_server(case: dict[str, Any]) -> None:
    made = pod(case["given"])
    set_pod_defaults(made)
    assert to_builtins(made.spec) == case["defaulted"]
    assert qos_class(made) == case["qos"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_second_time_changes_nothing(case: dict[str, Any]) -> None:
    once, twice = pod(case["given"]), pod(case["given"])
    set_pod_defaults(once)
    set_pod_defaults(twice)
    set_pod_defaults(twice)
    assert once == twice


def test_the_namespace() -> None:
    unsaid, said = pod(), pod(metadata={"namespace": "other"})
    set_pod_defaults(unsaid)
    set_pod_defaults(said)
    assert (unsaid.metadata.namespace, said.metadata.namespace) == ("default", "other")


def test_templates_are_left_without_what_only_pods_get() -> None:
    # SetDefaults_Pod is not run on pod templates: requests, service links and host ports come with the pod
    made = pod(
        {
            "hostNetwork": True,
            "containers": [
                {"name": "a", "image": "x", "resources": {"limits": {"cpu": 1}}, "ports": [{"containerPort": 80}]}
            ],
        }
    )
    set_template_defaults(made.spec)
    assert made.spec.restart_policy == "Always"
    assert made.spec.enable_service_links is None
    assert made.spec.containers[0].resources.requests == {}
    assert made.spec.containers[0].ports[0].host_port == 0


# pkg/util/parsers with github.com/distribution/reference: the tag is "latest" where a name has neither tag nor digest
@pytest.mark.parametrize(
    "image", ["a//b", "/a", "_a", "a_", "a___b", "a..b", "a-", "a b", "é", "", "host-.com/x", "0" * 64]
)
def test_what_is_no_image_name_is_not_pulled_always(image: str) -> None:
    assert image_pull_policy(image) == "IfNotPresent"


@pytest.mark.parametrize(
    "image", ["a", "a__b", "a--b", "a.b/c", "A.b/c", "UP/x", "[::1]:5/x", "a_b.c/d", "localhost/x", "r:5/x"]
)
def test_odd_names_of_images(image: str) -> None:
    assert image_pull_policy(image) == "Always"


def test_secrets() -> None:
    secret = Secret(data={"a": b"1", "b": b"2"}, string_data={"b": "two", "c": "drei"})
    set_secret_defaults(secret)
    assert secret.type == "Opaque"
    assert secret.data == {"a": b"1", "b": b"two", "c": b"drei"}
    assert secret.string_data == {}


def test_admission_gives_a_new_identity() -> None:
    made = pod({"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]})
    made.metadata.uid = "of another cluster"
    made.metadata.resource_version = "5"
    made.metadata.deletion_timestamp = "2020-01-01T00:00:00Z"
    made.status = PodStatus(phase="Failed", pod_ip="10.0.0.1")
    set_pod_defaults(made)
    admit(made, uid="6f1b3a5e-0000-4000-8000-000000000001", now="2026-11-23T20:00:00Z")
    assert made.metadata.uid == "6f1b3a5e-0000-4000-8000-000000000001"
    assert made.metadata.creation_timestamp == "2026-11-23T20:00:00Z"
    assert made.metadata.generation == 1
    assert not made.metadata.resource_version
    assert not made.metadata.deletion_timestamp
    assert made.status == PodStatus(phase="Pending", qos_class="Guaranteed")


def test_generated_names() -> None:
    # k8s.io/apiserver/pkg/storage/names: at most 58 characters of the base, five from this alphabet
    one, other = generated_name("web-", "uid-1"), generated_name("web-", "uid-2")
    assert one != other
    assert one == generated_name("web-", "uid-1")
    assert one.startswith("web-")
    assert len(one) == 9
    assert set(one.removeprefix("web-")) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert len(generated_name("x" * 80, "uid")) == 63
    made = pod(metadata={"name": "", "generateName": "job-"})
    admit(made, uid="uid-1", now="2026-11-23T20:00:00Z")
    assert made.metadata.name == generated_name("job-", "uid-1")
