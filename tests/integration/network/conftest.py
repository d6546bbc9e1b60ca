from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_hosts import Host, new_host

from podlite.linux import netns
from podlite.linux.syscalls import MNT_DETACH, umount2


@pytest.fixture
def run_dir() -> Iterator[str]:
    """A run directory; mounts are made in it, so it must be short-lived and nobody else's."""
    directory = tempfile.mkdtemp(prefix="podlite-test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    yield directory
    # A test that failed may have left pins; a mount that stays would be everybody's.
    pins = f"{directory}/netns"
    for name in os.listdir(pins) if os.path.isdir(pins) else []:
        netns.remove(f"{pins}/{name}")
    try:
        umount2(pins, MNT_DETACH)
    except OSError:
        pass  # it is no mount point of its own, as it is for a whole podlite
    shutil.rmtree(directory)


@pytest.fixture
def host(run_dir: str) -> Iterator[Host]:
    """A host with an uplink; whatever a test leaves behind there goes with the namespace."""
    with new_host(run_dir, uplink=True) as made:
        yield made


@pytest.fixture
def lonely(run_dir: str) -> Iterator[Host]:
    """A host with only `lo`."""
    with new_host(run_dir, uplink=False) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="needs root: network namespaces")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)
            if os.geteuid() != 0:
                item.add_marker(skip)
