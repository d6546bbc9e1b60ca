"""When probes are tried and what their results come to, on a clock that stands still until it is moved.

Expected values: API reference of Probe (initialDelaySeconds, periodSeconds, successThreshold, failureThreshold),
"Configure Liveness, Readiness and Startup Probes", pkg/kubelet/prober/{worker,prober,prober_manager}.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from podlite.api.container import Container, EnvVar
from podlite.api.env import EnvVarSource, ObjectFieldSelector
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.probes import ExecAction, HTTPGetAction, Probe, TCPSocketAction
from podlite.api.status import ContainerStatus, PodStatus
from podlite.cri.errors import CRIError, DeadlineExceededError
from podlite.cri.types import ContainerState, ExecSyncResult
from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus
from podlite.kubelet.prober.manager import ProbeManager
from podlite.kubelet.prober.results import ResultsManager
from podlite.kubelet.prober.worker import Instance, Kind, Step, Worker
from podlite.kubelet.types import ProbeResult
from tests.support.clock import FakeClock, settle

SECOND = 1_000_000_000
OK, FAILED = ExecSyncResult(exit_code=0), ExecSyncResult(stdout=b"out", stderr=b"err", exit_code=1)
UNKNOWN, SUCCESS, FAILURE = ProbeResult.UNKNOWN, ProbeResult.SUCCESS, ProbeResult.FAILURE

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def probe(**fields: Any) -> Probe:
    if not any(fields.get(action) for action in ("http_get", "tcp_socket", "grpc")):
        fields.setdefault("exec", ExecAction(command=["check"]))
    defaults = {"timeout_seconds": 1, "period_seconds": 10, "success_threshold": 1, "failure_threshold": 3}
    return Probe(**{**defaults, **fields})


def pod(*containers: Container, **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(containers=list(containers), restart_policy="Always", **spec),
    )


# --- the worker alone -------------------------------------------------------------------------


def worker(kind: Kind, **fields: Any) -> tuple[Worker, ResultsManager]:
    results = ResultsManager(lambda *_: None)
    container = Container(name="c")
    return Worker(pod(container), container, kind, probe(**fields), results), results


NOW = 1000 * SECOND


def tick(each: Worker, instance: Instance | None, **facts: Any) -> Step:
    return each.tick(instance, **{"started": True, "deleted": False, "now_ns": NOW, **facts})


def running(container_id: str = "1", since: int = NOW) -> Instance:
    return Instance(container_id, started_at=since)


@pytest.mark.parametrize(
    ("kind", "initial"), [(Kind.LIVENESS, SUCCESS), (Kind.READINESS, FAILURE), (Kind.STARTUP, UNKNOWN)]
)
def test_initial_results(kind: Kind, initial: ProbeResult) -> None:
    each, results = worker(kind, initial_delay_seconds=5)
    assert tick(each, None) is Step.WAIT
    assert results.get("1") is None
    assert tick(each, running(), started=kind is not Kind.STARTUP) is Step.WAIT
    assert results.get("1") is initial


@pytest.mark.parametrize(
    ("since", "delay", "step"),
    [
        (NOW, 0, Step.PROBE),
        (NOW - 5 * SECOND + 1, 5, Step.WAIT),
        (NOW - 5 * SECOND, 5, Step.PROBE),
        (NOW - 6 * SECOND, 5, Step.PROBE),
    ],
)
def test_the_initial_delay_counts_from_the_start_of_the_container(since: int, delay: int, step: Step) -> None:
    each, _ = worker(Kind.LIVENESS, initial_delay_seconds=delay)
    assert tick(each, running(since=since)) is step


@pytest.mark.parametrize(
    ("kind", "started", "step"),
    [
        (Kind.STARTUP, False, Step.PROBE),
        (Kind.STARTUP, True, Step.WAIT),
        (Kind.LIVENESS, False, Step.WAIT),
        (Kind.LIVENESS, True, Step.PROBE),
        (Kind.READINESS, False, Step.WAIT),
        (Kind.READINESS, True, Step.PROBE),
    ],
)
def test_startup_gates_the_others(kind: Kind, started: bool, step: Step) -> None:
    each, _ = worker(kind)
    assert tick(each, running(), started=started) is step


def test_thresholds() -> None:
    each, results = worker(Kind.READINESS, success_threshold=2, failure_threshold=3)
    tick(each, running())
    for result, expected in [
        (SUCCESS, FAILURE),
        (SUCCESS, SUCCESS),
        (FAILURE, SUCCESS),
        (FAILURE, SUCCESS),
        (SUCCESS, SUCCESS),
        (FAILURE, SUCCESS),
        (FAILURE, SUCCESS),
        (FAILURE, FAILURE),
        (FAILURE, FAILURE),
        (SUCCESS, FAILURE),
        (SUCCESS, SUCCESS),
    ]:
        each.conclude("1", result)
        assert results.get("1") is expected
    assert tick(each, running()) is Step.PROBE


@pytest.mark.parametrize(
    ("kind", "result", "held"),
    [
        (Kind.LIVENESS, FAILURE, True),
        (Kind.LIVENESS, SUCCESS, False),
        (Kind.STARTUP, SUCCESS, True),
        (Kind.STARTUP, FAILURE, True),
        (Kind.READINESS, FAILURE, False),
    ],
)
def test_on_hold_until_there_is_another_instance(kind: Kind, result: ProbeResult, held: bool) -> None:
    each, results = worker(kind, failure_threshold=1)
    startup = kind is Kind.STARTUP
    tick(each, running(), started=not startup)
    each.conclude("1", result)
    assert tick(each, running(), started=not startup) is (Step.WAIT if held else Step.PROBE)
    assert tick(each, running("2"), started=not startup) is Step.PROBE
    assert results.get("1") is None
    assert results.get("2") is not None


def test_a_result_of_an_instance_that_is_gone_does_not_count() -> None:
    each, results = worker(Kind.LIVENESS, failure_threshold=1)
    tick(each, running("1"))
    tick(each, running("2"))
    each.conclude("1", FAILURE)
    assert results.get("2") is SUCCESS
    assert results.get("1") is None


def test_a_container_that_does_not_run_fails() -> None:
    each, results = worker(Kind.LIVENESS)
    tick(each, running())
    assert tick(each, Instance("1", ended=True, restarts=True)) is Step.WAIT
    assert results.get("1") is FAILURE
    assert tick(each, Instance("1", ended=True, restarts=False)) is Step.END


@pytest.mark.parametrize(
    ("kind", "step"), [(Kind.LIVENESS, Step.END), (Kind.STARTUP, Step.END), (Kind.READINESS, Step.PROBE)]
)
def test_a_pod_that_is_being_deleted_is_only_asked_whether_it_is_ready(kind: Kind, step: Step) -> None:
    each, results = worker(kind)
    assert tick(each, running(), deleted=True, started=kind is not Kind.STARTUP) is step
    if step is Step.END:
        assert results.get("1") is SUCCESS


# --- the manager ------------------------------------------------------------------------------


class Commands:
    """The runtime as far as exec probes see it: answers as told, and remembers when it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[tuple[float, str, str]] = []
        self.answers: dict[str, ExecSyncResult | Exception] = {}
        self.takes = 0.0
        self.timeouts: list[float] = []

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResult:
        self.asked.append((round(self.clock.monotonic(), 3), container_id, " ".join(cmd)))
        self.timeouts.append(timeout)
        if self.takes:
            await self.clock.sleep(self.takes)
        answer = self.answers.get(cmd[0], OK)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def times(self, command: str = "check") -> list[float]:
        return [when for when, _, cmd in self.asked if cmd == command]


