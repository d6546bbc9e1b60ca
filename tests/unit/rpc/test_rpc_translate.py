"""Between the seam's objects and the wire's messages, both ways."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from podlite.cri import stats, types
from podlite.cri.errors import InvalidArgumentError
from podlite.rpc.signals import signal_name, signal_number
from podlite.rpc.translate import from_wire, to_wire, translation
from podlite.rpc.wire import runtime_pb2 as wire

SEAM = [
    each
    for module in (types, stats)
    for _, each in inspect.getmembers(module, inspect.isclass)
    if issubclass(each, types.Message) and each is not types.Message
]


@pytest.mark.parametrize("seam", sorted(set(SEAM), key=lambda each: each.__name__), ids=lambda each: each.__name__)
def test_every_field_of_the_wire_has_its_place_at_the_seam(seam: type[types.Message]) -> None:
    found = translation(seam)
    descriptor: Descriptor = found.message.DESCRIPTOR
    missing = {field.name for field in descriptor.fields} - found.by_name.keys()
    assert not missing, f"{descriptor.name}: nothing at the seam is translated to {missing}"


STATUS = types.ContainerStatus(
    id="c" * 64,
    metadata=types.ContainerMetadata(name="main", attempt=3),
    state=types.ContainerState.CONTAINER_EXITED,
    created_at=1,
    started_at=2,
    finished_at=3,
    exit_code=137,
    image=types.ImageSpec(image="busybox", user_specified_image="docker.io/library/busybox"),
    image_ref="sha256:ab",
    reason="OOMKilled",
    labels={"a": "b"},
    mounts=[types.Mount(container_path="/data", host_path="/host", readonly=True)],
    log_path="/var/log/x",
    resources=types.LinuxContainerResources(cpu_shares=512, unified={"memory.high": "1"}),
    user=types.LinuxContainerUser(uid=1000, gid=1000, supplemental_groups=[5, 6]),
    stop_signal="SIGRTMIN+3",
)


@pytest.mark.parametrize(
    "value",
    [
        STATUS,
        types.PodSandboxStatus(
            id="s",
            metadata=types.PodSandboxMetadata(name="p", uid="u", namespace="n"),
            state=types.PodSandboxState.SANDBOX_NOTREADY,
            network=types.PodSandboxNetworkStatus(ip="10.85.0.2", additional_ips=["fd85::2"]),
            namespaces=types.NamespaceOption(pid=types.NamespaceMode.CONTAINER),
        ),
        types.PodSandboxFilter(state=types.PodSandboxState.SANDBOX_READY),
        types.LinuxSandboxSecurityContext(run_as_user=0),
        types.RuntimeStatus(
            conditions=[types.RuntimeCondition(type="RuntimeReady", status=True)],
            runtime_handlers=[types.RuntimeHandler(name="x", user_namespaces=True)],
            supplemental_groups_policy=True,
        ),
        types.Image(id="sha256:1", repo_tags=["a:1"], uid=0),
        types.FilesystemUsage(mountpoint="/x", used_bytes=0, inodes_used=None),
        stats.CpuUsage(timestamp=1, usage_core_nano_seconds=0),
        stats.Metric(name="m", metric_type=stats.MetricType.GAUGE, label_values=["a", ""], value=0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_there_and_back(value: types.Message) -> None:
    sent = to_wire(value)
    received = type(sent).FromString(sent.SerializeToString())
    assert from_wire(type(value), received) == value


def test_a_required_number_that_is_zero_is_not_missing() -> None:
    event = types.ContainerEvent(
        container_id="c", container_event_type=types.ContainerEventType.CONTAINER_CREATED_EVENT, created_at=1
    )
    assert from_wire(types.ContainerEvent, to_wire(event)) == event


def test_zero_and_absent_are_two_things() -> None:
    assert not to_wire(types.LinuxSandboxSecurityContext()).HasField("run_as_user")
    assert to_wire(types.LinuxSandboxSecurityContext(run_as_user=0)).HasField("run_as_user")
    assert not to_wire(types.PodSandboxFilter()).HasField("state")


def test_nested_fields_are_where_the_wire_has_them() -> None:
    sent = to_wire(STATUS)
    assert sent.resources.linux.cpu_shares == 512
    assert sent.user.linux.uid == 1000
    assert sent.stop_signal == wire.SIGRTMINPLUS3


def test_a_required_part_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="PodSandboxConfig has no metadata"):
        from_wire(types.PodSandboxConfig, wire.PodSandboxConfig(hostname="x"))


def test_a_value_that_is_not_known_is_refused() -> None:
    """proto3 enumerations are open: a newer client may send what this has never heard of."""
    with pytest.raises(InvalidArgumentError, match="7 is no network"):
        from_wire(types.NamespaceOption, wire.NamespaceOption(network=7))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", wire.SIGTERM),
        ("term", wire.SIGTERM),
        ("9", wire.SIGKILL),
        ("SIGRTMAX-2", wire.SIGRTMAXMINUS2),
        ("", wire.RUNTIME_DEFAULT),
        ("SIGNONSENSE", wire.RUNTIME_DEFAULT),
        ("77777", wire.RUNTIME_DEFAULT),
    ],
)
def test_signals(name: str, number: Any) -> None:
    assert signal_number(name) == number


def test_signal_names_come_back() -> None:
    assert signal_name(wire.SIGRTMINPLUS3) == "SIGRTMIN+3"
    assert signal_name(wire.RUNTIME_DEFAULT) == ""
    assert signal_name(4711) == ""
