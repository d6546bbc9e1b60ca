"""The pod lifecycle event generator: events, lost streams, and runtimes without events."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from podlite.cri.errors import CRIError, UnavailableError
from podlite.cri.types import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    Mount,
    PodSandboxState,
)
from podlite.kubelet import labels
from podlite.kubelet.pod_status import RuntimePodStatus, sandbox_change, with_sandbox
from podlite.kubelet.termination_message import read_termination_message
from tests.support.clock import settle
from tests.support.fake_runtime import Program
from tests.support.kubelet import a_bench
from tests.support.pods import UID, a_pod, policy
from tests.support.runtime_states import a_sandbox, exited, running, states, with_sandboxes

ALWAYS, NEVER = policy("Always"), policy("Never")


@pytest.mark.anyio
async def test_a_runtime_without_events_is_listed(tmp_path: Path) -> None:
    async with a_bench(tmp_path, evented=False) as bench:
        bench.runtime.programs["c1"] = [Program(5)]
        uid = await bench.run(a_pod(NEVER))
        assert bench.phase(uid) == "Running"
        await bench.clock.advance(5)
        await bench.clock.advance(1.1)
        assert bench.phase(uid) == "Succeeded"


@pytest.mark.anyio
async def test_a_broken_stream_is_opened_again_and_nothing_missed(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS, containers=2))
        bench.runtime.lose_subscribers()
        bench.runtime.exit("c1", 1)  # nobody hears this
        await bench.clock.advance(1)
        assert bench.container(uid, "c1").restart_count == 1
        bench.runtime.exit("c2", 1)
        await bench.clock.advance(1)
        assert bench.container(uid, "c2").restart_count == 1


@pytest.mark.anyio
async def test_a_lost_event_is_made_up_for(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS))
        container = bench.runtime.container("c1")
        container.status.state = ContainerState.CONTAINER_EXITED
        container.status.finished_at = bench.clock.now_ns()
        await bench.clock.advance(299)
        assert bench.container(uid, "c1").restart_count == 0
        await bench.clock.advance(2)
        assert bench.container(uid, "c1").restart_count == 1


@pytest.mark.anyio
async def test_a_runtime_that_cannot_be_reached_for_a_while(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.failures["list_pod_sandbox"] = [UnavailableError("the runtime restarts")]
        uid = await bench.run(a_pod(NEVER))
        assert bench.phase(uid) == ""  # nothing could be learnt of it
        await bench.clock.advance(16)
        assert bench.phase(uid) == "Running"


@pytest.mark.anyio
async def test_idle_pods_cost_no_calls(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.run(a_pod(ALWAYS))
        before = len(bench.runtime.calls)
        asked: list[str] = []
        original = bench.runtime._called

        async def called(call: str, name: str, *, log: bool = True) -> None:
            asked.append(call)
            await original(call, name, log=log)

        bench.runtime._called = called  # type: ignore[method-assign]
        await bench.clock.advance(240)
        assert len(bench.runtime.calls) == before
        # Once in five minutes the images are looked at and everything is listed; nothing else asks the runtime.
        assert set(asked) <= {"list_containers"}


@pytest.mark.anyio
async def test_last_words_are_read_once_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event of a container's end and the worker's own look do at the same time."""
    read: list[str] = []

    def last_words(status: ContainerStatus) -> str:
        read.append(status.id)
        return "last words"

    monkeypatch.setattr("podlite.kubelet.termination_message.read_termination_message", last_words)
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER))
        pleg = bench.kubelet._pleg
        bench.runtime.exit("c1", 0)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(pleg.inspect, uid)
        await settle()
        assert read == [bench.runtime.container("c1").status.id]
        terminated = bench.container(uid, "c1").state.terminated
        assert terminated is not None
        assert terminated.message == "last words"


def test_another_sandbox_stays_what_it_was() -> None:
    pod = a_pod()
    before = states(pod, exited("c1", 1, sandbox_id="sandbox-0"), with_sandboxes(a_sandbox(0, ready=False)))
    now = states(pod, running("c1", id="new", sandbox_id="sandbox-1"), with_sandboxes(a_sandbox(1)))
    after = with_sandbox(before, a_sandbox(1), now.containers, removed=False, timestamp=7)
    assert [each.id for each in after.sandboxes] == ["sandbox-1", "sandbox-0"]
    assert {each.id for each in after.containers} == {"new", "c1-0"}
    assert after.timestamp == 7
    gone = with_sandbox(after, a_sandbox(1), (), removed=True, timestamp=8)
    assert [each.id for each in gone.sandboxes] == ["sandbox-0"]
    assert [each.id for each in gone.containers] == ["c1-0"]


def test_addresses_are_kept_when_the_sandbox_has_stopped() -> None:
    before = states(a_pod())
    assert before.ips == ("10.85.0.2",)
    stopped = a_sandbox(0, ready=False)
    stopped.network = None
    after = with_sandbox(before, stopped, (), removed=False, timestamp=1)
    assert after.ips == ("10.85.0.2",)
    assert after.stopped


