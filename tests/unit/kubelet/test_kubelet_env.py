"""Environment variables: order, sources and the texts of errors.

Expected values from the API reference (EnvVar, EnvFromSource, ResourceFieldSelector), the task pages "Define Dependent
Environment Variables" and "Expose Pod Information to Containers Through Environment Variables", and the texts of
pkg/kubelet/kubelet_pods.go.
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.config import ConfigMap, Secret
from podlite.api.container import Container, EnvVar, ResourceRequirements
from podlite.api.env import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
    SecretEnvSource,
    SecretKeySelector,
)
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.kubelet.env import make_environment
from podlite.kubelet.objects import Objects
from podlite.kubelet.types import ContainerConfigError

OBJECTS = Objects(
    [
        ConfigMap(
            metadata=ObjectMeta(name="settings", namespace="ns"),
            data={"COLOR": "blue", "with.dot": "1", "REF": "$(COLOR)"},
            binary_data={"BLOB": b"\0"},
        ),
        Secret(metadata=ObjectMeta(name="keys", namespace="ns"), data={"TOKEN": b"t0k", "RAW": b"\xff\xfe"}),
        ConfigMap(metadata=ObjectMeta(name="elsewhere", namespace="other"), data={"A": "1"}),
    ]
)
GIGA = 1 << 30
NANO = 10**9


def environment(container: Container, pod: Pod | None = None, **options: Any) -> dict[str, str]:
    return dict(ordered(container, pod, **options))


def ordered(container: Container, pod: Pod | None = None, **options: Any) -> list[tuple[str, str]]:
    pod = pod or Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"), spec=PodSpec(containers=[container]))
    values: dict[str, Any] = {
        "pod_ips": ["10.85.0.2", "fd85::2"],
        "host_ips": ["192.0.2.1", "2001:db8::1"],
        "node_name": "box",
        "objects": OBJECTS,
        "allocatable": lambda: {"cpu": 4 * NANO, "memory": 8 * GIGA * NANO, "ephemeral-storage": 100 * GIGA * NANO},
    }
    return make_environment(pod, container, **{**values, **options})


def variable(name: str, value: str = "", **source: Any) -> EnvVar:
    return EnvVar(name=name, value=value, value_from=EnvVarSource(**source) if source else None)


def field(path: str) -> ObjectFieldSelector:
    return ObjectFieldSelector(api_version="v1", field_path=path)


def test_dependent_variables_need_order() -> None:
    # "Define Dependent Environment Variables": UNCHANGED_REFERENCE, SERVICE_ADDRESS and ESCAPED_REFERENCE.
    container = Container(
        name="c",
        env=[
            variable("UNCHANGED_REFERENCE", "$(PROTOCOL)://address"),
            variable("PROTOCOL", "https"),
            variable("SERVICE_ADDRESS", "$(PROTOCOL)://172.17.0.1:80"),
            variable("ESCAPED_REFERENCE", "$$(PROTOCOL)://172.17.0.1:80"),
        ],
    )
    assert ordered(container) == [
        ("UNCHANGED_REFERENCE", "$(PROTOCOL)://address"),
        ("PROTOCOL", "https"),
        ("SERVICE_ADDRESS", "https://172.17.0.1:80"),
        ("ESCAPED_REFERENCE", "$(PROTOCOL)://172.17.0.1:80"),
    ]


def test_env_from_comes_first_and_env_replaces_it() -> None:
    # EnvFromSource: "Values defined by an Env with a duplicate key will take precedence."; later sources over earlier.
    container = Container(
        name="c",
        env_from=[
            EnvFromSource(prefix="P_", config_map_ref=ConfigMapEnvSource(name="settings")),
            EnvFromSource(config_map_ref=ConfigMapEnvSource(name="settings")),
            EnvFromSource(prefix="P_", secret_ref=SecretEnvSource(name="keys")),
        ],
        env=[variable("COLOR", "red-$(P_COLOR)"), variable("SUM", "$(COLOR)")],
    )
    found = ordered(container)
    assert [name for name, _ in found] == [
        "P_COLOR", "P_with.dot", "P_REF", "COLOR", "with.dot", "REF", "P_TOKEN", "P_RAW", "SUM",
    ]  # fmt: skip
    values = dict(found)
    assert values["COLOR"] == "red-blue"
    assert values["SUM"] == "red-blue"
    # What comes from elsewhere is not expanded.
    assert values["REF"] == "$(COLOR)"
    # Relaxed environment variable validation (1.34): no key is left out for its spelling; no binary data, ever.
    assert values["with.dot"] == "1"
    assert "BLOB" not in values
    assert values["P_RAW"].encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a/b']", "x"),
        ("spec.nodeName", "box"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1,2001:db8::1"),
        ("status.podIP", "10.85.0.2"),
        ("status.podIPs", "10.85.0.2,fd85::2"),
    ],
)
def test_field_refs(path: str, expected: str) -> None:
    container = Container(name="c", env=[variable("V", field_ref=field(path))])
    pod = Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", labels={"app": "web"}, annotations={"a/b": "x"}),
        spec=PodSpec(containers=[container], service_account_name="robot"),
    )
    assert environment(container, pod) == {"V": expected}


def test_the_pods_own_node_name_goes_first() -> None:
    container = Container(name="c", env=[variable("V", field_ref=field("spec.nodeName"))])
    pod = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(containers=[container], node_name="chosen"))
    assert environment(container, pod) == {"V": "chosen"}


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        # "Expose Pod Information … Use container fields": whole CPUs rounded up, bytes; divisor 1m and 1Mi.
        ("requests.cpu", "0", "1"),
        ("limits.cpu", "1", "1"),
        ("requests.cpu", "1m", "125"),
        ("limits.cpu", "1m", "250"),
        ("requests.memory", "0", "33554432"),
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "1Ki", "65536"),
        ("limits.memory", "1G", "1"),
        # Not stated: a request is 0, a limit what the node can give.
        ("requests.ephemeral-storage", "1", "0"),
        ("limits.ephemeral-storage", "1Gi", "100"),
        # Huge pages are never overcommitted, so there is no default.
        ("limits.hugepages-2Mi", "1Mi", "0"),
        ("requests.hugepages-1Gi", "1", "0"),
    ],
)
def test_resource_field_refs(resource: str, divisor: str, expected: str) -> None:
    container = Container(
        name="c",
        resources=ResourceRequirements(
            requests={"cpu": "125m", "memory": "32Mi"}, limits={"cpu": "250m", "memory": "64Mi"}
        ),
        env=[variable("V", resource_field_ref=ResourceFieldSelector(resource=resource, divisor=divisor))],
    )
    assert environment(container) == {"V": expected}


def test_limits_default_to_the_nodes_but_not_those_of_a_named_init_container() -> None:
    # defaultPodLimitsForDownwardAPI: the pod's app containers and the container itself get defaults.
    init = Container(name="init")
    other = Container(name="other")

    def limit(name: str) -> EnvVar:
        source = ResourceFieldSelector(container_name=name, resource="limits.cpu", divisor="1")
        return variable(f"CPU_{name}", resource_field_ref=source)

    container = Container(name="c", env=[limit(""), limit("c"), limit("other"), limit("init")])
    spec = PodSpec(init_containers=[init], containers=[container, other])
    found = environment(container, Pod(metadata=ObjectMeta(name="p"), spec=spec))
    assert found == {"CPU_": "4", "CPU_c": "4", "CPU_other": "4", "CPU_init": "0"}


def test_the_node_is_asked_only_if_that_is_needed() -> None:
    def ask() -> dict[str, int]:
        raise AssertionError("the node was asked for its resources")

    assert environment(Container(name="c", env=[variable("A", "1")]), allocatable=ask) == {"A": "1"}


def test_keys_of_config_maps_and_secrets() -> None:
    container = Container(
        name="c",
        env=[
            variable("A", config_map_key_ref=ConfigMapKeySelector(name="settings", key="COLOR")),
            variable("B", secret_key_ref=SecretKeySelector(name="keys", key="TOKEN")),
            variable("C", config_map_key_ref=ConfigMapKeySelector(name="settings", key="none", optional=True)),
            variable("D", config_map_key_ref=ConfigMapKeySelector(name="none", key="x", optional=True)),
            variable("E", secret_key_ref=SecretKeySelector(name="none", key="x", optional=True)),
            variable("F", secret_key_ref=SecretKeySelector(name="keys", key="none", optional=True)),
        ],
        env_from=[
            EnvFromSource(config_map_ref=ConfigMapEnvSource(name="none", optional=True)),
            EnvFromSource(secret_ref=SecretEnvSource(name="none", optional=True)),
        ],
    )
    # An optional variable without a value is not set at all.
    assert environment(container) == {"A": "blue", "B": "t0k"}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (
            Container(env=[variable("A", config_map_key_ref=ConfigMapKeySelector(name="elsewhere", key="A"))]),
            'configmap "elsewhere" not found',
        ),
        (
            Container(env=[variable("A", secret_key_ref=SecretKeySelector(name="none", key="A"))]),
            'secret "none" not found',
        ),
        (
            Container(env=[variable("A", config_map_key_ref=ConfigMapKeySelector(name="settings", key="none"))]),
            "couldn't find key none in ConfigMap ns/settings",
        ),
        (
            # Binary data is not for variables.
            Container(env=[variable("A", config_map_key_ref=ConfigMapKeySelector(name="settings", key="BLOB"))]),
            "couldn't find key BLOB in ConfigMap ns/settings",
        ),
        (
            Container(env=[variable("A", secret_key_ref=SecretKeySelector(name="keys", key="none"))]),
            "couldn't find key none in Secret ns/keys",
        ),
        (
            Container(env_from=[EnvFromSource(config_map_ref=ConfigMapEnvSource(name="none"))]),
            'configmap "none" not found',
        ),
        (Container(env_from=[EnvFromSource(secret_ref=SecretEnvSource(name="none"))]), 'secret "none" not found'),
        (
            Container(
                env=[variable("A", resource_field_ref=ResourceFieldSelector(container_name="x", resource="limits.cpu"))]
            ),
            "container x not found",
        ),
        (
            Container(env=[variable("A", resource_field_ref=ResourceFieldSelector(resource="limits.gpu"))]),
            "unsupported container resource : limits.gpu",
        ),
        (Container(env=[variable("A", field_ref=field("metadata.nope"))]), "unsupported fieldPath: metadata.nope"),
    ],
)
def test_errors_are_the_kubelets(container: Container, message: str) -> None:
    with pytest.raises(ContainerConfigError) as failure:
        environment(container)
    assert failure.value.message == message
    assert failure.value.reason == "CreateContainerConfigError"


def test_variables_from_files_are_refused() -> None:
    source = FileKeySelector(volume_name="v", path="f", key="K")
    with pytest.raises(ContainerConfigError, match="fileKeyRef"):
        environment(Container(env=[variable("A", file_key_ref=source)]))
