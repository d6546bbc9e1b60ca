"""Containers' logs: rotated as the kubelet does it, and on disks that are full."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import anyio
import msgspec
import pytest

from podlite.cri.errors import CRIError
from podlite.cri.types import Mount
from podlite.kubelet.container_logs import ContainerLogManager
from podlite.kubelet.types import KubeletConfig
from podlite.linux.syscalls import MNT_DETACH, mount, umount2
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.service import Runtime
from tests.support.clock import FakeClock
from tests.support.containers import container_config, read_log, run, sandbox_config, start

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def until(condition: object) -> None:
    with anyio.fail_after(60):
        while not condition():  # type: ignore[operator]
            await anyio.sleep(0.01)


async def test_rotated_at_ten_mebibytes_and_five_are_kept(runtime: Runtime, tmp_path: Path) -> None:
    """The kubelet's defaults, containerLogMaxSize and containerLogMaxFiles: all but the newest two are compressed, and
    the oldest go. What is kept is complete."""
    lines, rounds = 80_000, 7
    script = f"""
    n=0
    while :; do
        while [ ! -e /go/$n ]; do sleep 0.02; done
        seq -f %0150.0f $((n * {lines})) $((n * {lines} + {lines - 1}))
        n=$((n + 1))
    done"""
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    volume = Mount(container_path="/go", host_path=str(tmp_path))
    container = await start(runtime, id, container_config(["/bin/sh", "-c", script], mounts=[volume]))
    path = runtime.store.containers[container].log_path
    clock = FakeClock()
    manager = ContainerLogManager(runtime, clock, KubeletConfig())
    for count in range(rounds):
        (tmp_path / str(count)).touch()
        last = f"{(count + 1) * lines - 1:0150}\n".encode()
        await until(lambda: read_log(path)["stdout"].endswith(last))  # noqa: B023
        assert os.stat(path).st_size > 10 << 20
        await clock.advance(60)
        await manager.rotate_logs([(container, path)])
        # Below the limit nothing happens.
        await manager.rotate_logs([(container, path)])
        assert len(os.listdir(os.path.dirname(path))) == min(count + 2, 5)
    names = sorted(os.listdir(os.path.dirname(path)))
    assert [each.endswith(".gz") for each in names] == [False, True, True, True, False]
    kept = tmp_path / "kept"
    with kept.open("wb") as whole:
        for each in (*names[1:], names[0]):
            with (gzip.open if each.endswith(".gz") else open)(f"{os.path.dirname(path)}/{each}", "rb") as file:
                whole.write(file.read())
    numbers = [int(line) for line in read_log(str(kept))["stdout"].split()]
    assert numbers == list(range((rounds - 4) * lines, rounds * lines))


async def test_parts_of_lines_and_bytes_that_are_no_text(runtime: Runtime, tmp_path: Path) -> None:
    """Lines far longer than a record, of every byte, and an end without a newline (kubelet-cri-logging)."""
    data = bytes(range(256)) * 1000 + b"\n" + b"\0" * 100_000 + b"\n\n\xff\xfe" + b"x" * 16384 + b"\n" + b"end"
    (tmp_path / "data").write_bytes(data)
    id = await runtime.run_pod_sandbox(sandbox_config(runtime))
    volume = Mount(container_path="/data", host_path=f"{tmp_path}/data", readonly=True)
    container = await start(
        runtime, id, container_config(["/bin/sh", "-c", "cat /data; cat /data >&2"], mounts=[volume])
    )
    stored = runtime.store.containers[container]
    await stored.exited.wait()
    assert read_log(stored.log_path) == {"stdout": data, "stderr": data}
    for line in Path(stored.log_path).read_bytes().split(b"\n")[:-1]:
        stamp, stream, tag, _ = line.split(b" ", 3)
        # RFC 3339 with nanoseconds, in UTC.
        assert len(stamp) == len(b"2026-11-23T20:00:00.123456789Z")
        assert (stream in (b"stdout", b"stderr"), tag in (b"F", b"P")) == (True, True)


@pytest.fixture
def small_disk(layout: Layout, short_tmp: str) -> object:
    """A directory with room for a few kilobytes."""
    path = f"{short_tmp}/small"
    os.mkdir(path)
    mount("small", path, "tmpfs", 0, "size=256k,nr_inodes=64")
    yield path
    umount2(path, MNT_DETACH)


async def test_a_full_disk_costs_output_and_not_the_container(layout: Layout, small_disk: str) -> None:
    """How much was lost is said as soon as there is room again; the container never waits."""
    small = msgspec.structs.replace(layout, log_dir=f"{small_disk}/log")
    async with Runtime(small, network=NoneNetwork()) as runtime:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime))
        script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo after"
        container = await start(runtime, id, container_config(["/bin/sh", "-c", script]))
        stored = runtime.store.containers[container]
        await until(lambda: os.stat(stored.log_path).st_size > 100_000)
        # It has said all of it, and goes on, although there was no room for it.
        waiting = ["/bin/sh", "-c", "until pgrep -x sleep >/dev/null; do :; done"]
        assert (await runtime.exec_sync(container, waiting, timeout=30)).exit_code == 0
        os.truncate(stored.log_path, 0)
        # Whose end may come before its own.
        await runtime.exec_sync(container, ["/bin/touch", "/tmp/go"])
        await stored.exited.wait()
        assert stored.exit_code == 0
        found = read_log(stored.log_path)
        assert found["stdout"].endswith(b"after\n")
        assert b"bytes of output were lost: No space left on device" in found["stderr"]


async def test_a_full_disk_where_containers_are_made(layout: Layout, small_disk: str) -> None:
    """A sentence that says what and where; nothing is left of the attempt, and with room it works."""
    async with Runtime(layout, network=NoneNetwork()) as runtime:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime))
        assert (await run(runtime, id, container_config(["/bin/true"], "first"))).code == 0
        containers = layout.containers_dir
        before = sorted(os.listdir(containers))
        mount(f"{small_disk}", containers, "none", 0x1000)  # MS_BIND
        try:
            fill = 0
            try:
                while True:
                    os.mkdir(f"{containers}/filler-{fill}")
                    fill += 1
            except OSError:
                pass
            config = container_config(["/bin/true"], "second")
            with pytest.raises(CRIError, match=r"second cannot be made: No space left on device: ") as caught:
                await runtime.create_container(id, config, runtime.store.sandboxes[id].config)
            assert layout.containers_dir in str(caught.value)
            assert [each for each in os.listdir(containers) if not each.startswith("filler")] == []
        finally:
            umount2(containers, MNT_DETACH)
        assert sorted(os.listdir(containers)) == before
        assert (await run(runtime, id, container_config(["/bin/true"], "second"))).code == 0
