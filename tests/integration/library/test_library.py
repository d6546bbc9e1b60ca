"""podlite as a library: a runtime, a sandbox, processes, and nothing left."""

from __future__ import annotations

import os

import anyio
import pytest

import podlite
from podlite.runtime.layout import Layout
from tests.support.leaks import processes_titled

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def test_the_few_lines_of_the_documentation(layout: Layout) -> None:
    async with (
        podlite.open_runtime(layout, network="none") as runtime,
        podlite.open_sandbox(runtime, "demo") as sandbox,
    ):
        pin = sandbox.netns_path
        assert os.path.exists(pin)
        result = await sandbox.run(["/bin/sh", "-c", "hostname; cat; echo oops >&2; exit 3"], stdin=b"hello\n")
        assert result == podlite.Completed(3, b"demo\nhello\n", b"oops\n")
        async with await sandbox.start(["/bin/cat"], stdin=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(b"ping")
            assert await process.stdout.receive() == b"ping"
    assert not os.path.exists(pin)
    assert os.listdir(layout.containers_dir) == []
    assert list(processes_titled("podlite: shim default/demo")) == []
    assert not os.path.exists(f"/sys/fs/cgroup/unified{layout.cgroup_root}")


async def test_a_command_that_is_not_there(layout: Layout) -> None:
    async with (
        podlite.open_runtime(layout, network="none") as runtime,
        podlite.open_sandbox(runtime) as sandbox,
    ):
        with pytest.raises(podlite.PodliteError, match="executable file not found"):
            await sandbox.run(["no-such-command"])
        # The sandbox is as good as before.
        assert (await sandbox.run(["/bin/true"])).code == 0


async def test_left_by_an_error_or_a_cancellation_nothing_stays(layout: Layout) -> None:
    with pytest.raises(ZeroDivisionError):
        async with podlite.open_runtime(layout, network="none") as runtime, podlite.open_sandbox(runtime) as sandbox:
            await sandbox.start(["/bin/sleep", "1000"])
            1 / 0  # noqa: B018
    with anyio.move_on_after(0.3):
        async with podlite.open_runtime(layout, network="none") as runtime, podlite.open_sandbox(runtime) as sandbox:
            await sandbox.run(["/bin/sleep", "1000"])
    assert os.listdir(layout.pods_dir) == []
    assert os.listdir(layout.netns_dir) == []
    assert os.listdir(layout.containers_dir) == []
    assert list(processes_titled("podlite: shim default/sandbox")) == []


async def test_a_sandbox_per_task(layout: Layout) -> None:
    seen = set()

    async def one(runtime: podlite.library.Runtime, name: str) -> None:
        async with podlite.open_sandbox(runtime, name) as sandbox:
            result = await sandbox.run(["/bin/readlink", "/proc/self/ns/net"])
            seen.add(result.stdout)

    async with podlite.open_runtime(layout, network="none") as runtime, anyio.create_task_group() as tasks:
        for index in range(8):
            tasks.start_soon(one, runtime, f"task-{index}")
    assert len(seen) == 8
