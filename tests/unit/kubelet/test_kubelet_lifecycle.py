"""Lifecycle handlers that need no network: commands, pauses, and what cannot be run.

Texts from pkg/kubelet/lifecycle/handlers.go and cri-client's ExecSync, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from podlite.api.container import Container
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod
from podlite.api.probes import ExecAction, HTTPGetAction, LifecycleHandler, SleepAction, TCPSocketAction
from podlite.cri.errors import CRIError
from podlite.cri.types import ExecSyncResult, PodSandboxFilter
from podlite.kubelet.lifecycle import HookError, run_handler
from tests.support.clock import FakeClock

POD = Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"))
CONTAINER = Container(name="c")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Commands:
    """The runtime as far as handlers see it."""

    def __init__(self, answer: ExecSyncResult | Exception | None = None) -> None:
        self.answer = answer or ExecSyncResult()
        self.asked: list[tuple[str, list[str], float]] = []

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResult:
        self.asked.append((container_id, cmd, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def list_pod_sandbox(self, filter: PodSandboxFilter | None = None) -> list[Any]:
        return []


async def run(handler: LifecycleHandler, runtime: Commands | None = None, **options: Any) -> None:
    await run_handler(runtime or Commands(), "1", POD, CONTAINER, handler, **options)  # type: ignore[arg-type]


async def failure(handler: LifecycleHandler, runtime: Commands | None = None, **options: Any) -> str:
    with pytest.raises(HookError) as raised:
        await run(handler, runtime, **options)
    assert raised.value.reason == "PostStartHookError"
    return raised.value.message


async def test_a_command_runs_without_a_time_limit() -> None:
    runtime = Commands()
    await run(LifecycleHandler(exec=ExecAction(command=["a", "b"])), runtime)
    assert runtime.asked == [("1", ["a", "b"], 0)]


async def test_a_command_that_fails() -> None:
    runtime = Commands(ExecSyncResult(stdout=b'say "hi"\n', stderr=b"oops", exit_code=3))
    assert await failure(LifecycleHandler(exec=ExecAction(command=["a", "b"])), runtime) == (
        'Exec lifecycle hook ([a b]) for Container "c" in Pod "p_ns(u)" failed - error: '
        'command \'a b\' exited with 3: oops, message: "say \\"hi\\"\\noops"'
    )


async def test_a_command_that_cannot_be_run() -> None:
    runtime = Commands(CRIError("no such container"))
    assert await failure(LifecycleHandler(exec=ExecAction(command=["a"])), runtime) == (
        'Exec lifecycle hook ([a]) for Container "c" in Pod "p_ns(u)" failed - error: no such container, message: ""'
    )


async def test_a_pause() -> None:
    clock = FakeClock()
    done: list[float] = []

    async def sleep() -> None:
        await run(LifecycleHandler(sleep=SleepAction(seconds=5)), clock=clock)
        done.append(clock.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        await clock.advance(4.9)
        assert done == []
        await clock.advance(1)
    assert done == [5.0]


@pytest.mark.parametrize("handler", [LifecycleHandler(), LifecycleHandler(tcp_socket=TCPSocketAction(port=80))])
async def test_what_cannot_be_run(handler: LifecycleHandler) -> None:
    assert (await failure(handler)).startswith("Cannot run handler: invalid handler: ")


@pytest.mark.parametrize(
    ("action", "ips", "text"),
    [
        (HTTPGetAction(path="/x", port=80), [], "failed to find networking container: the pod has no address"),
        (HTTPGetAction(path="/x", port=80), None, "failed to find networking container: the pod has no address"),
        (HTTPGetAction(path="/x", port="web"), ["127.0.0.1"], 'strconv.Atoi: parsing "web": invalid syntax'),
    ],
)
async def test_requests_that_cannot_be_made(action: HTTPGetAction, ips: list[str] | None, text: str) -> None:
    assert await failure(LifecycleHandler(http_get=action), pod_ips=ips) == (
        f'HTTP lifecycle hook (/x) for Container "c" in Pod "p_ns(u)" failed - error: {text}'
    )
