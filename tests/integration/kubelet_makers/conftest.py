"""A state directory of a kubelet's own, with nothing mounted in it afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlite.kubelet.types import KubeletConfig
from podlite.linux.syscalls import MNT_DETACH, umount2
from tests.integration.kubelet_makers.makers import mounts_below
from tests.support.cgroup_roots import own_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    for item in items:
        # Servers on loopback need nothing.
        if str(item.path).startswith(here) and item.path.stem not in ("test_makers_probes", "test_makers_grpc"):
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="needs root"))


@pytest.fixture
def config(tmp_path: Path) -> Iterator[KubeletConfig]:
    yield KubeletConfig(
        state_dir=str(tmp_path / "state"),
        log_dir=str(tmp_path / "log"),
        memory_bytes=1 << 30,
        cpu_count=2,
        cgroup_root=own_root(),
    )
    left = mounts_below(str(tmp_path))
    for path in left:
        umount2(path, MNT_DETACH)
    assert left == []
