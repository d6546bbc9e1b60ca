"""The requests of RunPodSandbox and CreateContainer, whole, and the files that are made for them.

Sources: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, kuberuntime_container.go, kubelet_pods.go, Kubernetes 1.36.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import podlite
from podlite.api.config import ConfigMap
from podlite.api.container import Container, ContainerPort, EnvVar, VolumeDevice, VolumeMount
from podlite.api.env import ConfigMapKeySelector, EnvVarSource, ObjectFieldSelector
from podlite.api.meta import ObjectMeta
from podlite.api.pod import HostAlias, Pod, PodSpec
from podlite.api.probes import Lifecycle
from podlite.api.security import PodSecurityContext, Sysctl
from podlite.cri.types import (
    ContainerConfig,
    DNSConfig,
    Image,
    KeyValue,
    NamespaceMode,
    PodSandboxConfig,
    PodSandboxMetadata,
    PortMapping,
    Protocol,
)
from podlite.kubelet.container_config import make_container_config
from podlite.kubelet.objects import Objects
from podlite.kubelet.pod_files import remove_pod_directory
from podlite.kubelet.sandbox_config import make_sandbox_config, port_mappings
from podlite.kubelet.types import ContainerConfigError, KubeletConfig, VolumeError


@pytest.fixture
def config(tmp_path: Path) -> KubeletConfig:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    return KubeletConfig(
        state_dir=str(tmp_path / "state"),
        log_dir=str(tmp_path / "log"),
        resolv_conf=str(tmp_path / "resolv.conf"),
        memory_bytes=1 << 30,
    )


def pod(*containers: Container, **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="web", namespace="ns", uid="u-1", labels={"app": "x"}, annotations={"note": "y"}),
        spec=PodSpec(containers=list(containers), dns_policy="ClusterFirst", restart_policy="Always", **spec),
    )


def sandbox(given: Pod, config: KubeletConfig, **options: Any) -> PodSandboxConfig:
    values: dict[str, Any] = {"attempt": 0, "cgroup_parent": "/podlite/x", "record": lambda *_: None}
    return make_sandbox_config(given, config, **{**values, **options})


def container_of(given: Pod, config: KubeletConfig, **options: Any) -> ContainerConfig:
    values: dict[str, Any] = {
        "restart_count": 0,
        "image_ref": "sha256:1",
        "image": None,
        "pod_ips": ["10.85.0.2"],
        "objects": Objects(),
    }
    return make_container_config(given, given.spec.containers[0], config, **{**values, **options})


# --- the sandbox ------------------------------------------------------------------------------


def test_a_plain_sandbox(config: KubeletConfig) -> None:
    found = sandbox(pod(Container(name="c")), config, attempt=2)
    assert found.metadata == PodSandboxMetadata(name="web", uid="u-1", namespace="ns", attempt=2)
    assert found.hostname == "web"
    assert found.log_directory == f"{config.log_dir}/ns_web_u-1"
    assert found.dns_config == DNSConfig(servers=["192.0.2.53"])
    assert found.port_mappings == []
    assert found.labels == {
        "app": "x",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "ns",
        "io.kubernetes.pod.uid": "u-1",
    }
    assert found.annotations == {"note": "y"}
    assert found.linux is not None
    assert found.linux.cgroup_parent == "/podlite/x"
    assert found.linux.sysctls == {}


def test_a_sandbox_with_everything(config: KubeletConfig) -> None:
    given = pod(
        Container(name="c", ports=[ContainerPort(container_port=80, host_port=8080, protocol="TCP")]),
        hostname="h",
        subdomain="s",
        set_hostname_as_fqdn=True,
        security_context=PodSecurityContext(sysctls=[Sysctl(name="net.ipv4.tcp_syncookies", value="1")]),
        host_users=False,
    )
    found = sandbox(given, config)
    assert found.hostname == "h.s.ns.svc.cluster.local"
    assert found.port_mappings == [PortMapping(container_port=80, host_port=8080)]
    assert found.linux is not None
    assert found.linux.sysctls == {"net.ipv4.tcp_syncookies": "1"}
    assert found.linux.security_context is not None
    options = found.linux.security_context.namespace_options
    assert options is not None
    assert options.userns_options is not None
    assert options.userns_options.mode is NamespaceMode.POD


def test_a_pod_with_the_hosts_network_has_no_name_of_its_own(config: KubeletConfig) -> None:
    assert sandbox(pod(Container(name="c"), host_network=True), config).hostname == ""


def test_ports() -> None:
    ports = [
        ContainerPort(name="a", container_port=80, host_port=8080, protocol="TCP", host_ip="192.0.2.1"),
        # The same name, and the same nameless port, count once.
        ContainerPort(name="a", container_port=81),
        ContainerPort(container_port=53, protocol="UDP"),
        ContainerPort(container_port=53, protocol="UDP"),
        ContainerPort(container_port=53, protocol="TCP"),
        ContainerPort(container_port=53, protocol="UDP", host_ip="::1"),
        ContainerPort(container_port=99, protocol="SCTP"),
    ]
    assert port_mappings(Container(name="c", ports=ports)) == [
        PortMapping(container_port=80, host_port=8080, host_ip="192.0.2.1"),
        PortMapping(container_port=53, protocol=Protocol.UDP),
        PortMapping(container_port=53),
        PortMapping(container_port=53, protocol=Protocol.UDP, host_ip="::1"),
        PortMapping(container_port=99, protocol=Protocol.SCTP),
    ]


# --- containers -------------------------------------------------------------------------------


def test_a_plain_container(config: KubeletConfig) -> None:
    plain = Container(
        name="c",
        image="busybox",
        working_dir="/w",
        tty=True,
        stdin=True,
        stdin_once=True,
        lifecycle=Lifecycle(stop_signal="SIGUSR1"),
    )
    found = container_of(pod(plain), config, restart_count=3)
    assert (found.metadata.name, found.metadata.attempt) == ("c", 3)
    assert found.image.image == "sha256:1"
    assert found.image.user_specified_image == "busybox"
    assert (found.command, found.args, found.envs) == ([], [], [])
    assert found.working_dir == "/w"
    assert (found.tty, found.stdin, found.stdin_once) == (True, True, True)
    assert found.stop_signal == "SIGUSR1"
    assert found.log_path == "c/3.log"
    assert os.path.isdir(f"{config.log_dir}/ns_web_u-1/c")
    assert found.labels["io.kubernetes.container.name"] == "c"
    assert found.annotations["io.kubernetes.container.restartCount"] == "3"
    assert found.linux is not None
    assert found.linux.security_context is not None
    # An image that says nothing of its user runs as root.
    assert found.linux.security_context.run_as_user == 0


def test_commands_see_the_environment(config: KubeletConfig) -> None:
    given = pod(
        Container(
            name="c",
            command=["sh", "$(A)"],
            args=["$(B)-$$(B)", "$(NONE)"],
            env=[
                EnvVar(name="A", value="1"),
                EnvVar(name="B", value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path="status.podIP"))),
            ],
        )
    )
    found = container_of(given, config)
    assert found.command == ["sh", "1"]
    assert found.args == ["10.85.0.2-$(B)", "$(NONE)"]
    assert found.envs == [KeyValue(key="A", value=b"1"), KeyValue(key="B", value=b"10.85.0.2")]


def test_the_images_user(config: KubeletConfig) -> None:
    def users(image: Image | None) -> tuple[int | None, str]:
        linux = container_of(pod(Container(name="c")), config, image=image).linux
        assert linux is not None
        assert linux.security_context is not None
        return linux.security_context.run_as_user, linux.security_context.run_as_username

    assert users(Image(id="x")) == (0, "")
    assert users(Image(id="x", uid=7)) == (7, "")
    assert users(Image(id="x", username="nginx")) == (None, "nginx")


def test_run_as_non_root_is_checked(config: KubeletConfig) -> None:
    given = pod(Container(name="c"), security_context=PodSecurityContext(run_as_non_root=True))
    with pytest.raises(ContainerConfigError, match="container has runAsNonRoot and image will run as root"):
        container_of(given, config)
    assert container_of(given, config, image=Image(id="x", uid=7))


def test_the_hosts_file(config: KubeletConfig) -> None:
    given = pod(Container(name="c"), host_aliases=[HostAlias(ip="192.0.2.7", hostnames=["seven"])])
    (mount,) = container_of(given, config).mounts
    assert (mount.container_path, mount.readonly) == ("/etc/hosts", False)
    file = Path(mount.host_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert "10.85.0.2\tweb\n" in file.read_text()
    assert "192.0.2.7\tseven\n" in file.read_text()
    # It is the same file for all containers and for ever, whatever the pod's address becomes: they have it mounted.
    inode = file.stat().st_ino
    container_of(given, config, pod_ips=["10.85.0.30"])
    assert file.stat().st_ino == inode
    assert "10.85.0.30\tweb\n" in file.read_text()
    assert "10.85.0.2\t" not in file.read_text()


def test_when_there_is_no_hosts_file(config: KubeletConfig) -> None:
    assert container_of(pod(Container(name="c")), config, pod_ips=[]).mounts == []
    mount = VolumeMount(name="v", mount_path="/etc/hosts")
    found = container_of(pod(Container(name="c", volume_mounts=[mount])), config, volumes={"v": "/host/hosts"})
    assert [(each.container_path, each.host_path) for each in found.mounts] == [("/etc/hosts", "/host/hosts")]
    shared = container_of(pod(Container(name="c"), host_network=True), config, pod_ips=[])
    text = Path(shared.mounts[0].host_path).read_text()
    assert text == "# Kubernetes-managed hosts file (host network).\n" + Path("/etc/hosts").read_text()


def test_every_instance_has_a_termination_message_of_its_own(config: KubeletConfig) -> None:
    given = pod(Container(name="c", termination_message_path="/dev/termination-log"))
    first, second = (container_of(given, config, pod_ips=[]).mounts[0] for _ in range(2))
    assert first.container_path == second.container_path == "/dev/termination-log"
    assert first.host_path != second.host_path
    directory = Path(config.state_dir) / "pods/u-1/containers/c"
    assert Path(first.host_path).parent == directory
    # Any user of the container may write to it; nobody else gets there.
    assert stat.S_IMODE(Path(first.host_path).stat().st_mode) == 0o666
    assert stat.S_IMODE(directory.stat().st_mode) & 0o007 == 0


def test_mounts_in_a_user_namespace_carry_its_mapping(config: KubeletConfig) -> None:
    given = pod(Container(name="c", termination_message_path="/t"), host_users=False)
    found = container_of(given, config)
    assert len(found.mounts) == 2
    for mount in found.mounts:
        assert [each.length for each in mount.uidMappings] == [65536]
        assert mount.uidMappings == mount.gidMappings


def test_block_devices_are_refused(config: KubeletConfig) -> None:
    given = pod(Container(name="c", volume_devices=[VolumeDevice(name="disk", device_path="/dev/x")]))
    with pytest.raises(ContainerConfigError) as failure:
        container_of(given, config)
    assert failure.value.message == 'cannot find volume "disk" to pass into container "c"'


def test_what_is_missing_is_told_before_anything_is_made(config: KubeletConfig) -> None:
    reference = ConfigMapKeySelector(name="none", key="k")
    given = pod(Container(name="c", env=[EnvVar(name="A", value_from=EnvVarSource(config_map_key_ref=reference))]))
    with pytest.raises(ContainerConfigError, match='configmap "none" not found'):
        container_of(given, config)
    objects = Objects([ConfigMap(metadata=ObjectMeta(name="none", namespace="ns"), data={"k": "v"})])
    assert container_of(given, config, objects=objects).envs == [KeyValue(key="A", value=b"v")]


def test_a_directory_that_cannot_be_made_is_a_sentence(config: KubeletConfig) -> None:
    Path(config.state_dir).write_text("not a directory")
    with pytest.raises(ContainerConfigError) as failure:
        container_of(pod(Container(name="c")), config)
    assert "Not a directory" in failure.value.message


def test_removing_what_is_kept_of_a_pod(config: KubeletConfig) -> None:
    container_of(pod(Container(name="c", termination_message_path="/t")), config)
    directory = Path(config.state_dir) / "pods/u-1"
    assert directory.is_dir()
    remove_pod_directory(config, "u-1")
    remove_pod_directory(config, "u-1")
    assert not directory.exists()
    for bad in ("", "..", "a/b", ".x"):
        with pytest.raises(VolumeError):
            remove_pod_directory(config, bad)


def test_pods_without_volumes_and_probes_do_not_load_their_code() -> None:
    # Import time is a feature: of these packages nothing may be loaded on the way of an ordinary pod.
    code = """
import sys
import podlite.kubelet.sandbox_config, podlite.kubelet.container_config, podlite.kubelet.pod_cgroup
import podlite.kubelet.admission
heavy = {"dataclasses", "logging", "podlite.linux.idmap", "shutil", "tempfile", "subprocess",
         "tarfile", "structlog", "pyroute2", "ssl", "urllib.parse", "secrets", "hashlib", "json", "yaml"}
loaded = [name for name in sys.modules
          if name.startswith(("podlite.kubelet.volumes", "podlite.kubelet.prober", "podlite.runtime")) or name in heavy]
print(loaded)
"""
    root = Path(podlite.__file__).parent.parent
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout == "[]\n"
