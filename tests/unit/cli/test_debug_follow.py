"""The end of one instance of a container, by the pod's written status: others may have followed it already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from podlite.api.pod import Pod
from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    PodStatus,
)
from podlite.cli.debug_follow import StatusWatch
from podlite.errors import PodliteError
from podlite.kubelet.types import KubeletConfig
from podlite.kubelet.written_pods import WrittenPod, find, take, write_pod

pytestmark = pytest.mark.anyio


def running(id: str, last: str = "", code: int = 0) -> ContainerStatus:
    status = ContainerStatus(name="c", container_id=f"podlite://{id}")
    status.state = ContainerState(running=ContainerStateRunning())
    if last:
        status.last_state = ended(last, code)
    return status


def ended(id: str, code: int) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=code, container_id=f"podlite://{id}"))


@pytest.fixture
def written(tmp_path: Path) -> Iterator[WrittenPod]:
    directory = f"{tmp_path}/pods/uid"
    lock = take(directory, KubeletConfig(run_dir=str(tmp_path)))
    write(directory, running("a"))
    yield find(directory)
    os.close(lock)


def write(directory: str, status: ContainerStatus) -> None:
    write_pod(directory, Pod(status=PodStatus(container_statuses=[status])))


async def test_the_next_instance_runs_before_anybody_looks(written: WrittenPod) -> None:
    with StatusWatch(written, "c") as watch, anyio.fail_after(60):
        write(written.directory, running("b", last="a", code=9))
        assert await watch.ended("a") == 9


async def test_it_is_waited_for_while_it_runs(written: WrittenPod) -> None:
    with StatusWatch(written, "c") as watch, anyio.fail_after(60):
        codes = []
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                codes.append(await watch.ended("b"))

            write(written.directory, running("b", last="a", code=9))
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert codes == []
            status = running("b", last="a", code=9)
            status.state = ended("b", 3)
            write(written.directory, status)
        assert codes == [3]


async def test_nobody_knows_the_last_but_one(written: WrittenPod) -> None:
    write(written.directory, running("c", last="b", code=1))
    with (
        StatusWatch(written, "c") as watch,
        anyio.fail_after(60),
        pytest.raises(PodliteError, match="more than once since"),
    ):
        await watch.ended("a")
