"""What no sandbox can have is refused before anything is made."""

from __future__ import annotations

import msgspec
import pytest

from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import DNSConfig, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata
from podlite.runtime.sandbox.rules import check_sandbox

METADATA = PodSandboxMetadata(name="web", uid="c9a0", namespace="default")


def config(**fields: object) -> PodSandboxConfig:
    return PodSandboxConfig(**{"metadata": METADATA, **fields})  # type: ignore[arg-type]


def test_what_a_kubelet_sends() -> None:
    check_sandbox(
        config(
            hostname="h" * 63,
            log_directory="/var/log/pods/default_web_c9a0",
            dns_config=DNSConfig(servers=["10.96.0.10"], searches=["svc.cluster.local"], options=["ndots:5"]),
            # The forms of sysctl(8), and a device whose name has a dot in it.
            linux=LinuxPodSandboxConfig(
                sysctls={"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.5/forwarding": "1", "kernel.shmmax": "1"}
            ),
        )
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        # gethostname(2): HOST_NAME_MAX is 64.
        ({"hostname": "h" * 65}, "64 bytes"),
        ({"hostname": "h\0"}, "control character"),
        ({"hostname": "h\nx"}, "control character"),
        # resolv.conf(5): an entry is a line.
        ({"dns_config": DNSConfig(servers=["10.96.0.10\nsearch elsewhere"])}, "control character"),
        ({"dns_config": DNSConfig(options=["a\0b"])}, "control character"),
        ({"log_directory": "pods"}, "absolute"),
        ({"metadata": msgspec.structs.replace(METADATA, name="a\0b")}, "control character"),
        ({"metadata": msgspec.structs.replace(METADATA, uid="a/b")}, "directory"),
        ({"metadata": msgspec.structs.replace(METADATA, uid="")}, "needs"),
    ],
)
def test_what_it_cannot_be(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidArgumentError, match=sentence):
        check_sandbox(config(**fields))


@pytest.mark.parametrize(
    "name",
    [
        "kernel.hostname",
        "vm.swappiness",
        # What begins as the pod's own, and leads to the machine's.
        "net/../kernel/core_pattern",
        "net/ipv4/../../kernel/core_pattern",
        "kernel/shm/../core_pattern",
        "fs.mqueue./../kernel/core_pattern",
        "net/./core/somaxconn",
        "net//core/somaxconn",
        "net.",
        "net.a\0b",
    ],
)
def test_parameters_of_the_machine(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"kernel parameter|whole machine"):
        check_sandbox(config(linux=LinuxPodSandboxConfig(sysctls={name: "1"})))