class Bench:
    """A manager, its clock, and what it says."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.clock = FakeClock()
        self.commands = Commands(self.clock)
        self.results: list[tuple[str, str, ProbeResult]] = []
        self.events: list[tuple[str, str]] = []
        self.manager = ProbeManager(
            tasks,
            self.commands,  # type: ignore[arg-type]
            self.clock,
            lambda uid, container_id, kind, result: self.results.append((container_id, kind, result)),
            lambda pod, container, type, reason, message: self.events.append((reason, message)),  # noqa: A006
        )
        self.given: Pod = pod()

    def add(self, given: Pod, **options: Any) -> None:
        self.given = given
        self.manager.add_pod(given, **options)

    def observe(self, *containers: RuntimeContainerStatus, ips: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.manager.observe(self.given, RuntimePodStatus(uid="u", containers=containers), ips)

    def start(self, container_id: str = "1", name: str = "c") -> None:
        self.observe(
            RuntimeContainerStatus(
                id=container_id,
                name=name,
                state=ContainerState.CONTAINER_RUNNING,
                started_at=self.clock.now_ns(),
            )
        )


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async with anyio.create_task_group() as tasks:
        yield Bench(tasks)
        tasks.cancel_scope.cancel()


async def test_liveness_ticks_from_when_the_pod_was_added() -> None:
    async with bench() as b:
        b.add(pod(Container(name="c", liveness_probe=probe(period_seconds=10))))
        await b.clock.advance(3)
        b.start()
        await b.clock.advance(30)
        assert b.commands.times() == [10, 20, 30]
        assert b.results == [("1", "liveness", SUCCESS)]


async def test_readiness_is_asked_at_once_when_the_container_has_started() -> None:
    async with bench() as b:
        b.add(pod(Container(name="c", readiness_probe=probe(period_seconds=10))))
        await b.clock.advance(3)
        b.start()
        await b.clock.advance(0)
        assert b.commands.times() == [3]
        assert b.results == [("1", "readiness", FAILURE), ("1", "readiness", SUCCESS)]
        await b.clock.advance(20)
        # The period counts from then on.
        assert b.commands.times() == [3, 13, 23]
        # A ready container is not asked more often for news of its pod.
        b.start()
        await settle()
        assert b.commands.times() == [3, 13, 23]


async def test_probes_do_not_begin_before_their_initial_delay() -> None:
    async with bench() as b:
        b.add(
            pod(
                Container(
                    name="c",
                    readiness_probe=probe(period_seconds=3, initial_delay_seconds=5),
                    liveness_probe=probe(period_seconds=2, initial_delay_seconds=7, exec=ExecAction(command=["live"])),
                )
            )
        )
        b.start()
        await b.clock.advance(12)
        assert b.commands.times() == [6, 9, 12]
        assert b.commands.times("live") == [8, 10, 12]


async def test_a_failing_container_is_restarted_and_probed_anew() -> None:
    async with bench() as b:
        b.commands.answers["check"] = FAILED
        b.add(pod(Container(name="c", liveness_probe=probe(period_seconds=1, failure_threshold=3))))
        b.start("1")
        await b.clock.advance(10)
        # Three failures in a row, and then it is left alone until it has been restarted.
        assert b.commands.times() == [0, 1, 2]
        assert b.results == [("1", "liveness", SUCCESS), ("1", "liveness", FAILURE)]
        assert b.manager.liveness.get("1") is FAILURE
        assert b.events == [("Unhealthy", "Liveness probe failed: outerr")] * 3
        b.commands.answers["check"] = OK
        b.start("2")
        await b.clock.advance(1)
        assert b.results[2:] == [("2", "liveness", SUCCESS)]
        assert b.manager.liveness.get("1") is None
        assert b.commands.asked[-1][1] == "2"


async def test_startup_comes_first() -> None:
    async with bench() as b:
        b.commands.answers["start"] = FAILED
        b.add(
            pod(
                Container(
                    name="c",
                    startup_probe=probe(period_seconds=2, failure_threshold=30, exec=ExecAction(command=["start"])),
                    liveness_probe=probe(period_seconds=1),
                    readiness_probe=probe(period_seconds=10, exec=ExecAction(command=["ready"])),
                )
            )
        )
        b.start()
        await b.clock.advance(5)
        assert b.commands.times("start") == [0, 2, 4]
        assert b.commands.times() == []
        assert b.manager.startup.get("1") is UNKNOWN
        b.commands.answers["start"] = OK
        await b.clock.advance(1)
        # Started: asked at once whether it is ready, and at its next tick whether it is alive.
        assert b.manager.startup.get("1") is SUCCESS
        assert b.commands.times("ready") == [6]
        await b.clock.advance(3)
        assert b.commands.times("start") == [0, 2, 4, 6]
        assert b.commands.times()[-3:] == [7, 8, 9]
        assert b.commands.times()[0] >= 6


async def test_a_startup_probe_that_gives_up() -> None:
    async with bench() as b:
        b.commands.answers["check"] = FAILED
        b.add(pod(Container(name="c", startup_probe=probe(period_seconds=1, failure_threshold=2))))
        b.start()
        await b.clock.advance(5)
        assert b.commands.times() == [0, 1]
        assert b.results == [("1", "startup", UNKNOWN), ("1", "startup", FAILURE)]


async def test_a_slow_probe_is_made_up_for_once() -> None:
    async with bench() as b:
        b.commands.takes = 2.5
        b.add(pod(Container(name="c", liveness_probe=probe(period_seconds=1, timeout_seconds=10))))
        b.start()
        await b.clock.advance(6)
        # Ticks at 1 and 2 fall into the first try, and count as one; so do those into the second.
        assert b.commands.times() == [0, 2.5, 5]


async def test_a_probe_that_cannot_be_made_is_tried_three_times_and_thrown_away() -> None:
    async with bench() as b:
        b.commands.answers["check"] = CRIError("no such container")
        b.add(pod(Container(name="c", liveness_probe=probe(period_seconds=10, failure_threshold=1))))
        b.start()
        await b.clock.advance(1)
        assert b.commands.times() == [0, 0, 0]
        assert b.events == [("Unhealthy", "Liveness probe errored and resulted in unknown state: no such container")]
        assert b.manager.liveness.get("1") is SUCCESS


async def test_a_command_that_takes_too_long_has_failed() -> None:
    async with bench() as b:
        b.commands.answers["check"] = DeadlineExceededError("over")
        given = probe(period_seconds=10, timeout_seconds=2, exec=ExecAction(command=["check", "all"]))
        b.add(pod(Container(name="c", readiness_probe=given)))
        b.start()
        await b.clock.advance(1)
        assert b.commands.timeouts == [2.0]
        assert b.events == [("Unhealthy", 'Readiness probe failed: command timed out: "check all" timed out after 2s')]


async def test_commands_see_only_what_is_written_out() -> None:
    async with bench() as b:
        elsewhere = EnvVarSource(field_ref=ObjectFieldSelector(field_path="metadata.name"))
        b.add(
            pod(
                Container(
                    name="c",
                    env=[EnvVar(name="A", value="1"), EnvVar(name="B", value_from=elsewhere)],
                    liveness_probe=probe(exec=ExecAction(command=["check", "$(A)", "$(B)", "$(C)"])),
                )
            )
        )
        b.start()
        await b.clock.advance(1)
        assert [cmd for _, _, cmd in b.commands.asked] == ["check 1  $(C)"]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ({"http_get": HTTPGetAction(port="none", path="/")}, 'strconv.Atoi: parsing "none": invalid syntax'),
        ({"tcp_socket": TCPSocketAction(port="none")}, 'strconv.Atoi: parsing "none": invalid syntax'),
        ({"http_get": HTTPGetAction(port=0, path="/")}, "invalid port number: 0"),
    ],
)
async def test_probes_that_cannot_be(action: dict[str, Any], text: str) -> None:
    async with bench() as b:
        b.add(pod(Container(name="c", readiness_probe=probe(**action))))
        b.start()
        await b.clock.advance(1)
        assert b.events == [("Unhealthy", f"Readiness probe errored and resulted in unknown state: {text}")]


async def test_the_end_of_a_pod() -> None:
    async with bench() as b:
        sidecar = Container(name="s", restart_policy="Always", liveness_probe=probe(exec=ExecAction(command=["side"])))
        app = Container(
            name="c",
            liveness_probe=probe(exec=ExecAction(command=["live"])),
            readiness_probe=probe(exec=ExecAction(command=["ready"])),
        )
        b.add(pod(app, init_containers=[sidecar]))
        b.observe(
            RuntimeContainerStatus(id="1", name="c", state=ContainerState.CONTAINER_RUNNING, started_at=1),
            RuntimeContainerStatus(id="2", name="s", state=ContainerState.CONTAINER_RUNNING, started_at=1),
        )
        await b.clock.advance(1)
        b.commands.asked.clear()
        b.manager.stop_liveness_and_startup("u")
        b.manager.add_pod(b.given)
        await b.clock.advance(10)
        # Readiness goes on, and so do the sidecars, which outlive the app.
        assert {cmd for _, _, cmd in b.commands.asked} == {"ready", "side"}
        assert b.manager.liveness.get("1") is None
        b.manager.remove_pod("u")
        b.manager.remove_pod("u")
        b.commands.asked.clear()
        await b.clock.advance(30)
        assert b.commands.asked == []
        assert b.manager.readiness.get("1") is None
        assert b.manager.liveness.get("2") is None
        b.start()


async def test_a_probe_under_way_ends_with_its_pod() -> None:
    async with bench() as b:
        b.commands.takes = 1000
        b.commands.answers["check"] = FAILED
        b.add(pod(Container(name="c", liveness_probe=probe(failure_threshold=1))))
        b.start()
        await b.clock.advance(5)
        count = len(b.results)
        b.manager.remove_pod("u")
        await b.clock.advance(2000)
        assert b.events == []
        assert len(b.results) == count


async def test_a_container_that_is_not_restarted_is_not_probed_again() -> None:
    async with bench() as b:
        given = pod(Container(name="c", liveness_probe=probe(period_seconds=1)))
        given.spec.restart_policy = "Never"
        b.add(given)
        b.start()
        await b.clock.advance(2)
        ended = RuntimeContainerStatus(id="1", name="c", state=ContainerState.CONTAINER_EXITED, exit_code=1)
        b.observe(ended)
        await b.clock.advance(1)
        asked = len(b.commands.asked)
        b.add(given)
        b.start("2")
        await b.clock.advance(10)
        assert len(b.commands.asked) == asked


async def test_init_containers_are_not_probed() -> None:
    async with bench() as b:
        b.add(pod(Container(name="c"), init_containers=[Container(name="i", liveness_probe=probe())]))
        b.start(name="i")
        await b.clock.advance(30)
        assert b.commands.asked == []


async def test_a_probe_that_has_changed_begins_anew() -> None:
    async with bench() as b:
        b.add(pod(Container(name="c", liveness_probe=probe(period_seconds=10))))
        b.start()
        await b.clock.advance(5)
        assert b.commands.times() == [0]
        b.add(pod(Container(name="c", liveness_probe=probe(period_seconds=1, exec=ExecAction(command=["new"])))))
        await b.clock.advance(2)
        assert b.commands.times() == [0]
        assert b.commands.times("new") == [5, 6, 7]
        b.add(pod(Container(name="c")))
        await b.clock.advance(5)
        assert b.commands.times("new") == [5, 6, 7]
        assert b.manager.liveness.get("1") is None


async def test_an_adopted_pod_is_what_it_was_until_a_probe_says_otherwise() -> None:
    async with bench() as b:
        given = pod(
            Container(
                name="c",
                startup_probe=probe(exec=ExecAction(command=["start"])),
                readiness_probe=probe(period_seconds=10),
            )
        )
        given.status = PodStatus(
            container_statuses=[ContainerStatus(name="c", container_id="podlite://1", ready=True, started=True)]
        )
        b.commands.answers["check"] = FAILED
        b.add(given, adopted=True)
        b.start("1")
        await b.clock.advance(10)
        assert b.results == [("1", "startup", SUCCESS), ("1", "readiness", SUCCESS)]
        assert b.commands.times("start") == []
        await b.clock.advance(30)
        assert b.results[-1] == ("1", "readiness", FAILURE)
