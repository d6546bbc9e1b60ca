"""What is refused before anything is made, with the kubelet's reasons and messages.

Sources: pkg/kubelet/lifecycle/predicate.go and handlers.go, pkg/kubelet/sysctl, "Using sysctls in a Kubernetes
Cluster" (the list of safe sysctls).
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.container import Container, ResourceRequirements
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodOS, PodSpec
from podlite.api.security import AppArmorProfile, PodSecurityContext, SecurityContext, Sysctl
from podlite.kubelet import admission
from podlite.kubelet.admission import Rejection, check_admission
from podlite.kubelet.sysctls import SAFE, forbidden_sysctl, pod_sysctls
from podlite.kubelet.types import KubeletConfig

CONFIG = KubeletConfig()
NANO = 10**9


def pod(*containers: Container, labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", labels=labels or {}),
        spec=PodSpec(containers=list(containers) or [Container(name="c")], **spec),
    )


def with_sysctls(*names: str, **spec: Any) -> Pod:
    return pod(security_context=PodSecurityContext(sysctls=[Sysctl(name=name, value="1") for name in names]), **spec)


def requesting(**requests: str) -> Pod:
    named = {name.replace("__", "/").replace("_", "."): amount for name, amount in requests.items()}
    return pod(Container(name="c", resources=ResourceRequirements(requests=named)))


def allocatable() -> dict[str, int]:
    return {"cpu": 2 * NANO, "memory": 1024 * NANO, "ephemeral-storage": 1024 * NANO}


def test_an_ordinary_pod_is_admitted() -> None:
    assert check_admission(pod(), CONFIG) is None
    assert check_admission(with_sysctls(*SAFE), CONFIG) is None
    assert pod_sysctls(with_sysctls("a.b", "c.d")) == {"a.b": "1", "c.d": "1"}
    assert pod_sysctls(pod()) == {}


def test_other_operating_systems() -> None:
    assert check_admission(pod(os=PodOS(name="windows")), CONFIG) == Rejection(
        "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    )
    assert check_admission(pod(labels={"kubernetes.io/os": "windows"}), CONFIG) == Rejection(
        "PodOSSelectorNodeLabelDoesNotMatch",
        "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
    )
    assert check_admission(pod(os=PodOS(name="linux"), labels={"kubernetes.io/os": "linux"}), CONFIG) is None


@pytest.mark.parametrize(
    ("given", "unsafe", "message"),
    [
        (with_sysctls("kernel.msgmax"), (), 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        (with_sysctls("kernel.msgmax"), ("kernel.msg*",), ""),
        (with_sysctls("net.core.somaxconn"), ("net.core.somaxconn",), ""),
        (with_sysctls("net.core.somaxconn"), ("net.*",), ""),
        # Slashes are another spelling of dots.
        (with_sysctls("net/ipv4/tcp_syncookies"), (), ""),
        # What is not of a namespace would change the host, whatever is allowed.
        (with_sysctls("vm.swappiness"), ("vm.*", "vm.swappiness"), 'forbidden sysctl: "vm.swappiness" not allowlisted'),
        (
            with_sysctls("kernel.shm_rmid_forced", host_ipc=True),
            (),
            'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled',
        ),
        (
            with_sysctls("net.ipv4.tcp_syncookies", host_network=True),
            (),
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled',
        ),
    ],
)
def test_sysctls(given: Pod, unsafe: tuple[str, ...], message: str) -> None:
    assert forbidden_sysctl(given, unsafe) == message
    rejection = check_admission(given, KubeletConfig(allowed_unsafe_sysctls=unsafe))
    assert rejection == (Rejection("SysctlForbidden", message) if message else None)


def test_the_safe_sysctls_are_those_of_the_documentation() -> None:
    assert set(SAFE) == {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }


APPARMOR = AppArmorProfile(type="RuntimeDefault")
UNCONFINED = AppArmorProfile(type="Unconfined")


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        (pod(), False),
        (pod(security_context=PodSecurityContext(app_armor_profile=APPARMOR)), True),
        (pod(security_context=PodSecurityContext(app_armor_profile=UNCONFINED)), False),
        (pod(Container(name="c", security_context=SecurityContext(app_armor_profile=APPARMOR))), True),
        (pod(Container(name="c", security_context=SecurityContext(app_armor_profile=UNCONFINED))), False),
    ],
)
def test_app_armor(given: Pod, needed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert admission.needs_app_armor(given) is needed
    monkeypatch.setattr(admission, "app_armor_problem", lambda: "AppArmor is not enabled on the host")
    expected = Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert check_admission(given, CONFIG) == (expected if needed else None)
    monkeypatch.setattr(admission, "app_armor_problem", lambda: "")
    assert check_admission(given, CONFIG) is None


@pytest.mark.parametrize(
    ("given", "rejection"),
    [
        (requesting(cpu="2"), None),
        (
            requesting(cpu="2001m"),
            Rejection("OutOfcpu", "Node didn't have enough resource: cpu, requested: 2001, used: 0, capacity: 2000"),
        ),
        (
            requesting(memory="1Ki", cpu="1"),
            None,
        ),
        (
            requesting(memory="1025"),
            Rejection(
                "OutOfmemory", "Node didn't have enough resource: memory, requested: 1025, used: 0, capacity: 1024"
            ),
        ),
        (
            pod(Container(name="c", resources=ResourceRequirements(requests={"hugepages-2Mi": "4Mi"}))),
            Rejection(
                "OutOfhugepages-2Mi",
                "Node didn't have enough resource: hugepages-2Mi, requested: 4194304, used: 0, capacity: 0",
            ),
        ),
        (
            pod(Container(name="c", resources=ResourceRequirements(requests={"vendor.example/gpu": "1"}))),
            Rejection(
                "OutOfvendor.example/gpu",
                "Node didn't have enough resource: vendor.example/gpu, requested: 1, used: 0, capacity: 0",
            ),
        ),
    ],
)
def test_resources(given: Pod, rejection: Rejection | None) -> None:
    assert check_admission(given, CONFIG, allocatable=allocatable) == rejection


def test_what_other_pods_request_is_not_there_any_more() -> None:
    assert check_admission(requesting(cpu="1"), CONFIG, others=[requesting(cpu="1")], allocatable=allocatable) is None
    assert check_admission(
        requesting(cpu="1"), CONFIG, others=[requesting(cpu="1500m")], allocatable=allocatable
    ) == Rejection("OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000")
