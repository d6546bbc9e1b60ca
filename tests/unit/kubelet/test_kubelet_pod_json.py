"""The files by which other terminals see the pods."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from podlite.api.events import Event
from podlite.api.pod import Pod
from podlite.api.status import PodStatus
from podlite.kubelet import pod_json, written_pods
from podlite.kubelet.pod_json import PodJson
from podlite.kubelet.written_pods import read_pods
from tests.support.clock import FakeClock, settle
from tests.support.kubelet import test_config
from tests.support.pods import UID, a_pod

pytestmark = pytest.mark.anyio


def version(number: int, uid: str = UID) -> Pod:
    pod = a_pod(uid=uid, name=f"pod-{uid[:4]}")
    pod.metadata.resource_version = str(number)
    return structs.replace(pod, status=PodStatus(phase="Running", reason=str(number)))


def written(tmp_path: Path) -> list[str]:
    return [each.status.reason for each in read_pods(f"{tmp_path}/run")]


async def test_only_the_newest_of_many_changes_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    writes: list[str] = []
    original = pod_json.write_pod

    def counted(directory: str, pod: Pod) -> None:
        writes.append(pod.status.reason)
        original(directory, pod)

    monkeypatch.setattr(pod_json, "write_pod", counted)
    async with anyio.create_task_group() as tasks:
        files = PodJson(test_config(tmp_path), tasks, clock)
        for number in range(1, 20):
            files.put(version(number))
        await clock.advance(0.1)
        assert writes == ["19"]
        files.put(version(20))
        files.put(version(1, "other"))
        await files.flush()
        assert writes == ["19", "20", "1"]
        assert sorted(written(tmp_path)) == ["1", "20"]
        files.close()


async def test_a_file_never_goes_back(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        files = PodJson(test_config(tmp_path), tasks, FakeClock())
        files.put(version(5))
        await anyio.to_thread.run_sync(files.write_now, UID)
        assert written(tmp_path) == ["5"]
        files.put(version(4))
        await files.flush()
        assert written(tmp_path) == ["5"]
        files.close()


async def test_a_removed_pod_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is held up with the pod in its hands, while the pod is removed and forgotten."""
    clock = FakeClock()
    reached, go = threading.Event(), threading.Event()
    original = PodJson._write

    def slow(self: PodJson, pods: list[Pod], events: dict[str, list[Event]]) -> None:
        reached.set()
        go.wait(10)
        original(self, pods, events)

    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as tasks:
        files = PodJson(test_config(tmp_path), tasks, clock)
        files.put(version(1))
        await anyio.to_thread.run_sync(files.write_now, UID)
        monkeypatch.setattr(PodJson, "_write", slow)
        files.put(version(2))
        with anyio.fail_after(60):
            tasks.start_soon(files.flush)
            await anyio.to_thread.run_sync(reached.wait, 10)
            await anyio.to_thread.run_sync(files.remove, UID)
            files.forget(UID)
            go.set()
            await files.flush()
        assert read_pods(f"{tmp_path}/run") == []
        assert os.listdir(tmp_path / "run/pods") == []
        monkeypatch.setattr(PodJson, "_write", original)
        # A new pod may have the same UID.
        files.put(version(1))
        await files.flush()
        assert written(tmp_path) == ["1"]
        files.close()
    await settle()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr("podlite.log.warning", lambda event, **facts: said.append((event, facts)))
    (tmp_path / "run").write_text("in the way")
    async with anyio.create_task_group() as tasks:
        files = PodJson(test_config(tmp_path), tasks, FakeClock())
        files.put(version(1))
        await files.flush()
        files.close()
    assert said[0][0] == "a pod's file cannot be written"
    assert said[0][1]["why"] == "Not a directory"


@pytest.mark.parametrize("at", ["the lock", "the mark"])
async def test_a_pod_that_is_removed_while_somebody_looks_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Not an orphan of a process that was killed, which is what a manifest without the lock's holder would be."""
    async with anyio.create_task_group() as tasks:
        files = PodJson(test_config(tmp_path), tasks, FakeClock())
        files.put(version(1))
        await files.flush()
        (found,) = written_pods.find_pods(f"{tmp_path}/run")
        assert found.held and not found.orphaned
        if at == "the mark":
            files.close()
            written_pods.keep(found.directory)
            assert written_pods.find(found.directory).kept
        module, name = (written_pods, "read_holder") if at == "the lock" else (written_pods.os.path, "exists")
        original = getattr(module, name)

        def removed_before(path: str) -> object:
            files.remove(UID)
            return original(path)

        with monkeypatch.context() as patched:
            patched.setattr(module, name, removed_before)
            with pytest.raises(FileNotFoundError):
                written_pods.find(found.directory)
        assert written(tmp_path) == []


async def test_what_a_process_wrote_last_is_what_is_seen_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may write, and end, between the look at the manifest and the look at its lock."""
    async with anyio.create_task_group() as tasks:
        files = PodJson(test_config(tmp_path), tasks, FakeClock())
        files.put(version(1))
        await files.flush()
        (found,) = written_pods.find_pods(f"{tmp_path}/run")
        original = written_pods.read_holder

        def ended_before(directory: str) -> tuple[written_pods.Holder, bool]:
            written_pods.write_pod(directory, version(2))
            files.close()
            return original(directory)

        monkeypatch.setattr(written_pods, "read_holder", ended_before)
        found = written_pods.find(found.directory)
        assert (found.held, found.pod.status.reason) == (False, "2")
