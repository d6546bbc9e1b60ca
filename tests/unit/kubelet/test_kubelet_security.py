"""Security contexts: merging, checks and what the runtime is told.

Expected values: API reference (SecurityContext, PodSecurityContext), "Configure a Security Context", and the texts of
pkg/kubelet/kuberuntime/security_context_others.go and helpers.go; masked paths as in pkg/securitycontext/util.go.
"""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.container import Container
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.security import (
    AppArmorProfile,
    Capabilities,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
)
from podlite.cri.types import (
    Capability,
    IDMapping,
    LinuxContainerSecurityContext,
    NamespaceMode,
    ProfileType,
    SELinuxOption,
    SupplementalGroupsPolicy,
    UserNamespace,
)
from podlite.kubelet.security import (
    container_security,
    effective_security_context,
    sandbox_security,
    verify_run_as_non_root,
)
from podlite.kubelet.types import ContainerConfigError

HOST_USERS = UserNamespace(mode=NamespaceMode.NODE)


def container(**context: Any) -> Container:
    return Container(name="c", security_context=SecurityContext(**context) if context else None)


def pod(own: Container, annotations: dict[str, str] | None = None, **fields: Any) -> Pod:
    """Fields of the pod's security context are given as `sc_…`, those of its specification as they are."""
    context = {key.removeprefix("sc_"): value for key, value in fields.items() if key.startswith("sc_")}
    spec = {key: value for key, value in fields.items() if not key.startswith("sc_")}
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", annotations=annotations or {}),
        spec=PodSpec(containers=[own], security_context=PodSecurityContext(**context) if context else None, **spec),
    )


def told(
    given: Pod, *, uid: int | None = 0, username: str = "", namespace: UserNamespace = HOST_USERS, **options: Any
) -> LinuxContainerSecurityContext:
    return container_security(
        given,
        given.spec.containers[0],
        uid=uid,
        username=username,
        user_namespace=namespace,
        seccomp_root="/var/lib/seccomp",
        **options,
    )


def test_the_container_overrides_the_pod() -> None:
    own = container(run_as_user=1, run_as_non_root=False, se_linux_options=SELinuxOptions(type="own_t"))
    given = pod(
        own,
        sc_run_as_user=2,
        sc_run_as_group=3,
        sc_run_as_non_root=True,
        sc_se_linux_options=SELinuxOptions(type="pod_t"),
    )
    found = effective_security_context(given, own)
    assert found == SecurityContext(
        run_as_user=1, run_as_group=3, run_as_non_root=False, se_linux_options=SELinuxOptions(type="own_t")
    )
    assert effective_security_context(pod(container()), container()) == SecurityContext()


ABOUT = '(pod: "p_ns(u)", container: c)'


@pytest.mark.parametrize(
    ("own", "uid", "username", "message"),
    [
        (container(run_as_user=0), None, "", f"container's runAsUser breaks non-root policy {ABOUT}"),
        (container(run_as_user=5), 0, "", ""),
        (container(), 0, "", f"container has runAsNonRoot and image will run as root {ABOUT}"),
        (container(), 1, "", ""),
        (
            container(),
            None,
            "nginx",
            "container has runAsNonRoot and image has non-numeric user (nginx), "
            f"cannot verify user is non-root {ABOUT}",
        ),
        (
            container(),
            -1,
            "",
            "container has runAsNonRoot and image has an invalid user id (-1). (Must be 1-(2147483647)): "
            f"must be between 0 and 2147483647, inclusive {ABOUT}",
        ),
        (container(run_as_non_root=False), 0, "", ""),
    ],
)
def test_run_as_non_root(own: Container, uid: int | None, username: str, message: str) -> None:
    given = pod(own, sc_run_as_non_root=True)
    if not message:
        verify_run_as_non_root(given, own, uid, username)
        return
    with pytest.raises(ContainerConfigError) as failure:
        verify_run_as_non_root(given, own, uid, username)
    assert failure.value.message == message


