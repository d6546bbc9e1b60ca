"""fsGroup on real files: who gets the group, and who must not.

"Configure volume permission and ownership change policy for Pods"; modes as in pkg/volume/volume_linux.go.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from podlite.api.config import ConfigMap
from podlite.api.meta import ObjectMeta
from podlite.api.volumes import (
    ConfigMapVolumeSource,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    PersistentVolumeClaimVolumeSource,
    Volume,
)
from podlite.kubelet.objects import Objects
from podlite.kubelet.types import KubeletConfig
from podlite.kubelet.volumes.ownership import set_ownership
from tests.integration.kubelet_makers.makers import make_pod, set_up, tear_down

GROUP = 54321


def facts(path: str | Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "d/e").mkdir(parents=True)
    (root / "f").write_text("x")
    (root / "d/run").write_text("x")
    os.chmod(root / "f", 0o600)
    os.chmod(root / "d/run", 0o4755)
    os.chmod(root / "d", 0o700)
    os.mkfifo(root / "fifo", 0o600)
    (root / "link").symlink_to("f")
    return root


def test_everything_belongs_to_the_group(tree: Path) -> None:
    set_ownership(str(tree), GROUP)
    assert facts(tree / "f") == (GROUP, 0o660)
    assert facts(tree / "d") == (GROUP, 0o2770)
    assert facts(tree / "d/e")[0] == GROUP
    assert facts(tree / "d/run") == (GROUP, 0o4775)
    assert facts(tree / "fifo") == (GROUP, 0o660)
    assert facts(tree / "link")[0] == GROUP
    assert facts(tree)[1] & 0o2770 == 0o2770


def test_read_only_volumes_can_be_read(tree: Path) -> None:
    set_ownership(str(tree), GROUP, read_only=True)
    assert facts(tree / "f") == (GROUP, 0o640)
    assert facts(tree / "d") == (GROUP, 0o2750)


def test_what_links_point_to_is_not_touched(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    os.chmod(outside / "secret", 0o600)
    os.chmod(outside, 0o700)
    (tree / "file").symlink_to(outside / "secret")
    (tree / "directory").symlink_to(outside)
    set_ownership(str(tree), GROUP)
    assert facts(outside) == (0, 0o700)
    assert facts(outside / "secret") == (0, 0o600)


def test_a_name_that_is_swapped_meanwhile_leads_nowhere_else(tree: Path, tmp_path: Path) -> None:
    """Another pod replaces a directory by a link to the host's, and back, as fast as it can."""
    outside = tmp_path / "outside"
    outside.mkdir()
    names = [f"file{number}" for number in range(20)]
    for name in names:
        (outside / name).write_text("x")
        os.chmod(outside / name, 0o600)
    victim, parked = tree / "victim", tmp_path / "parked"
    victim.mkdir()
    for name in names:
        (victim / name).write_text("x")
    # In a process of its own, so that it really runs at the same time.
    swap = (
        "import os, sys\n"
        "victim, parked, outside = sys.argv[1:]\n"
        "print(flush=True)\n"
        "while True:\n"
        "    os.rename(victim, parked)\n"
        "    os.symlink(outside, victim)\n"
        "    for _ in range(20): os.path.islink(victim)\n"
        "    os.unlink(victim)\n"
        "    os.rename(parked, victim)\n"
        "    for _ in range(20): os.path.islink(victim)\n"
    )
    command = [sys.executable, "-c", swap, str(victim), str(parked), str(outside)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        try:
            for _ in range(500):
                set_ownership(str(tree), GROUP)
        finally:
            swapper.kill()
    assert {facts(outside / name) for name in names} == {(0, 0o600)}


def test_on_root_mismatch(tree: Path) -> None:
    set_ownership(str(tree), GROUP)
    os.chmod(tree / "f", 0o600)
    set_ownership(str(tree), GROUP, on_root_mismatch=True)
    assert facts(tree / "f") == (GROUP, 0o600)
    set_ownership(str(tree), GROUP)
    assert facts(tree / "f") == (GROUP, 0o660)
    set_ownership(str(tree), GROUP + 1, on_root_mismatch=True)
    assert facts(tree / "f")[0] == GROUP + 1


def test_a_tree_that_is_too_deep_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(OSError, match="nested more than 400 deep"):
        set_ownership(str(tmp_path), GROUP)


def test_volumes_of_a_pod(config: KubeletConfig, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    pod = make_pod(
        Volume(name="e", empty_dir=EmptyDirVolumeSource()),
        Volume(name="m", empty_dir=EmptyDirVolumeSource(medium="Memory")),
        Volume(name="c", config_map=ConfigMapVolumeSource(name="cm", default_mode=0o400)),
        Volume(name="d", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="data")),
        Volume(name="h", host_path=HostPathVolumeSource(path=str(tmp_path / "host"))),
        fs_group=GROUP,
    )
    objects = Objects([ConfigMap(metadata=ObjectMeta(name="cm", namespace="ns"), data={"a": "1"})])
    paths = set_up(pod, config, objects)
    for name in "emd":
        gid, mode = facts(paths[name])
        assert gid == GROUP
        assert mode & 0o2770 == 0o2770
    # A mode of 0400 would be of no use to the group.
    assert os.stat(f"{paths['c']}/a").st_gid == GROUP
    assert stat.S_IMODE(os.stat(f"{paths['c']}/a").st_mode) == 0o440
    # What is the host's stays the host's.
    assert facts(paths["h"])[0] == 0

    # What the pod does to its own files afterwards stays as well.
    Path(paths["e"], "private").touch(mode=0o600)
    os.chown(Path(paths["e"], "private"), 0, 0)
    set_up(pod, config, objects)
    assert facts(Path(paths["e"], "private")) == (0, 0o600)
    tear_down(config)


def test_a_named_volume_keeps_its_group_while_another_pod_uses_it(config: KubeletConfig) -> None:
    volume = Volume(name="d", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="data"))
    path = set_up(make_pod(volume, uid="u-1", fs_group=GROUP), config)["d"]
    set_up(make_pod(volume, uid="u-2", fs_group=GROUP + 1), config)
    assert facts(path)[0] == GROUP
    tear_down(config, "u-1")
    tear_down(config, "u-2")
    set_up(make_pod(volume, uid="u-3", fs_group=GROUP + 1), config)
    assert facts(path)[0] == GROUP + 1
    tear_down(config, "u-3")
