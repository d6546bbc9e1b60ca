from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest

from podlite.linux import netns
from podlite.runtime.layout import Layout
from tests.support.cli import SECONDS, Podlite


@pytest.fixture(scope="session")
def host_netns() -> Iterator[str]:
    """A network namespace that plays the host, with nothing but `lo`: the real one stays as it is."""
    with tempfile.TemporaryDirectory(prefix="podlite-") as directory:
        path = f"{directory}/host"
        own = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            netns.create(path, own, lambda: subprocess.run(["ip", "link", "set", "lo", "up"], check=True))
        finally:
            os.close(own)
        yield path
        netns.remove(path)


@pytest.fixture
def podlite(layout: Layout, host_netns: str, short_tmp: str) -> Iterator[Podlite]:
    """`podlite`, as a command. A test that passes must leave nothing: what it keeps, it removes."""
    made = Podlite(layout, host_netns, short_tmp)
    try:
        yield made
        made.end()
        deadline = time.monotonic() + SECONDS
        # A shim that was told to go is not gone yet when the command that told it is.
        # Looked at once each time: the spawner of a command that ended at once has its name only later, and ends then.
        while (left := made.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == {}
    finally:
        made.close()
