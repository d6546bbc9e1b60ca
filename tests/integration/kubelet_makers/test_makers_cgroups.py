"""Pods' cgroups on this machine's hierarchies, below a root of their own.

Paths as the kubelet's cgroupfs driver has them (pkg/kubelet/cm), limits as in cm/helpers_linux.go.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from podlite.api.container import Container, ResourceRequirements
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.kubelet.pod_cgroup import PodCgroups
from podlite.kubelet.types import KubeletConfig
from podlite.linux.cgroup_mounts import Hierarchy, hierarchies
from podlite.linux.cgroups import Cgroups


def pod(uid: str = "u-1", requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Pod:
    resources = ResourceRequirements(limits=limits or {}, requests={**(limits or {}), **(requests or {})})
    return Pod(
        metadata=ObjectMeta(name="p", uid=uid), spec=PodSpec(containers=[Container(name="c", resources=resources)])
    )


@pytest.fixture
def cgroups(config: KubeletConfig) -> Iterator[PodCgroups]:
    found = PodCgroups(config)
    yield found
    for uid in ("u-1", "u-2", "u-3"):
        found.remove(uid)
    found.close()
    assert [each.mount for each in hierarchies() if os.path.exists(each.mount + config.cgroup_root)] == []


def limit(path: str, v1: tuple[str, str], v2: str) -> str:
    """The content of a limit's file, wherever the controller is mounted."""
    controller, file = v1
    for each in hierarchies():
        name = file if each.version == 1 else v2
        if controller in each.controllers and os.path.exists(f"{each.mount}{path}/{name}"):
            with open(f"{each.mount}{path}/{name}", encoding="ascii") as content:
                return content.read().strip()
    pytest.skip(f"this machine has no {controller} controller")


MEMORY = (("memory", "memory.limit_in_bytes"), "memory.max")
SHARES = (("cpu", "cpu.shares"), "cpu.weight")


def test_the_paths_of_the_qos_classes(cgroups: PodCgroups, config: KubeletConfig) -> None:
    root = config.cgroup_root
    assert cgroups.create(pod("u-1")) == f"{root}/kubepods/besteffort/podu-1"
    assert cgroups.create(pod("u-2", requests={"cpu": "100m"})) == f"{root}/kubepods/burstable/podu-2"
    assert cgroups.create(pod("u-3", limits={"cpu": "1", "memory": "64Mi"})) == f"{root}/kubepods/podu-3"
    assert cgroups.path(pod("u-1")) == f"{root}/kubepods/besteffort/podu-1"


def test_limits_of_a_pod(cgroups: PodCgroups) -> None:
    path = cgroups.create(pod(limits={"cpu": "1500m", "memory": "64Mi"}))
    assert limit(path, *MEMORY) == str(64 << 20)
    assert limit(path, ("cpu", "cpu.cfs_quota_us"), "cpu.max") in ("150000", "150000 100000")
    assert limit(path, *SHARES) in ("1536", "129")
    # Again, for the next sandbox of the same pod.
    assert cgroups.create(pod(limits={"cpu": "1500m", "memory": "64Mi"})) == path


def test_all_best_effort_pods_weigh_as_little_as_one(cgroups: PodCgroups) -> None:
    path = cgroups.create(pod())
    assert limit(os.path.dirname(path), *SHARES) in ("2", "1")
    assert limit(path, *SHARES) in ("2", "1")


def test_pids(config: KubeletConfig) -> None:
    limited = PodCgroups(KubeletConfig(state_dir=config.state_dir, cgroup_root=config.cgroup_root, pod_pids_limit=100))
    try:
        assert limit(limited.create(pod()), ("pids", "pids.max"), "pids.max") == "100"
    finally:
        limited.remove("u-1")
        limited.close()


def test_what_still_runs_in_a_pods_cgroup_is_killed(cgroups: PodCgroups, config: KubeletConfig) -> None:
    path = cgroups.create(pod())
    inner = Cgroups.detect(config.cgroup_root)
    created = inner.create(f"{path}/container")
    join = "".join(f"echo 0 > {file}; " for file in created.attach)
    process = subprocess.Popen(["/bin/sh", "-ec", f"{join}echo in; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        cgroups.remove("u-1")
        assert process.wait(timeout=30) == -9
        assert not inner.exists(path)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        inner.close()


def test_removing_is_idempotent_and_needs_only_the_uid(cgroups: PodCgroups, config: KubeletConfig) -> None:
    path = cgroups.create(pod(limits={"memory": "64Mi"}))
    other = PodCgroups(config)
    other.remove("u-1")
    other.remove("u-1")
    other.remove("never-there")
    assert not Cgroups.detect(config.cgroup_root).exists(path)


def test_without_cgroups_pods_run_unlimited_and_one_warning_says_so(config: KubeletConfig) -> None:
    read_only = tuple(Hierarchy(**{**each._asdict(), "writable": False}) for each in hierarchies())
    warnings: list[str] = []
    limited = PodCgroups(config, Cgroups(read_only, config.cgroup_root), warn=warnings.append)
    assert limited.create(pod(limits={"memory": "64Mi"})) == ""
    assert limited.create(pod("u-2")) == ""
    limited.remove("u-1")
    limited.close()
    assert len(warnings) == 1
    assert warnings[0].startswith("pods run without resource limits: ")