def test_a_pod_of_which_nothing_is_known_needs_a_sandbox() -> None:
    change = sandbox_change(a_pod(), RuntimePodStatus(uid=UID))
    assert (change.needed, change.attempt, change.sandbox_id) == (True, 0, "")


def test_states_compare() -> None:
    assert states(a_pod(), running("c1")) == states(a_pod(), running("c1"))
    assert a_sandbox(ready=False).state == PodSandboxState.SANDBOX_NOTREADY


# --- termination messages ---------------------------------------------------------------------------


def ended(tmp_path: Path, *, code: int = 1, policy: str = "File", message: bytes | None = None) -> ContainerStatus:
    file = tmp_path / "message"
    if message is not None:
        file.write_bytes(message)
    return ContainerStatus(
        id="c",
        metadata=ContainerMetadata(name="c1"),
        state=ContainerState.CONTAINER_EXITED,
        exit_code=code,
        annotations={
            labels.TERMINATION_MESSAGE_PATH: "/dev/termination-log",
            labels.TERMINATION_MESSAGE_POLICY: policy,
        },
        mounts=[Mount(container_path="/dev/termination-log", host_path=str(file))],
        log_path=str(tmp_path / "0.log"),
    )


def say(path: str, text: str) -> None:
    Path(path).write_text(text)


def write_log(tmp_path: Path, *lines: str) -> None:
    text = "".join(f"2026-11-23T20:00:00.000000000Z {line}\n" for line in lines)
    (tmp_path / "0.log").write_text(text)


def test_the_message_in_the_file(tmp_path: Path) -> None:
    assert read_termination_message(ended(tmp_path, message=b"goodbye\n")) == "goodbye\n"
    assert read_termination_message(ended(tmp_path, code=0, message=b"done")) == "done"


def test_only_the_last_four_kilobytes_count(tmp_path: Path) -> None:
    # kubecontainer.MaxContainerTerminationMessageLength
    message = read_termination_message(ended(tmp_path, message=b"x" * 5000 + b"end"))
    assert len(message) == 4096
    assert message.endswith("end")


def test_without_a_file_there_is_no_message(tmp_path: Path) -> None:
    assert read_termination_message(ended(tmp_path)) == ""


def test_the_file_is_never_followed_or_waited_for(tmp_path: Path) -> None:
    status = ended(tmp_path)
    (tmp_path / "message").symlink_to("/etc/hostname")
    assert read_termination_message(status).startswith(f"Error on reading termination log {tmp_path}/message: ")


def test_the_log_instead(tmp_path: Path) -> None:
    # terminationMessagePolicy FallbackToLogsOnError: "the last chunk of container log output if the termination
    # message file is empty and the container exited with an error … limited to 2048 bytes or 80 lines".
    write_log(tmp_path, "stdout F one", "stderr P tw", "stderr F o\r")
    policy = "FallbackToLogsOnError"
    assert read_termination_message(ended(tmp_path, policy=policy, message=b"")) == "one\ntwo\r\n"
    assert read_termination_message(ended(tmp_path, policy=policy, message=b"said")) == "said"
    assert read_termination_message(ended(tmp_path, policy=policy, message=b"", code=0)) == ""
    assert read_termination_message(ended(tmp_path, policy="File", message=b"")) == ""
    write_log(tmp_path, *[f"stdout F {number}" for number in range(100)])
    assert read_termination_message(ended(tmp_path, policy=policy, message=b"")).splitlines()[0] == "20"
    write_log(tmp_path, "stdout F " + "x" * 5000)
    assert len(read_termination_message(ended(tmp_path, policy=policy, message=b""))) == 2048


def test_a_container_that_never_ran_has_no_log(tmp_path: Path) -> None:
    # "ContainerCannotRun" is docker's name for what containerd calls StartError: getTerminationMessage in
    # pkg/kubelet/kuberuntime/kuberuntime_container.go.
    for reason in ("ContainerCannotRun", "StartError"):
        status = ended(tmp_path, code=128, policy="FallbackToLogsOnError", message=b"")
        status.reason = reason
        assert read_termination_message(status) == ""


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    message = read_termination_message(ended(tmp_path, policy="FallbackToLogsOnError", message=b""))
    assert message.startswith("Error on reading termination message from logs: No such file or directory")


@pytest.mark.anyio
async def test_the_message_is_in_the_status(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(NEVER))
        container = bench.runtime.container("c1")
        mounts = {each.container_path: each.host_path for each in container.config.mounts}
        say(mounts["/dev/termination-log"], "it was too much")
        bench.runtime.exit("c1", 9)
        await settle()
        assert bench.container(uid, "c1").state.terminated.message == "it was too much"


@pytest.mark.anyio
async def test_a_stream_that_always_breaks_is_given_up(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        uid = await bench.run(a_pod(ALWAYS))

        def broken() -> None:
            raise CRIError("no events today")

        bench.runtime.get_container_events = broken  # type: ignore[method-assign, assignment]
        bench.runtime.lose_subscribers()
        await settle()
        bench.runtime.exit("c1", 1)
        await bench.clock.advance(1.1)
        assert bench.container(uid, "c1").restart_count == 1
