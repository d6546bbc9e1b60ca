"""Volumes in memory, on a real tmpfs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from podlite.api.config import Secret
from podlite.api.container import ResourceRequirements
from podlite.api.env import ObjectFieldSelector
from podlite.api.meta import ObjectMeta
from podlite.api.volumes import (
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    ProjectedVolumeSource,
    SecretProjection,
    SecretVolumeSource,
    Volume,
    VolumeProjection,
)
from podlite.kubelet.objects import Objects
from podlite.kubelet.types import KubeletConfig, VolumeError
from podlite.linux.syscalls import MS_BIND, TMPFS_MAGIC, filesystem_type, mount, umount2
from tests.integration.kubelet_makers.makers import make_pod, mounts_below, set_up, tear_down

OBJECTS = Objects([Secret(metadata=ObjectMeta(name="s", namespace="ns"), data={"token": b"t"})])
MEMORY = Volume(name="m", empty_dir=EmptyDirVolumeSource(medium="Memory", size_limit="1Mi"))


def is_tmpfs(path: str) -> bool:
    fd = os.open(path, os.O_PATH)
    try:
        return filesystem_type(fd) == TMPFS_MAGIC
    finally:
        os.close(fd)


def test_a_size_limit_in_memory_is_enforced_by_the_kernel(config: KubeletConfig) -> None:
    path = set_up(make_pod(MEMORY), config)["m"]
    assert is_tmpfs(path)
    found = os.statvfs(path)
    assert found.f_blocks * found.f_frsize == 1 << 20
    with pytest.raises(OSError, match="No space left") as failure:
        Path(path, "big").write_bytes(b"x" * (2 << 20))
    assert failure.value.errno == errno.ENOSPC
    tear_down(config)


def test_setting_up_again_keeps_what_is_there(config: KubeletConfig) -> None:
    path = set_up(make_pod(MEMORY), config)["m"]
    Path(path, "kept").touch()
    assert set_up(make_pod(MEMORY), config)["m"] == path
    assert os.listdir(path) == ["kept"]
    assert mounts_below(config.state_dir) == [path]
    tear_down(config)
    tear_down(config)
    assert mounts_below(config.state_dir) == []
    assert os.listdir(f"{config.state_dir}/pods") == []


def test_secrets_and_all_that_is_projected_are_in_memory(config: KubeletConfig) -> None:
    name = DownwardAPIVolumeFile(path="name", field_ref=ObjectFieldSelector(field_path="metadata.name"))
    pod = make_pod(
        Volume(name="secret", secret=SecretVolumeSource(secret_name="s")),
        Volume(name="down", downward_api=DownwardAPIVolumeSource(items=[name])),
        Volume(
            name="projected",
            projected=ProjectedVolumeSource(sources=[VolumeProjection(secret=SecretProjection(name="s"))]),
        ),
    )
    paths = set_up(pod, config, OBJECTS)
    assert all(is_tmpfs(path) for path in paths.values())
    assert Path(paths["secret"], "token").read_bytes() == b"t"
    assert Path(paths["projected"], "token").read_bytes() == b"t"
    assert Path(paths["down"], "name").read_bytes() == b"p"
    tear_down(config)


def test_a_volume_that_is_still_open_goes_nevertheless(config: KubeletConfig) -> None:
    path = set_up(make_pod(MEMORY), config)["m"]
    Path(path, "file").write_text("x")
    with Path(path, "file").open() as held:
        tear_down(config)
        assert not os.path.exists(path)
        assert held.read() == "x"


def test_one_mounted_twice_by_a_race_of_two_managers_goes_too(config: KubeletConfig) -> None:
    path = set_up(make_pod(MEMORY), config)["m"]
    mount("tmpfs", path, "tmpfs", 0, "size=64k")
    assert len(mounts_below(config.state_dir)) == 2
    tear_down(config)


def test_after_a_reboot_the_group_is_given_again(config: KubeletConfig) -> None:
    # The directory and its mark survive a reboot, the tmpfs does not.
    pod = make_pod(MEMORY, fs_group=4321)
    path = set_up(pod, config)["m"]
    umount2(path)
    assert set_up(pod, config)["m"] == path
    assert os.stat(path).st_gid == 4321
    tear_down(config)


def test_what_somebody_mounted_into_a_volume_is_never_emptied(config: KubeletConfig, tmp_path: Path) -> None:
    path = set_up(make_pod(Volume(name="e", empty_dir=EmptyDirVolumeSource())), config)["e"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    os.mkdir(f"{path}/inside")
    mount(str(precious), f"{path}/inside", None, MS_BIND)
    with pytest.raises(VolumeError, match="cannot be taken down"):
        tear_down(config)
    assert (precious / "file").read_text() == "x"
    umount2(f"{path}/inside")
    tear_down(config)
    assert os.listdir(f"{config.state_dir}/pods") == []


def test_huge_pages(config: KubeletConfig, tmp_path: Path) -> None:
    (tmp_path / "try").mkdir()
    try:
        mount("nodev", str(tmp_path / "try"), "hugetlbfs", 0, "pagesize=2M")
    except OSError as error:
        pytest.skip(f"hugetlbfs cannot be mounted here: {error}")
    umount2(str(tmp_path / "try"))
    pod = make_pod(Volume(name="h", empty_dir=EmptyDirVolumeSource(medium="HugePages-2Mi")), fs_group=4321)
    pod.spec.containers[0].resources = ResourceRequirements(requests={"hugepages-2Mi": "2Mi", "hugepages-1Gi": "0"})
    path = set_up(pod, config)["h"]
    assert os.statvfs(path).f_bsize == 2 << 20
    assert os.stat(path).st_gid == 4321
    assert set_up(pod, config)["h"] == path
    assert mounts_below(config.state_dir) == [path]
    tear_down(config)
    assert os.listdir(f"{config.state_dir}/pods") == []
