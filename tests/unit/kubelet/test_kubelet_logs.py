"""Logs: the CRI format, tails, following across rotations, and the rotation itself.

Sources: k8s.io/cri-client/pkg/logs/logs_test.go, pkg/kubelet/logs/container_log_manager_test.go,
pkg/kubelet/kubelet_pods_test.go (TestValidateContainerLogStatus), Kubernetes 1.36.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.api.container import EphemeralContainer
from podlite.api.pod import Pod
from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    PodStatus,
)
from podlite.cri.errors import CRIError
from podlite.kubelet.container_logs import ContainerLogManager, compress, split_excess, split_leavings
from podlite.kubelet.log_file import rotated_logs, tail_start
from podlite.kubelet.log_lines import parse_line, time_ns
from podlite.kubelet.log_source import ended_for_good, log_source
from podlite.kubelet.log_watch import DirectoryWatcher
from podlite.kubelet.read_logs import Buffer, LogEnd, LogOptions, Output, Writer, read_logs
from podlite.kubelet.types import KubeletConfig, KubeletError
from tests.support.clock import START_NS, FakeClock, settle
from tests.support.fake_runtime import Program
from tests.support.kubelet import a_bench
from tests.support.pods import UID, a_pod, policy

TIME = "2026-11-23T20:00:00.123456789Z"


def line(text: str, stream: str = "stdout", tag: str = "F", time: str = TIME) -> bytes:
    return f"{time} {stream} {tag} {text}\n".encode()


def write(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


# --- lines ------------------------------------------------------------------------------------------


def test_a_line() -> None:
    assert parse_line(line("log content 1")) == (TIME.encode(), "stdout", b"log content 1\n", False)
    assert parse_line(line("partial", "stderr", "P")) == (TIME.encode(), "stderr", b"partial", True)
    assert parse_line(line("", tag="F")) == (TIME.encode(), "stdout", b"\n", False)
    assert parse_line(line("future", tag="P:X")) == (TIME.encode(), "stdout", b"future", True)
    assert parse_line(line(" two  spaces ")) == (TIME.encode(), "stdout", b" two  spaces \n", False)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"rubbish\n", b"2026 stdout F x\n", f"{TIME} stdin F x\n".encode(), f"{TIME} stdout".encode()]
)
def test_what_is_no_line(text: bytes) -> None:
    assert parse_line(text) is None


def test_times() -> None:
    assert time_ns(TIME.encode()) == START_NS + 123456789
    assert time_ns(b"2026-11-23T22:00:00+02:00") == START_NS
    assert time_ns(b"2026-11-23T17:30:00.5-02:30") == START_NS + 500_000_000


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=20), st.booleans())
def test_output_comes_back_byte_for_byte(output: bytes, cuts: list[int], ends: bool) -> None:
    """Whatever a container writes, and wherever the runtime cuts it into pieces and lines."""
    log = bytearray()
    pieces, rest = [], output
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    for piece in (*pieces, rest):
        *whole, last = piece.split(b"\n")
        for each in whole:
            log += TIME.encode() + b" stdout F " + each + b"\n"
        if last:
            log += TIME.encode() + b" stdout P " + last + b"\n"
    buffer, writer = Buffer(), Writer(LogOptions())
    found = b""
    for start in range(0, len(log), 7):
        for each in writer.write(buffer.feed(bytes(log[start : start + 7]))):
            found += each.data
    for each in writer.write(buffer.feed(b"", last=True)):
        found += each.data
    assert found == output


# --- reading ----------------------------------------------------------------------------------------


async def collect(path: Path, **options: Any) -> list[Output]:
    return [each async for each in read_logs(str(path), LogOptions(**options))]


def text(outputs: list[Output]) -> str:
    return b"".join([each.data for each in outputs]).decode()


LINES = [line("one", time="2026-11-23T20:00:01Z"), line("two", "stderr", time="2026-11-23T20:00:02Z"),
         line("thr", tag="P", time="2026-11-23T20:00:03Z"), line("ee", time="2026-11-23T20:00:04Z")]  # fmt: skip

READS = [
    ({}, "one\ntwo\nthree\n"),
    ({"tail_lines": 0}, ""),
    ({"tail_lines": 1}, "ee\n"),
    ({"tail_lines": 3}, "two\nthree\n"),
    ({"tail_lines": 99}, "one\ntwo\nthree\n"),
    ({"since_ns": START_NS + 2_000_000_000}, "two\nthree\n"),
    ({"since_ns": START_NS + 9_000_000_000}, ""),
    ({"limit_bytes": 5}, "one\nt"),
    ({"limit_bytes": 0}, ""),
    ({"stream": "Stderr"}, "two\n"),
    ({"stream": "Stdout"}, "one\nthree\n"),
    ({"stream": "Stdout", "limit_bytes": 6}, "one\nth"),
    (
        {"timestamps": True},
        "2026-11-23T20:00:01Z one\n2026-11-23T20:00:02Z two\n2026-11-23T20:00:03Z three\n",
    ),
    ({"timestamps": True, "limit_bytes": 10}, "2026-11-23"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("options", "expected"), READS, ids=str)
async def test_reading(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    write(tmp_path / "0.log", *LINES)
    assert text(await collect(tmp_path / "0.log", **options)) == expected


@pytest.mark.anyio
async def test_streams_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "0.log", line("a"), line("b"), line("c", "stderr"), line("d"))
    assert await collect(tmp_path / "0.log") == [
        Output("stdout", b"a\nb\n"),
        Output("stderr", b"c\n"),
        Output("stdout", b"d\n"),
    ]


@pytest.mark.anyio
async def test_a_line_that_is_still_being_written(tmp_path: Path) -> None:
    write(tmp_path / "0.log", line("whole"), line("half")[:-3])
    assert text(await collect(tmp_path / "0.log")) == "whole\nha"
    assert text(await collect(tmp_path / "0.log", tail_lines=1)) == "ha"


@pytest.mark.anyio
async def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await collect(tmp_path / "0.log")


TAIL_LINES = st.lists(st.binary(max_size=9).map(lambda each: each.replace(b"\n", b".")), max_size=12)


@given(TAIL_LINES, st.binary(max_size=5).map(lambda each: each.replace(b"\n", b".")), st.integers(0, 14))
def test_where_the_tail_begins(lines: list[bytes], rest: bytes, count: int) -> None:
    whole = [each + b"\n" for each in lines] + ([rest] if rest else [])
    data = b"".join(whole)
    fd = os.memfd_create("log")
    try:
        os.write(fd, data)
        start = tail_start(fd, len(data), count)
    finally:
        os.close(fd)
    assert data[start:] == b"".join(whole[max(len(whole) - count, 0) :])


def test_a_tail_beyond_one_block(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join([b"%06d\n" % number for number in range(50_000)]))
    fd = os.open(path, os.O_RDONLY)
    try:
        end = path.stat().st_size
        assert tail_start(fd, end, 20_000) == 30_000 * 7
        assert tail_start(fd, end, 1) == 49_999 * 7
        assert tail_start(fd, end, 50_000) == 0
    finally:
        os.close(fd)


# --- following --------------------------------------------------------------------------------------


class Follower:
    """Follows a log in a task; `text` is what has come."""

    def __init__(self, path: Path, tasks: Any, watcher: DirectoryWatcher, **options: Any) -> None:
        self.text = ""
        self.end = LogEnd()
        self.done = anyio.Event()
        self._changed = anyio.Event()
        tasks.start_soon(self._follow, path, watcher, LogOptions(follow=True, **options))

    async def _follow(self, path: Path, watcher: DirectoryWatcher, options: LogOptions) -> None:
        async for each in read_logs(str(path), options, watcher, self.end):
            self.text += each.data.decode()
            self._changed.set()
        self.done.set()
        self._changed.set()

    async def until(self, expected: str) -> None:
        """Waits until so much has come."""
        while len(self.text) < len(expected):
            self._changed = anyio.Event()
            if len(self.text) < len(expected):
                await self._changed.wait()
        assert self.text == expected


@pytest.mark.anyio
async def test_following(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, line("one"))
    async with anyio.create_task_group() as tasks:
        watcher = DirectoryWatcher(tasks)
        follower = Follower(log, tasks, watcher)
        await follower.until("one\n")
        write(log, line("two")[:-2])
        write(log, b"o\n", line("three"))
        await follower.until("one\ntwo\nthree\n")
        # What was written before the end is not missed.
        write(log, line("four"))
        follower.end.set()
        await follower.done.wait()
        assert follower.text == "one\ntwo\nthree\nfour\n"
        watcher.close()


@pytest.mark.anyio
async def test_following_across_rotations(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, line("1"))
    async with anyio.create_task_group() as tasks:
        watcher = DirectoryWatcher(tasks)
        follower = Follower(log, tasks, watcher)
        await follower.until("1\n")
        # Between the rename and the new file the runtime still writes to the old one.
        log.rename(tmp_path / "0.log.20261123-200001")
        write(tmp_path / "0.log.20261123-200001", line("2"))
        write(log, line("3"))
        await follower.until("1\n2\n3\n")
        # Two rotations before the reader looks again.
        write(log, line("4"))
        log.rename(tmp_path / "0.log.20261123-200002")
        write(log, line("5"))
        log.rename(tmp_path / "0.log.20261123-200003")
        write(log, line("6"))
        await follower.until("1\n2\n3\n4\n5\n6\n")
        follower.end.set()
        await follower.done.wait()
        watcher.close()


@pytest.mark.anyio
async def test_many_follow_through_one_inotify_instance(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        watcher = DirectoryWatcher(tasks)
        followers = []
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            (tmp_path / str(number)).mkdir()
            write(tmp_path / str(number) / "0.log", line("begin"))
            followers.append(Follower(tmp_path / str(number) / "0.log", tasks, watcher))
        for each in followers:
            await each.until("begin\n")
        inotify = [each for each in os.listdir("/proc/self/fd") if _is_inotify(each)]
        assert len(inotify) == 1
        for number in range(20):
            write(tmp_path / str(number) / "0.log", line(str(number)))
        for number, each in enumerate(followers):
            await each.until(f"begin\n{number}\n")
            each.end.set()
            await each.done.wait()
        watcher.close()
        await settle()
        assert len(os.listdir("/proc/self/fd")) <= before


def _is_inotify(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify"
    except FileNotFoundError:
        return False


@pytest.mark.anyio
async def test_leaving_early_closes_everything(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    write(log, line("one"), line("two"))
    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as tasks:
        watcher = DirectoryWatcher(tasks)
        outputs = read_logs(str(log), LogOptions(follow=True, limit_bytes=4), watcher, LogEnd())
        assert [each.data async for each in outputs] == [b"one\n"]
        watcher.close()
    assert len(os.listdir("/proc/self/fd")) <= before


# --- which log --------------------------------------------------------------------------------------


def a_status(**fields: Any) -> Pod:
    pod = a_pod()
    pod.status = PodStatus(container_statuses=[ContainerStatus(name="c1", **fields)])
    return pod


RUNNING = ContainerState(running=ContainerStateRunning())
WAITING = ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff"))
CONFIG = KubeletConfig(log_dir="/logs")


def ended(id: str) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(container_id=id))


def path(restart: int) -> str:
    return f"/logs/default_web_{UID}/c1/{restart}.log"


def test_the_log_of_a_running_container() -> None:
    pod = a_status(state=RUNNING, container_id="podlite://b", restart_count=1, last_state=ended("podlite://a"))
    assert log_source(pod, CONFIG, "c1") == ("b", path(1), True)
    assert log_source(pod, CONFIG, "c1", previous=True) == ("a", path(0), False)


def test_the_log_of_a_container_that_has_ended() -> None:
    pod = a_status(state=ended("podlite://a"), container_id="podlite://a")
    assert log_source(pod, CONFIG, "c1") == ("a", path(0), False)


def test_the_log_of_a_container_that_waits_to_be_restarted() -> None:
    pod = a_status(state=WAITING, container_id="podlite://a", restart_count=4, last_state=ended("podlite://a"))
    assert log_source(pod, CONFIG, "c1") == ("a", path(4), False)
    assert log_source(pod, CONFIG, "c1", previous=True) == ("a", path(4), False)


@pytest.mark.parametrize(
    ("fields", "previous", "message"),
    [
        ({"state": RUNNING}, True, 'previous terminated container "c1" in pod "web" not found'),
        ({"state": ended("")}, False, 'container "c1" in pod "web" is terminated'),
        ({"state": WAITING}, False, 'container "c1" in pod "web" is waiting to start: CrashLoopBackOff'),
        (
            {"state": ContainerState(waiting=ContainerStateWaiting(reason="ErrImagePull"))},
            False,
            'container "c1" in pod "web" is waiting to start: image can\'t be pulled',
        ),
        (
            {"state": ContainerState(waiting=ContainerStateWaiting(reason="ImagePullBackOff"))},
            False,
            'container "c1" in pod "web" is waiting to start: trying and failing to pull image',
        ),
        ({}, False, 'container "c1" in pod "web" is waiting to start - no logs yet'),
    ],
)
def test_containers_without_a_log(fields: Any, previous: bool, message: str) -> None:
    with pytest.raises(KubeletError) as caught:
        log_source(a_status(**fields), CONFIG, "c1", previous=previous)
    assert str(caught.value) == message


def test_a_debugging_container_ends_for_good() -> None:
    """Ephemeral containers are never restarted, whatever the pod's restart policy (KEP-277)."""
    pod = a_pod()
    pod.spec.restart_policy = "Always"
    pod.spec.ephemeral_containers = [EphemeralContainer(name="debugger", image="i")]
    status = ContainerStatus(name="debugger", state=ended("podlite://d"), container_id="podlite://d")
    pod.status = PodStatus(phase="Running", ephemeral_container_statuses=[status])
    assert ended_for_good(pod, "debugger")
    app = ContainerStatus(name=pod.spec.containers[0].name, state=ended("podlite://a"), container_id="podlite://a")
    pod.status = PodStatus(phase="Running", container_statuses=[app])
    assert not ended_for_good(pod, app.name)


