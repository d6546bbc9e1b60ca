"""What garbage collection chooses. Sources: pkg/kubelet/kuberuntime/kuberuntime_gc_test.go and
images/image_gc_manager_test.go, Kubernetes 1.36; https://kubernetes.io/docs/concepts/architecture/garbage-collection/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from podlite.kubelet.container_gc import garbage_plan, orphaned_log_directories
from podlite.kubelet.events import EventRecorder
from podlite.kubelet.image_gc import (
    DiskUsage,
    ImageGC,
    ImageRecord,
    bytes_to_free,
    eviction_order,
    format_size,
    images_to_free,
    too_old,
)
from podlite.kubelet.pod_status import dead_beyond_kept
from podlite.kubelet.types import KubeletConfig, KubeletError
from tests.support.clock import START_NS, FakeClock
from tests.support.fake_runtime import FakeImages, FakeRuntime, Program
from tests.support.kubelet import a_bench
from tests.support.pods import a_pod, policy
from tests.support.runtime_states import SECOND, a_sandbox, exited, running, states, unknown, with_sandboxes

NOW = START_NS + 10**6 * SECOND


def chosen(config: KubeletConfig, *pods: Any) -> list[str]:
    return [each.id for each in garbage_plan(pods, config, NOW).containers]


def test_one_dead_instance_of_each_container_is_kept() -> None:
    pod = a_pod(containers=2)
    status = states(pod, exited("c1"), exited("c1"), exited("c1"), running("c1"), exited("c2"))
    assert chosen(KubeletConfig(), status) == ["c1-0", "c1-1"]
    assert chosen(KubeletConfig(max_dead_containers_per_container=2), status) == ["c1-0"]
    assert chosen(KubeletConfig(max_dead_containers_per_container=-1), status) == []
    assert chosen(KubeletConfig(max_dead_containers_per_container=0), status) == [
        "c1-0",
        "c1-1",
        "c1-2",
        "c2-0",
    ]


def test_young_ones_are_spared() -> None:
    status = states(a_pod(), exited("c1"), exited("c1", created_at=NOW - SECOND), exited("c1", created_at=NOW))
    assert chosen(KubeletConfig(minimum_container_gc_age=10, max_dead_containers_per_container=0), status) == ["c1-0"]


def test_so_many_in_all() -> None:
    one = states(a_pod(), *[exited("c1") for _ in range(4)])
    two = states(a_pod(), *[exited("c1", id=f"other-{n}", created_at=START_NS + (10 + n) * SECOND) for n in range(4)])
    limits = KubeletConfig(max_dead_containers_per_container=-1, max_dead_containers=3)
    # An equal share for each container, at least one; then the oldest go.
    assert chosen(limits, one, two) == ["c1-0", "c1-1", "c1-2", "other-0", "other-1", "other-2"]
    none = KubeletConfig(max_dead_containers_per_container=-1, max_dead_containers=1)
    assert chosen(none, one, two) == ["c1-0", "c1-1", "c1-2", "c1-3", "other-0", "other-1", "other-2"]


def test_lost_containers_count_as_dead() -> None:
    status = states(a_pod(), unknown("c1"), exited("c1"))
    assert chosen(KubeletConfig(), status) == ["c1-0"]
    assert [each.id for each in dead_beyond_kept(status.containers, 1)] == ["c1-0"]
    assert [each.id for each in dead_beyond_kept(states(a_pod(), running("c1")).containers, 0)] == []


def test_dead_sandboxes_without_containers_go_but_the_newest() -> None:
    three = [a_sandbox(0, ready=False), a_sandbox(1, ready=False), a_sandbox(2, ready=False)]
    status = states(a_pod(), exited("c1", sandbox_id="sandbox-1"), with_sandboxes(*three))
    assert garbage_plan([status], KubeletConfig(), NOW).sandboxes == ("sandbox-0",)
    assert garbage_plan([states(a_pod())], KubeletConfig(), NOW).sandboxes == ()


def test_log_directories_of_nobody(tmp_path: Path) -> None:
    for name in ("default_web_uid-1", "default_web_uid-2", "not-a-pod"):
        (tmp_path / name).mkdir()
    assert orphaned_log_directories(str(tmp_path), {"uid-1"}) == [f"{tmp_path}/default_web_uid-2"]
    assert orphaned_log_directories(str(tmp_path / "missing"), set()) == []


@pytest.mark.anyio
async def test_dead_containers_go_while_the_pod_is_kept(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.runtime.programs["c1"] = [Program(1, 1)] * 3 + [Program()]
        await bench.run(a_pod(policy("Always")))
        await bench.clock.advance(40)
        assert len(bench.runtime.containers) <= 3
        await bench.clock.advance(60)
        instances = [each.config.metadata.attempt for each in bench.runtime.containers.values()]
        assert instances == [2, 3]


# --- images -----------------------------------------------------------------------------------------

CONFIG = KubeletConfig()  # 85 % and 80 %


@pytest.mark.parametrize(("available", "expected"), [(1000, 0), (160, 0), (150, 50), (100, 100), (0, 200), (2000, 0)])
def test_how_much_is_to_be_freed(available: int, expected: int) -> None:
    assert bytes_to_free(DiskUsage(1000, available), CONFIG) == expected


def image(id: str, used: int = 0, seen: int = 0, size: int = 100, *, pinned: bool = False) -> ImageRecord:
    return ImageRecord(id, START_NS + seen * SECOND, START_NS + used * SECOND if used else 0, size, pinned)


def test_in_what_order_images_go() -> None:
    records = [image("a", used=9), image("b", used=3), image("c", seen=5), image("d", seen=2), image("p", pinned=True)]
    assert [each.id for each in eviction_order(records, ["a"])] == ["d", "c", "b"]


def test_no_more_images_go_than_needed() -> None:
    candidates = [image("a"), image("b"), image("c")]
    assert [each.id for each in images_to_free(candidates, 150, 120, NOW)] == ["a", "b"]
    assert images_to_free(candidates, 0, 120, NOW) == []


def test_images_that_have_just_come_are_spared() -> None:
    now = START_NS + 100 * SECOND
    assert [each.id for each in images_to_free([image("new", seen=50), image("old")], 500, 100, now)] == ["old"]
    assert images_to_free([structs.replace(image("used"), last_used=now)], 500, 0, now) == []


def test_images_may_go_for_their_age() -> None:
    records = [image("a", used=10), image("b", used=90)]
    assert [each.id for each in too_old(records, 50, START_NS + 100 * SECOND)] == ["a"]
    assert too_old(records, 0, NOW) == []


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.0 GiB"), (2 << 40, "2.0 TiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.anyio
async def test_images_are_removed_when_the_disk_is_full() -> None:
    clock = FakeClock()
    images = FakeImages(clock, "a:1", "b:1")
    images.add("pinned:1", pinned=True)
    recorder = EventRecorder(clock, "n")
    usage = [DiskUsage(100_000, 50_000), DiskUsage(100_000, 18_500), DiskUsage(100_000, 14_900)]
    async with FakeRuntime(clock) as runtime:
        gc = ImageGC(runtime, images, recorder, clock, CONFIG, lambda path: usage.pop(0))
        await gc.collect()
        clock.tick(300)
        await gc.collect()
        assert images.removed == []
        clock.tick(300)
        with pytest.raises(KubeletError, match="Insufficient free disk space on the node's image filesystem"):
            await gc.collect()
        assert set(images.images) == {"pinned:1"}
        [event] = recorder.events()
        assert event.reason == "FreeDiskSpaceFailed"
        assert event.message == (
            "Insufficient free disk space on the node's image filesystem (86% of 97.7 KiB used). Failed to free "
            "sufficient space by deleting unused images (freed 2000 bytes). Investigate disk usage, as it could be "
            "used by active images, logs, volumes, or other data."
        )


@pytest.mark.anyio
async def test_images_in_use_stay(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.run(a_pod())
        bench.images.add("unused:1")
        recorder = EventRecorder(bench.clock, "n")
        gc = ImageGC(bench.runtime, bench.images, recorder, bench.clock, bench.kubelet.config)
        await gc.remove_unused()
        assert set(bench.images.images) == {"img:1", "img:2", "unused:1"}  # they have only just been seen
        bench.clock.tick(121)
        assert await gc.remove_unused() == 2000
        assert set(bench.images.images) == {"img:1"}
