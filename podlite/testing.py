"""pytest fixtures: a network namespace, or a pod sandbox, for other people's tests.

Installing podlite is enough, pytest finds them:

    def test_two_hosts(podlite_netns):
        podlite_netns.run(["ip", "link", "add", "dummy0", "type", "veth"])

    async def test_in_a_pod(podlite_sandbox):
        result = await podlite_sandbox.run(["/bin/cat", "/etc/hostname"])
        assert result.stdout == b"test\\n"

The runtime behind them lives in an event loop and a thread of its own, where one task owns it, and each sandbox,
for its whole life: an async-generator fixture may be finished in another task than it was begun in, which no task
group survives. So the fixtures work in plain tests, under pytest-asyncio and under anyio's plugin alike.

Everything is in directories of the session's own, and gone at its end. Tests are skipped, visibly, without root.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from podlite.library import Completed, Sandbox
    from podlite.runtime.service import Runtime

T = TypeVar("T")


class Network:
    """A network namespace with `lo` up. `path` is its pin, `name` what `ip netns` calls it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path)

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command of the host in the namespace; its output is text. Raises CalledProcessError if it fails."""
        command = ["nsenter", f"--net={self.path}", "--", *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True, **options)


class PodSandbox:
    """A sandbox that a test can use from whatever loop it runs in, or from none."""

    def __init__(self, portal: BlockingPortal, sandbox: Sandbox) -> None:
        self._portal = portal
        self._sandbox = sandbox

    @property
    def network(self) -> Network:
        """The pod's network namespace."""
        return Network(self._sandbox.netns_path)

    async def run(self, argv: Sequence[str], **options: Any) -> Completed:
        """Runs a process in a container of its own, to its end; see podlite.library.Sandbox.run."""
        future = self._portal.start_task_soon(lambda: self._sandbox.run(argv, **options))
        return await asyncio.wrap_future(future)

    def run_sync(self, argv: Sequence[str], **options: Any) -> Completed:
        """`run` for a test that is no coroutine."""
        return self._portal.call(lambda: self._sandbox.run(argv, **options))


class Owner:
    """Runs podlite in a thread of its own, and enters and leaves its context managers there."""

    def __init__(self, portal: BlockingPortal, runtime: Runtime) -> None:
        self.portal = portal
        self.runtime = runtime

    def own(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> AbstractContextManager[T]:
        """The async context manager as a plain one: one task of the portal's enters and leaves it."""
        return self.portal.wrap_async_context_manager(make())


@pytest.fixture(scope="session")
def podlite_owner() -> Iterator[Owner]:
    """podlite's runtime for the session, with directories of its own and no network but loopback."""
    if os.geteuid() != 0:
        pytest.skip("podlite's fixtures need root: they make namespaces")
    from anyio.from_thread import start_blocking_portal

    from podlite.library import open_runtime
    from podlite.linux.syscalls import MNT_DETACH, umount2
    from podlite.runtime.layout import Layout

    directory = tempfile.mkdtemp(prefix="podlite-pytest-")
    layout = Layout(
        run_dir=f"{directory}/run",
        state_dir=f"{directory}/state",
        log_dir=f"{directory}/log",
        netns_dir=f"{directory}/netns",
        cgroup_root=f"/podlite-pytest-{os.getpid()}",
    )
    try:
        with start_blocking_portal("asyncio") as portal:
            runtime = portal.wrap_async_context_manager(open_runtime(layout, network="none"))
            with runtime as opened:
                yield Owner(portal, opened)
    finally:
        try:
            umount2(layout.netns_dir, MNT_DETACH)
        except OSError:
            pass  # it was never made
        shutil.rmtree(directory)


@pytest.fixture
def podlite_sandbox(podlite_owner: Owner) -> Iterator[PodSandbox]:
    """A pod sandbox, hostname `test`, with a network namespace that has nothing but `lo`."""
    from podlite.library import open_sandbox

    with podlite_owner.own(lambda: open_sandbox(podlite_owner.runtime, "test")) as sandbox:
        yield PodSandbox(podlite_owner.portal, sandbox)


@pytest.fixture
def podlite_netns(podlite_sandbox: PodSandbox) -> Network:
    """A network namespace with `lo` up, pinned for as long as the test runs."""
    return podlite_sandbox.network
