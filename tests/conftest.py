from __future__ import annotations

import importlib.machinery
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from podlite.runtime.layout import RUN_DIR
from tests.support.leaks import leaked, machine_state

if TYPE_CHECKING:
    from podlite.runtime.layout import Layout
    from podlite.runtime.service import Runtime

# Time limits belong in benchmarks/: on a busy machine an example may take longer than the 200 ms of the default.
hypothesis.settings.register_profile("podlite", deadline=None)
hypothesis.settings.load_profile("podlite")

# gRPC starts its threads again in a child of fork(2), and then that cannot make a user namespace (unshare(2), EINVAL):
# tests that fork in this process would fail, or be skipped, where those of the wire have been before.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


class PlainImports:
    """podlite's modules are imported as they are.

    pytest would rewrite their assertions, for podlite is a plugin of it. That goes through `ast`, and many are imported
    late, in a process with threads, where Python 3.11 fails at it now and then (SystemError: AST constructor recursion
    depth mismatch; python/cpython#106905).
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> object:
        if name.partition(".")[0] != "podlite":
            return None
        return importlib.machinery.PathFinder.find_spec(name, path)


sys.meta_path.insert(0, PlainImports)  # type: ignore[arg-type]

REAL = tuple(Path(__file__).parent / name for name in ("integration", "conformance"))


def pytest_configure() -> None:
    """What runs under nohup(1), or in a shell's background, ignores signals, and so would each command under test:
    POSIX, 2.11 Signals and Error Handling. Of a signal with a handler execve(2) makes one with the default action."""
    for each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, lambda *_: None)


def pytest_sessionstart() -> None:
    """The second half of tests/support/private_machine, where this is one."""
    if os.environ.pop("PODLITE_TESTS_PRIVATE", ""):
        from tests.support.private_network import enter

        enter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root are skipped, visibly, for everybody else."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root and real namespaces"))


@pytest.fixture
def anyio_backend() -> str:
    """podlite is an asyncio program: its plumbing uses asyncio's futures and reader callbacks."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """The leak check around the whole suite: what tests make on the machine is gone when they end."""
    items = request.session.items
    if os.geteuid() != 0 or not any(each in item.path.parents for item in items for each in REAL):
        yield
        return
    before = machine_state()
    was_mounted = os.path.ismount(RUN_DIR)
    yield
    # The kernel frees network namespaces, and the links in them, in its own time.
    deadline = time.monotonic() + 10
    while left := leaked(before, machine_state()):
        if time.monotonic() > deadline:
            pytest.fail(f"the tests left this behind: {left}")
        time.sleep(0.05)
    if not was_mounted and os.path.ismount(RUN_DIR):
        _unmount(RUN_DIR)


def _unmount(directory: str, flags: int = 0) -> None:
    from podlite.linux.syscalls import umount2

    try:
        umount2(directory, flags)
    except OSError:
        pass  # never made, or no mount point, or somebody else uses it meanwhile


@pytest.fixture
def short_tmp() -> Iterator[str]:
    """A directory with a short path (sockets have at most 107 bytes for theirs)."""
    directory = tempfile.mkdtemp(prefix="podlite-")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def shared_state_dir() -> Iterator[str]:
    """A state directory for the whole session: the embedded image is made once in it."""
    directory = tempfile.mkdtemp(prefix="podlite-state-")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def layout(short_tmp: str, shared_state_dir: str) -> Iterator[Layout]:
    """Directories of the test's own, so that it can be run beside a podlite that somebody uses."""
    from podlite.linux.syscalls import MNT_DETACH
    from podlite.runtime.layout import Layout
    from tests.support.cgroup_roots import own_root, remove_root

    made = Layout(
        run_dir=f"{short_tmp}/run",
        state_dir=shared_state_dir,
        log_dir=f"{short_tmp}/log",
        netns_dir=f"{short_tmp}/netns",
        cgroup_root=own_root(),
    )
    yield made
    _unmount(made.netns_dir, MNT_DETACH)
    remove_root(made.cgroup_root)


@pytest.fixture
async def runtime(layout: Layout, anyio_backend: str) -> AsyncIterator[Runtime]:
    """podlite's runtime, open, with directories of its own and no network but loopback."""
    from podlite.runtime.network.none import NoneNetwork
    from podlite.runtime.service import Runtime

    async with Runtime(layout, network=NoneNetwork()) as opened:
        yield opened