def test_without_any_context() -> None:
    found = told(pod(container()))
    assert found.run_as_user == 0
    assert found.seccomp is not None
    assert found.seccomp.profile_type is ProfileType.Unconfined
    assert found.apparmor is None
    assert found.capabilities is None
    assert not found.privileged
    assert not found.no_new_privs
    assert not found.readonly_rootfs
    assert found.readonly_paths == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    cpus = [path for path in found.masked_paths if path.endswith("/thermal_throttle")]
    assert [path for path in found.masked_paths if path not in cpus] == [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]


def test_users_and_groups() -> None:
    found = told(pod(container(), sc_run_as_user=1000, sc_run_as_group=3000, sc_fs_group=2000), uid=7)
    assert (found.run_as_user, found.run_as_username, found.run_as_group) == (1000, "", 3000)
    assert found.supplemental_groups == [2000]
    found = told(
        pod(container(), sc_fs_group=2000, sc_supplemental_groups=[5, 6], sc_supplemental_groups_policy="Strict"),
        uid=None,
        username="app",
    )
    assert (found.run_as_user, found.run_as_username) == (None, "app")
    assert found.supplemental_groups == [2000, 5, 6]
    assert found.supplemental_groups_policy is SupplementalGroupsPolicy.Strict
    with pytest.raises(ContainerConfigError, match="unsupported supplementalGroupsPolicy: Odd"):
        told(pod(container(), sc_supplemental_groups_policy="Odd"))


def test_flags_of_the_container() -> None:
    found = told(
        pod(
            container(
                privileged=True,
                read_only_root_filesystem=True,
                capabilities=Capabilities(add=["NET_ADMIN"], drop=["ALL"]),
                se_linux_options=SELinuxOptions(user="u", role="r", type="t", level="s0"),
            )
        )
    )
    assert found.privileged
    assert found.readonly_rootfs
    assert found.capabilities == Capability(add_capabilities=["NET_ADMIN"], drop_capabilities=["ALL"])
    assert found.selinux_options == SELinuxOption(user="u", role="r", type="t", level="s0")


@pytest.mark.parametrize(("allowed", "no_new_privs"), [(None, False), (True, False), (False, True)])
def test_no_new_privileges(allowed: bool | None, no_new_privs: bool) -> None:
    assert told(pod(container(allow_privilege_escalation=allowed))).no_new_privs is no_new_privs


def test_an_unmasked_proc() -> None:
    found = told(pod(container(proc_mount="Unmasked"), host_users=False))
    assert (found.masked_paths, found.readonly_paths) == ([], [])
    assert told(pod(container(proc_mount="Default"))).masked_paths


@pytest.mark.parametrize(
    ("own", "shared", "default", "expected"),
    [
        (None, None, False, (ProfileType.Unconfined, "")),
        (None, None, True, (ProfileType.RuntimeDefault, "")),
        (None, SeccompProfile(type="RuntimeDefault"), False, (ProfileType.RuntimeDefault, "")),
        (SeccompProfile(type="Unconfined"), SeccompProfile(type="RuntimeDefault"), True, (ProfileType.Unconfined, "")),
        (
            SeccompProfile(type="Localhost", localhost_profile="profiles/a.json"),
            None,
            False,
            (ProfileType.Localhost, "/var/lib/seccomp/profiles/a.json"),
        ),
    ],
)
def test_seccomp(
    own: SeccompProfile | None, shared: SeccompProfile | None, default: bool, expected: tuple[ProfileType, str]
) -> None:
    given = pod(container(seccomp_profile=own), sc_seccomp_profile=shared)
    found = told(given, seccomp_default=default).seccomp
    assert found is not None
    assert (found.profile_type, found.localhost_ref) == expected


