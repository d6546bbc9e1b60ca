"""What the machine has, read from files as the kernel writes them (proc(5), admin-guide/mm/hugetlbpage.rst)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podlite.kubelet import node
from podlite.kubelet.types import KubeletConfig

NANO = 10**9
MEBI = 1 << 20


@pytest.fixture(autouse=True)
def nothing_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_memory", 0)
    monkeypatch.setattr(node, "_huge_pages", None)
    monkeypatch.setattr(node, "_cgroup_v2", None)


def test_this_machine() -> None:
    config = KubeletConfig()
    with open("/proc/meminfo", encoding="ascii") as file:
        total = next(int(line.split()[1]) for line in file if line.startswith("MemTotal:"))
    assert node.memory_capacity(config) == total * 1024
    assert node.cpu_capacity(config) == os.cpu_count()


def test_configured_figures_go_first() -> None:
    config = KubeletConfig(memory_bytes=7 * MEBI, cpu_count=3)
    assert (node.memory_capacity(config), node.cpu_capacity(config)) == (7 * MEBI, 3)


def test_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pages in (("hugepages-2048kB", 8), ("hugepages-1048576kB", 0), ("hugepages-64kB", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nr_hugepages").write_text(f"{pages}\n")
    monkeypatch.setattr(node, "_HUGE_PAGES", str(tmp_path))
    assert node.huge_pages() == {2 * MEBI: 8, 1024 * MEBI: 0, 65536: 3}
    config = KubeletConfig(memory_bytes=MEBI, cpu_count=1, state_dir=str(tmp_path / "none" / "state"))
    found = node.allocatable(config)
    assert found["hugepages-2Mi"] == 16 * MEBI * NANO
    assert found["hugepages-1Gi"] == 0
    assert found["hugepages-64Ki"] == 3 * 65536 * NANO
    assert found["cpu"] == NANO
    assert found["memory"] == MEBI * NANO
    assert found["ephemeral-storage"] > 0


def test_a_kernel_without_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_HUGE_PAGES", str(tmp_path / "none"))
    assert node.huge_pages() == {}


def test_cgroup_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_CGROUP_MOUNT", str(tmp_path))
    assert not node.cgroup_v2()
    (tmp_path / "cgroup.controllers").touch()
    # Looked up once.
    assert not node.cgroup_v2()
    monkeypatch.setattr(node, "_cgroup_v2", None)
    assert node.cgroup_v2()
