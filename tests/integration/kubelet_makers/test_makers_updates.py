"""Updates of ConfigMap volumes as a container sees them: the old content or the new, never a mixture."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio

from podlite.api.config import ConfigMap
from podlite.api.meta import ObjectMeta
from podlite.api.volumes import ConfigMapVolumeSource, Volume
from podlite.kubelet.objects import Objects
from podlite.kubelet.types import KubeletConfig
from podlite.kubelet.volumes.manager import VolumeManager
from podlite.linux import inotify
from tests.integration.kubelet_makers.makers import make_pod

UPDATES = 60


def config_map(version: int) -> ConfigMap:
    data = {f"key{number}": f"{version} " * 200 for number in range(5)}
    return ConfigMap(metadata=ObjectMeta(name="cm", namespace="ns"), data=data)


def read_version(directory: str) -> set[str]:
    """What a careful reader does: it opens ..data once, and reads all files of that version."""
    fd = os.open(f"{directory}/..data", os.O_RDONLY | os.O_DIRECTORY)
    try:
        values = set()
        for number in range(5):
            file = os.open(f"key{number}", os.O_RDONLY, dir_fd=fd)
            try:
                values.add(os.read(file, 100_000).decode())
            finally:
                os.close(file)
        return values
    finally:
        os.close(fd)


def test_a_reader_never_sees_two_versions(config: KubeletConfig) -> None:
    objects = Objects([config_map(0)])
    pod = make_pod(Volume(name="v", config_map=ConfigMapVolumeSource(name="cm", default_mode=0o644)))
    seen: list[str] = []
    mixed: list[set[str]] = []
    torn: list[str] = []
    stop, last = threading.Event(), threading.Event()

    def read(directory: str) -> None:
        while not stop.is_set():
            try:
                values = read_version(directory)
                # One file through the visible link, at any moment: whole.
                text = Path(directory, "key3").read_text()
            except FileNotFoundError:
                # The version was removed between resolving the link and opening a file: the reader begins again.
                continue
            if len(values) != 1:
                mixed.append(values)
            seen.append(next(iter(values)).split()[0])
            if seen[-1] == str(UPDATES):
                last.set()
            if len(set(text.split())) != 1 or len(text.split()) != 200:
                torn.append(text)

    async def run() -> None:
        manager = VolumeManager(config, objects)
        directory = (await manager.set_up(pod))["v"]
        thread = threading.Thread(target=read, args=(directory,))
        thread.start()
        try:
            for version in range(1, UPDATES + 1):
                objects.update([config_map(version)])
                await manager.update(pod)
            assert await anyio.to_thread.run_sync(last.wait, 30)
        finally:
            stop.set()
            await anyio.to_thread.run_sync(thread.join)
        await manager.tear_down("u-1")

    anyio.run(run)
    assert mixed == []
    assert torn == []
    assert len(set(seen)) > 1
    assert [int(version) for version in seen] == sorted(map(int, seen))


def test_watchers_of_data_are_told(config: KubeletConfig) -> None:
    # "Consumers … can monitor the ..data symlink using inotify".
    objects = Objects([config_map(0)])
    pod = make_pod(Volume(name="v", config_map=ConfigMapVolumeSource(name="cm")))

    async def run() -> None:
        manager = VolumeManager(config, objects)
        directory = (await manager.set_up(pod))["v"]
        fd = inotify.init()
        try:
            inotify.add_watch(fd, directory, inotify.IN_MOVED_TO)
            objects.update([config_map(1)])
            await manager.update(pod)
            assert [event.name for event in inotify.read_events(fd)] == ["..data"]
            await manager.update(pod)
            assert inotify.read_events(fd) == []
        finally:
            os.close(fd)
        await manager.tear_down("u-1")

    anyio.run(run)