def test_a_local_seccomp_profile_needs_a_name() -> None:
    with pytest.raises(ContainerConfigError) as failure:
        told(pod(container(seccomp_profile=SeccompProfile(type="Localhost"))))
    assert failure.value.message == "localhostProfile must be set if seccompProfile type is Localhost."


BETA = "container.apparmor.security.beta.kubernetes.io/c"


@pytest.mark.parametrize(
    ("own", "annotations", "shared", "expected"),
    [
        (AppArmorProfile(type="Unconfined"), {BETA: "runtime/default"}, None, (ProfileType.Unconfined, "")),
        (None, {BETA: "localhost/x"}, AppArmorProfile(type="RuntimeDefault"), (ProfileType.Localhost, "x")),
        (None, {BETA: "runtime/default"}, None, (ProfileType.RuntimeDefault, "")),
        (None, {BETA: "unconfined"}, None, (ProfileType.Unconfined, "")),
        (None, {}, AppArmorProfile(type="Localhost", localhost_profile="y"), (ProfileType.Localhost, "y")),
    ],
)
def test_app_armor(
    own: AppArmorProfile | None,
    annotations: dict[str, str],
    shared: AppArmorProfile | None,
    expected: tuple[ProfileType, str],
) -> None:
    found = told(pod(container(app_armor_profile=own), annotations, sc_app_armor_profile=shared)).apparmor
    assert found is not None
    assert (found.profile_type, found.localhost_ref) == expected


@pytest.mark.parametrize(
    ("spec", "target", "expected"),
    [
        ({}, "", (NamespaceMode.POD, NamespaceMode.POD, NamespaceMode.CONTAINER, "")),
        (
            {"host_network": True, "host_ipc": True, "host_pid": True},
            "",
            (NamespaceMode.NODE, NamespaceMode.NODE, NamespaceMode.NODE, ""),
        ),
        ({"share_process_namespace": True}, "", (NamespaceMode.POD, NamespaceMode.POD, NamespaceMode.POD, "")),
        ({"share_process_namespace": False}, "", (NamespaceMode.POD, NamespaceMode.POD, NamespaceMode.CONTAINER, "")),
        # An ephemeral container sees its target's processes, unless it sees all of them anyway.
        ({}, "abc", (NamespaceMode.POD, NamespaceMode.POD, NamespaceMode.TARGET, "abc")),
        ({"host_pid": True}, "abc", (NamespaceMode.POD, NamespaceMode.POD, NamespaceMode.NODE, "")),
        ({"share_process_namespace": True}, "abc", (NamespaceMode.POD, NamespaceMode.POD, NamespaceMode.POD, "")),
    ],
)
def test_namespaces(spec: dict[str, bool], target: str, expected: tuple[Any, ...]) -> None:
    found = told(pod(container(), **spec), target_container_id=target).namespace_options
    assert found is not None
    assert (found.network, found.ipc, found.pid, found.target_id) == expected


def test_a_user_namespace_of_its_own() -> None:
    mapping = [IDMapping(host_id=65536, container_id=0, length=65536)]
    namespace = UserNamespace(mode=NamespaceMode.POD, uids=mapping, gids=mapping)
    found = told(pod(container(), host_users=False), namespace=namespace).namespace_options
    assert found is not None
    assert found.userns_options == namespace


def test_the_sandbox() -> None:
    plain = sandbox_security(pod(container()), HOST_USERS)
    assert plain.seccomp is not None
    assert plain.seccomp.profile_type is ProfileType.RuntimeDefault
    assert not plain.privileged
    given = pod(container(privileged=True), sc_run_as_user=1, sc_run_as_group=2, sc_fs_group=3, host_network=True)
    found = sandbox_security(given, HOST_USERS)
    assert found.privileged
    assert (found.run_as_user, found.run_as_group, found.supplemental_groups) == (1, 2, [3])
    assert found.namespace_options is not None
    assert found.namespace_options.network is NamespaceMode.NODE