def test_a_container_that_does_not_exist() -> None:
    with pytest.raises(KubeletError, match='container "nope" in pod "web" is not available'):
        log_source(a_status(state=RUNNING), CONFIG, "nope")


@pytest.mark.anyio
async def test_the_kubelet_follows_a_container_to_its_end(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(5, 1)]
        uid = await bench.run(a_pod(policy("Never")))
        log = Path(bench.runtime.container("c1").status.log_path)
        write(log, line("hello"))
        outputs: list[Output] = []

        async def follow() -> None:
            options = LogOptions(follow=True)
            outputs.extend([each async for each in bench.kubelet.streams.logs(bench.kubelet.pod(uid), "c1", options)])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await settle()
            write(log, line("goodbye"))
            await bench.clock.advance(6)
        assert text(outputs) == "hello\ngoodbye\n"


# --- rotation ---------------------------------------------------------------------------------------


def test_what_an_interrupted_rotation_left() -> None:
    names = ["0.log.1", "0.log.1.gz", "0.log.2.gz", "0.log.2.gz.tmp", "0.log.3", "0.log.3.tmp"]
    assert split_leavings(names) == (
        ["0.log.1.gz", "0.log.2.gz", "0.log.3"],
        ["0.log.1", "0.log.2.gz.tmp", "0.log.3.tmp"],
    )


@pytest.mark.parametrize(
    ("max_files", "removed"), [(5, []), (4, ["a"]), (3, ["a", "b"]), (2, ["a", "b", "c"]), (1, ["a", "b", "c"])]
)
def test_how_many_files_are_kept(max_files: int, removed: list[str]) -> None:
    assert split_excess(["c", "a", "b"], max_files)[0] == removed


def test_compressing(tmp_path: Path) -> None:
    log = tmp_path / "0.log.1"
    log.write_bytes(b"x" * 3_000_000)
    log.chmod(0o640)
    compress(str(log))
    assert sorted(os.listdir(tmp_path)) == ["0.log.1.gz"]
    assert gzip.decompress((tmp_path / "0.log.1.gz").read_bytes()) == b"x" * 3_000_000
    assert (tmp_path / "0.log.1.gz").stat().st_mode & 0o777 == 0o640


class _Reopening:
    def __init__(self, log: Path) -> None:
        self.log = log
        self.error: CRIError | None = None

    async def reopen_container_log(self, container_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.log.touch()


@pytest.mark.anyio
async def test_rotating(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    clock = FakeClock()
    runtime: Any = _Reopening(log)
    manager = ContainerLogManager(runtime, clock, KubeletConfig(container_log_max_size=10, container_log_max_files=3))
    for number in range(5):
        log.write_bytes(b"%d" % number * 20)
        await manager.rotate_logs([("id", str(log))])
        clock.tick(60)
    names = sorted(os.listdir(tmp_path))
    # The current one, the one before it as it is, and one compressed.
    assert len(names) == 3
    assert names[0] == "0.log"
    assert names[1].endswith(".gz")
    assert gzip.decompress((tmp_path / names[1]).read_bytes()) == b"3" * 20
    assert (tmp_path / names[2]).read_bytes() == b"4" * 20
    assert log.read_bytes() == b""
    assert [os.path.basename(each) for each in rotated_logs(str(log))] == names[1:]


@pytest.mark.anyio
async def test_small_logs_are_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"x" * 9)
    runtime: Any = _Reopening(log)
    await ContainerLogManager(runtime, FakeClock(), KubeletConfig(container_log_max_size=10)).rotate_logs(
        [("id", str(log))]
    )
    assert os.listdir(tmp_path) == ["0.log"]
    log.write_bytes(b"x" * 99)
    await ContainerLogManager(runtime, FakeClock(), KubeletConfig(container_log_max_size=-1)).rotate_logs(
        [("id", str(log))]
    )
    assert os.listdir(tmp_path) == ["0.log"]


@pytest.mark.anyio
async def test_a_log_that_cannot_be_reopened_gets_its_name_back(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"x" * 20)
    runtime: Any = _Reopening(log)
    runtime.error = CRIError("the shim does not answer")
    manager = ContainerLogManager(runtime, FakeClock(), KubeletConfig(container_log_max_size=10))
    with pytest.raises(CRIError):
        await manager.rotate("id", str(log))
    assert os.listdir(tmp_path) == ["0.log"]
    assert log.read_bytes() == b"x" * 20


@pytest.mark.anyio
async def test_a_log_that_was_taken_away_is_opened_anew(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    runtime: Any = _Reopening(log)
    await ContainerLogManager(runtime, FakeClock(), KubeletConfig()).rotate_logs([("id", str(log))])
    assert log.exists()


@pytest.mark.anyio
async def test_two_rotations_in_one_second_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    runtime: Any = _Reopening(log)
    clock = FakeClock()
    manager = ContainerLogManager(runtime, clock, KubeletConfig(container_log_max_size=10))
    for letter in (b"a", b"b"):
        log.write_bytes(letter * 20)
        await manager.rotate_logs([("id", str(log))])
    # The second one waits for its turn.
    assert log.read_bytes() == b"b" * 20
    clock.tick(1)
    await manager.rotate_logs([("id", str(log))])
    first, second = rotated_logs(str(log))
    assert gzip.decompress((tmp_path / os.path.basename(first)).read_bytes()) == b"a" * 20
    assert (tmp_path / os.path.basename(second)).read_bytes() == b"b" * 20


@pytest.mark.anyio
async def test_the_kubelet_rotates_by_itself(tmp_path: Path) -> None:
    async with a_bench(tmp_path, container_log_max_size=100) as bench:
        await bench.run(a_pod())
        log = bench.runtime.container("c1").status.log_path
        write(Path(log), line("x" * 200))
        await bench.clock.advance(11)
        assert bench.runtime.names_of("reopen_container_log") == ["c1"]
        assert len(rotated_logs(log)) == 1
        await bench.clock.advance(11)
        assert len(rotated_logs(log)) == 1
